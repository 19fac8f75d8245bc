"""Hosts, slots and filters against DeepSpeed's own rules, and GPUs as CUDA counts them."""

from dataclasses import replace

import pytest

from neox_code.config.neox import NeoXConfig
from neox_code.config.parallelism import ParallelismConfig
from neox_code.errors import LaunchError
from neox_code.launch import hosts
from neox_code.launch.hosts import (
    chosen_gpus,
    filtered,
    is_here,
    parse_filter,
    parse_hostfile,
    resources,
    with_default_hostfile,
    world_size,
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
    assert list(resources(ParallelismConfig(hostfile=hostfile)).items()) == list(TWO_HOSTS.items())
    assert world_size(ParallelismConfig(hostfile=hostfile)) == 5
    assert world_size(ParallelismConfig(hostfile=hostfile, num_nodes=1)) == 2
    assert world_size(ParallelismConfig(hostfile=hostfile, num_gpus=1)) == 2


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
def test_a_run_on_less_than_was_asked_for_is_no_run(hostfile, keys, sentence):
    with pytest.raises(LaunchError, match=sentence.format(path=hostfile)):
        resources(ParallelismConfig(hostfile=hostfile, **keys))


def test_a_host_that_is_left_out_may_have_fewer_slots(hostfile):
    assert resources(ParallelismConfig(hostfile=hostfile, num_gpus=3, exclude="node0")) == {"node1": ("0", "1", "2")}


def test_several_nodes_need_a_hostfile():
    assert list(resources(ParallelismConfig(num_nodes=1))) == ["localhost"]
    with pytest.raises(LaunchError, match=r"^num_nodes \(2\) asks for several machines, and no hostfile names them\."):
        resources(ParallelismConfig(num_nodes=2))


def test_gpt_neox_s_default_hostfiles_are_followed_where_the_key_is_not_set(tmp_path, monkeypatch):
    def hostfile(**keys):
        found = with_default_hostfile(NeoXConfig.load([], {**SHAPE, **keys}))
        return found.parallelism.hostfile, found.origins["hostfile"]

    monkeypatch.delenv("DLTS_HOSTFILE", raising=False)
    monkeypatch.setattr(hosts, "COMMON_HOSTFILE", tmp_path / "hostfile")
    assert hostfile() == (None, "default")
    (tmp_path / "hostfile").touch()
    assert hostfile() == (str(tmp_path / "hostfile"), "GPT-NeoX's default")
    monkeypatch.setenv("DLTS_HOSTFILE", "elsewhere")
    assert hostfile() == ("elsewhere", "DLTS_HOSTFILE")
    assert hostfile(hostfile="mine") == ("mine", "--set")


def test_a_missing_hostfile_is_never_a_run_on_this_machine(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(LaunchError, match=rf"^hostfile {path} "):
            resources(ParallelismConfig(hostfile=str(path)))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("node0\n", "hosts:1 (node0) is not `HOST slots=N`."),
        ("node0 slots=2\nnode1 slots=0\n", "hosts:2 (node1 slots=0) is not `HOST slots=N`."),
        ("node0 slots=2\nnode0 slots=2\n", "hosts:2 names node0 a second time."),
        ("# nothing\n", "hosts names no host."),
    ],
)
def test_a_bad_hostfile_is_told_with_its_line(text, sentence):
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
    assert filtered(TWO_HOSTS, include, exclude) == left


@pytest.mark.parametrize(
    ("include", "exclude", "sentence"),
    [
        ("node2", None, "node2 names a host or slot that is not there. Choose among node0:0,1@node1:0,1,2."),
        (None, "node0:2", "node0:2 names a host or slot that is not there."),
        (None, "node0@node1", "node0@node1 leaves no device to run on."),
    ],
)
def test_filters_that_cannot_be_followed_are_refused(include, exclude, sentence):
    with pytest.raises(LaunchError) as caught:
        filtered(TWO_HOSTS, include, exclude)
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
    assert chosen_gpus(count, visible) == chosen


def test_this_machine_gives_a_rank_to_each_gpu_or_one_without(gpus, monkeypatch):
    gpus(0)
    assert (world_size(ParallelismConfig()), world_size(ParallelismConfig(num_gpus=3))) == (1, 3)
    assert world_size(ParallelismConfig(global_num_gpus=8)) == 8
    gpus(4)
    assert (world_size(ParallelismConfig()), world_size(ParallelismConfig(num_gpus=3))) == (4, 3)
    with pytest.raises(LaunchError, match="8 ranks are asked for, and 4 GPUs are visible here"):
        world_size(ParallelismConfig(num_gpus=8))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert resources(ParallelismConfig()) == {"localhost": ("2", "3")}
    assert resources(ParallelismConfig(num_gpus=1)) == {"localhost": ("2",)}
    assert resources(ParallelismConfig(include="localhost:3")) == {"localhost": ("3",)}
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    assert resources(ParallelismConfig()) == {"localhost": ("0",)}


@pytest.mark.parametrize(("host", "here"), [("localhost", True), ("127.0.0.1", True), ("192.0.2.1", False), ("no.invalid", False)])
def test_a_host_is_this_machine_by_its_addresses(host, here):
    assert is_here(host) == here


def test_a_job_of_slurms_has_its_nodes_where_slurm_is_the_launcher(tmp_path, monkeypatch, gpus):
    gpus(0)
    (tmp_path / "scontrol").write_text('#!/bin/sh\n[ "$*" = "show hostnames n[1-3]" ] && printf "n1\\nn2\\nn3\\n"\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-3]")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "3")
    slurm = ParallelismConfig(launcher="slurm", num_gpus=2)
    assert resources(slurm) == dict.fromkeys(("n1", "n2", "n3"), ("0", "1"))
    assert list(resources(replace(slurm, num_nodes=2, exclude="n1"))) == ["n2"]
    assert list(resources(replace(slurm, launcher="pdsh"))) == ["localhost"]
    with pytest.raises(LaunchError, match=r"^num_nodes \(4\) is more than the 3 that the Slurm job has"):
        resources(replace(slurm, num_nodes=4))
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "1")
    assert list(resources(slurm)) == ["localhost"]
