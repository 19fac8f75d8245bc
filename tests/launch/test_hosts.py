"""Hosts, slots and filters against DeepSpeed's own rules, and GPUs as CUDA counts them."""

import json
import re
import socket
from dataclasses import replace

import pytest

from neox_code.config.neox import NeoXConfig
from neox_code.config.parallelism import ParallelismConfig
from neox_code.errors import LaunchError
from neox_code.launch import hosts
from neox_code.launch.command import describe_placement, make_launch_command
from neox_code.launch.hosts import (
    count_ranks,
    filter_resources,
    find_resources,
    is_this_machine,
    parse_filter,
    parse_hostfile,
    resolve_hostfile,
    select_visible_gpus,
    strip_user,
)

SHAPE = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 128}
TWO_HOSTS = {"node0": ("0", "1"), "node1": ("0", "1", "2")}


@pytest.fixture
def hostfile(tmp_path):
    path = tmp_path / "hostfile"
    path.write_text("# the machines\nnode0 slots=2\n\nnode1   slots=3   # the new one\n")
    return str(path)


@pytest.fixture
def gpus(monkeypatch):
    """Says how many GPUs the machine has; what CUDA_VISIBLE_DEVICES and DS_ACCELERATOR say is left out."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    return lambda count: monkeypatch.setattr(hosts, "count_gpus", lambda: count)


def test_a_hostfile_is_hosts_and_slots_in_order(hostfile):
    assert list(find_resources(ParallelismConfig(hostfile=hostfile)).items()) == list(TWO_HOSTS.items())
    assert count_ranks(ParallelismConfig(hostfile=hostfile)) == 5
    assert count_ranks(ParallelismConfig(hostfile=hostfile, num_nodes=1)) == 2
    assert count_ranks(ParallelismConfig(hostfile=hostfile, num_gpus=1)) == 2


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (
            {"num_nodes": 5},
            r"num_nodes \(5\) is more than the 2 that hostfile {path} names\. Add hosts there, or set num_nodes",
        ),
        ({"num_gpus": 3}, r"num_gpus \(3\) is more than the 2 slots of node0 in hostfile {path}\. Set num_gpus to at most 2"),
    ],
)
def test_a_run_on_fewer_devices_than_configured_is_refused(hostfile, keys, sentence):
    with pytest.raises(LaunchError, match=sentence.format(path=hostfile)):
        find_resources(ParallelismConfig(hostfile=hostfile, **keys))


def test_an_excluded_host_may_have_fewer_slots(hostfile):
    assert find_resources(ParallelismConfig(hostfile=hostfile, num_gpus=3, exclude="node0")) == {"node1": ("0", "1", "2")}


def test_several_nodes_need_a_hostfile():
    assert list(find_resources(ParallelismConfig(num_nodes=1))) == ["localhost"]
    with pytest.raises(LaunchError, match=r"^num_nodes \(2\) needs several machines, and there is no hostfile with their names\."):
        find_resources(ParallelismConfig(num_nodes=2))


def test_gpt_neoxs_default_hostfiles_are_used_if_the_key_is_not_set(tmp_path, monkeypatch):
    def hostfile(**keys):
        found = resolve_hostfile(NeoXConfig.load([], {**SHAPE, **keys}))
        return found.parallelism.hostfile, found.origins["hostfile"]

    monkeypatch.delenv("DLTS_HOSTFILE", raising=False)
    monkeypatch.setattr(hosts, "COMMON_HOSTFILE", tmp_path / "hostfile")
    assert hostfile() == (None, "default")
    (tmp_path / "hostfile").touch()
    assert hostfile() == (str(tmp_path / "hostfile"), "GPT-NeoX's default")
    other = str(tmp_path / "elsewhere")
    monkeypatch.setenv("DLTS_HOSTFILE", other)
    assert hostfile() == (None, f"{other} (DLTS_HOSTFILE) does not exist: this machine alone")
    (tmp_path / "elsewhere").touch()
    assert hostfile() == (other, "DLTS_HOSTFILE")
    assert hostfile(hostfile=other) == (other, "--set")


def test_without_its_hostfile_a_run_uses_this_machine_alone_as_in_gpt_neox(tmp_path, gpus):
    gpus(0)
    config = resolve_hostfile(NeoXConfig.load([], {**SHAPE, "hostfile": "/mock_path"}))
    assert find_resources(config.parallelism) == {"localhost": ("0",)}
    assert list(describe_placement(config)) == ["hostfile /mock_path (--set) does not exist: this machine alone"]
    with pytest.raises(LaunchError, match=r"^num_nodes \(2\) needs several machines, and there is no hostfile with their names"):
        find_resources(ParallelismConfig(hostfile="/mock_path", num_nodes=2))
    with pytest.raises(LaunchError, match=rf"^hostfile {tmp_path} is not a text file"):
        find_resources(ParallelismConfig(hostfile=str(tmp_path)))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "[::1]", "me@localhost", socket.gethostname()])
def test_a_hostfile_of_this_machine_alone_needs_no_ssh(tmp_path, host, gpus):
    if not is_this_machine(host):
        pytest.skip(f"{host} is no name of this machine here")
    gpus(0)
    (tmp_path / "hosts").write_text(f"{host} slots=2\n")
    config = NeoXConfig.load([], {**SHAPE, "hostfile": str(tmp_path / "hosts")})
    command = make_launch_command("some.module", [], config)
    assert command[3:5] == ["neox_code.launch.ranks", f"--hosts={json.dumps({host: ['0', '1']})}"]


HOSTS_OF_ALL_FORMS = """
alice@192.0.2.10 slots=2
root@192.0.2.7\tslots=1 # the old one
node-0.example.org  slots = 4
NODE_7. slots=1

2001:db8::1 slots=2
root@[2001:db8::2] slots=3
fe80::3%eth0 slots=1
fe80::3%br-lan.100 slots=1
a.b@c slots=1
"""
ALL_FORMS = {
    "alice@192.0.2.10": 2,
    "root@192.0.2.7": 1,
    "node-0.example.org": 4,
    "NODE_7.": 1,
    "2001:db8::1": 2,
    "root@[2001:db8::2]": 3,
    "fe80::3%eth0": 1,
    "fe80::3%br-lan.100": 1,
    "a.b@c": 1,
}


@pytest.mark.parametrize("text", [HOSTS_OF_ALL_FORMS, HOSTS_OF_ALL_FORMS.replace("\n", "\r\n"), "\ufeff" + HOSTS_OF_ALL_FORMS[1:]])
def test_a_host_of_any_form_is_one_host(tmp_path, text):
    (tmp_path / "hosts").write_bytes(text.encode())
    found = find_resources(ParallelismConfig(hostfile=str(tmp_path / "hosts")))
    assert {host: len(slots) for host, slots in found.items()} == ALL_FORMS
    for host in ALL_FORMS:
        assert list(filter_resources(found, host, None)) == [host]
        assert list(filter_resources(found, strip_user(host), None)) == [host]
        assert filter_resources(found, f"{host}:0", None) == {host: ("0",)}
        assert list(filter_resources(found, None, f"{host}@NODE_7.")) == [
            other for other in ALL_FORMS if other not in (host, "NODE_7.")
        ]
    everything = "@".join(f"{host}:{','.join(slots)}" for host, slots in found.items())
    assert filter_resources(found, everything, None) == found


@pytest.mark.parametrize(
    "host",
    [
        "node[01-03]",
        "node1,node2",
        "node1:22",
        "192.0.2.7:22",
        "192.0.2.300",
        "1.2.3",
        "-oProxyCommand=x",
        "-u@h",
        "a@b@c",
        "h;id",
        "::g",
    ],
)
def test_an_invalid_host_is_refused_with_its_line(host):
    with pytest.raises(LaunchError, match=rf"^hosts:2 \({re.escape(host)}\) is not a host\. Write a name or an address"):
        parse_hostfile(f"node0 slots=1\n{host} slots=2\n", "hosts")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("node0", "NODE0"),
        ("me@node0", "you@node0"),
        ("::1", "[::1]"),
        ("fd00:0::7", "FD00::7"),
        ("a.b", "a.b."),
        ("localhost", "127.0.0.1"),
        ("LOCALHOST", "::1"),
        (socket.gethostname(), "me@localhost"),
    ],
)
def test_a_machine_under_two_spellings_is_one(first, second):
    with pytest.raises(
        LaunchError, match=rf"^hosts:2 names {re.escape(second)} a second time \(first in line 1, as {re.escape(first)}\)"
    ):
        parse_hostfile(f"{first} slots=1\n{second} slots=1\n", "hosts")


@pytest.mark.parametrize(
    ("host", "launcher", "reason"),
    [
        ("me@192.0.2.7", "openmpi", "contains a user name, which only the launcher pdsh supports, not openmpi"),
        ("me@192.0.2.7", "slurm", "contains a user name"),
        ("2001:db8::1", "pdsh", "is an IPv6 address, but the launcher pdsh accepts only names and IPv4 addresses"),
    ],
)
def test_a_host_name_that_the_launcher_does_not_accept_is_refused(tmp_path, host, launcher, reason):
    (tmp_path / "hosts").write_text(f"{host} slots=1\n192.0.2.1 slots=1\n")
    config = NeoXConfig.load([], {**SHAPE, "hostfile": str(tmp_path / "hosts"), "launcher": launcher})
    with pytest.raises(LaunchError, match=rf"^{host} {reason}"):
        make_launch_command("some.module", [], config)


def test_hosts_with_user_names_are_passed_unchanged(tmp_path):
    (tmp_path / "hosts").write_text("alice@192.0.2.10 slots=2\nroot@192.0.2.7 slots=1\n")
    config = NeoXConfig.load([], {**SHAPE, "hostfile": str(tmp_path / "hosts")})
    (option,) = [word for word in make_launch_command("some.module", [], config) if word.startswith("--hosts=")]
    assert json.loads(option.partition("=")[2]) == {"alice@192.0.2.10": ["0", "1"], "root@192.0.2.7": ["0"]}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("node0\n", "hosts:1 (node0) is not `HOST slots=N`."),
        ("node0 slots=2\nnode1 slots=0\n", "hosts:2 (node1 slots=0) is not `HOST slots=N`."),
        ("node0 slots=2\nnode0 slots=2\n", "hosts:2 names node0 a second time"),
        ("node0 slots=1025\n", "hosts:1 (node0 slots=1025) has too many slots: a host has at most 1,024"),
        (f"node0 slots={'9' * 5000}\n", "hosts:1 (node0 slots=999"),
        ("# nothing\n", "hosts contains no host."),
    ],
)
def test_a_bad_hostfile_is_reported_with_its_line(text, sentence):
    with pytest.raises(LaunchError) as caught:
        parse_hostfile(text, "hosts")
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("include", "exclude", "left"),
    [
        (None, None, TWO_HOSTS),
        ("node1", None, {"node1": ("0", "1", "2")}),
        ("node1:0,2@node0", None, {"node0": ("0", "1"), "node1": ("0", "2")}),
        (None, "node1:0", {"node0": ("0", "1"), "node1": ("1", "2")}),
        (None, "node0", {"node1": ("0", "1", "2")}),
        (None, "node0:0,1", {"node1": ("0", "1", "2")}),
    ],
)
def test_filters_choose_hosts_and_slots(include, exclude, left):
    assert filter_resources(TWO_HOSTS, include, exclude) == left


@pytest.mark.parametrize(
    ("include", "exclude", "sentence"),
    [
        ("node2", None, "node2 contains an unknown host or slot. Choose among node0:0,1@node1:0,1,2."),
        (None, "node0:2", "node0:2 contains an unknown host or slot."),
        (None, "node0@node1", "node0@node1 leaves no device to run on."),
    ],
)
def test_invalid_filters_are_refused(include, exclude, sentence):
    with pytest.raises(LaunchError) as caught:
        filter_resources(TWO_HOSTS, include, exclude)
    assert str(caught.value).startswith(sentence)


def test_a_filter_without_slots_means_the_whole_host():
    assert parse_filter("a@b:1,2@c") == {"a": (), "b": ("1", "2"), "c": ()}


@pytest.mark.parametrize(
    ("count", "visible", "chosen"),
    [
        (4, None, ("0", "1", "2", "3")),
        (4, "", ()),
        (4, "-1", ()),
        (4, "3, 1", ("3", "1")),
        (4, "1,9,2", ("1",)),
        (2, "GPU-8f2,MIG-1", ("GPU-8f2", "MIG-1")),
        (0, "0,1", ()),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(count, visible, chosen):
    assert select_visible_gpus(count, visible) == chosen


def test_this_machine_has_one_rank_per_gpu_or_one_without_gpus(gpus, monkeypatch):
    gpus(0)
    assert (count_ranks(ParallelismConfig()), count_ranks(ParallelismConfig(num_gpus=3))) == (1, 3)
    assert count_ranks(ParallelismConfig(global_num_gpus=8)) == 8
    gpus(4)
    assert (count_ranks(ParallelismConfig()), count_ranks(ParallelismConfig(num_gpus=3))) == (4, 3)
    with pytest.raises(LaunchError, match="8 ranks need 8 GPUs, and 4 are visible here"):
        count_ranks(ParallelismConfig(num_gpus=8))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert find_resources(ParallelismConfig()) == {"localhost": ("2", "3")}
    assert find_resources(ParallelismConfig(num_gpus=1)) == {"localhost": ("2",)}
    assert find_resources(ParallelismConfig(include="localhost:3")) == {"localhost": ("3",)}
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    assert find_resources(ParallelismConfig()) == {"localhost": ("0",)}


@pytest.mark.parametrize(("host", "here"), [("localhost", True), ("127.0.0.1", True), ("192.0.2.1", False), ("no.invalid", False)])
def test_a_host_is_this_machine_by_its_addresses(host, here):
    assert is_this_machine(host) == here


def test_a_slurm_job_uses_its_nodes_if_slurm_is_the_launcher(tmp_path, monkeypatch, gpus):
    gpus(0)
    (tmp_path / "scontrol").write_text('#!/bin/sh\n[ "$*" = "show hostnames n[1-3]" ] && printf "n1\\nn2\\nn3\\n"\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-3]")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "3")
    slurm = ParallelismConfig(launcher="slurm", num_gpus=2)
    assert find_resources(slurm) == dict.fromkeys(("n1", "n2", "n3"), ("0", "1"))
    assert list(find_resources(replace(slurm, num_nodes=2, exclude="n1"))) == ["n2"]
    assert list(find_resources(replace(slurm, launcher="pdsh"))) == ["localhost"]
    with pytest.raises(LaunchError, match=r"^num_nodes \(4\) is more than the 3 that the Slurm job has"):
        find_resources(replace(slurm, num_nodes=4))
    monkeypatch.delenv("SLURM_JOB_NODELIST")
    with pytest.raises(LaunchError, match=r"^SLURM_JOB_NODELIST is not set, but Slurm sets it in every job"):
        find_resources(slurm)
    monkeypatch.setenv("SLURM_JOB_NODELIST", "other")
    with pytest.raises(LaunchError, match=r"^scontrol show hostnames other ended with status 1: it lists no node"):
        find_resources(slurm)
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2(x3)")
    with pytest.raises(LaunchError, match=r"^SLURM_JOB_NUM_NODES \(2\(x3\)\) must be a whole number"):
        find_resources(slurm)
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "1")
    assert list(find_resources(slurm)) == ["localhost"]
