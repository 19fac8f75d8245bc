"""The launcher from outside: scripts by name, the dry run, and what becomes of a script's status."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from neox_code.commands.__main__ import main
from neox_code.errors import run_command
from neox_code.launch.former_scripts import ALIASES, REPLACEMENTS

ROOT = Path(__file__).parents[1]

ECHO = """
import json, sys
print(json.dumps(sys.argv[1:]))
sys.exit(5)
"""

TRAIN = """
import os, sys
from neox_code.config.command_line import parse_command_line
from neox_code.launch.rank_process import run_rank

def main(argv):
    config = parse_command_line(argv, "Trains.").load()
    sys.stdout.write(f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} trains {config.training.train_iters} steps\\n")
    return 0

sys.exit(run_rank(main, sys.argv[1:]))
"""

SHAPE = "num_layers: 2\nhidden_size: 64\nnum_attention_heads: 4\nmax_position_embeddings: 128\n"
REST = "optimizer: {params: {lr: 1e-3}}\ntrain_iters: 10\ntrain_batch_size: 4\ndata_path: corpus\n"
DATA = "vocab_file: vocab.json\nmerge_file: merges.txt\n"
FILES = ("corpus.bin", "corpus.idx", "vocab.json", "merges.txt")


@pytest.fixture
def folder(tmp_path):
    """Another folder than the project's, with two configuration files in conf/ and empty ones for data."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "shape.yml").write_text(SHAPE)
    (tmp_path / "conf" / "rest.yml").write_text(REST + DATA)
    for name in FILES:
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def start(folder):
    """Start the launcher, or another one, as a program."""

    def call(*words, launcher=ROOT / "deepy.py", before=()):
        environment = {**os.environ, "DS_ACCELERATOR": "cpu"}
        environment.pop("PYTHONPATH", None)
        command = [sys.executable, *before, str(launcher), *words]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    return call


@pytest.fixture
def deepy(folder, monkeypatch, capsys):
    """Run the launcher in this process, for what it ends itself: dry runs and errors."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.delattr(os, "execv")  # a command of its own would replace the process of the tests

    def call(*words):
        capsys.readouterr()
        status = run_command(main, words)
        return subprocess.CompletedProcess(words, status, *capsys.readouterr())

    return call


@pytest.fixture
def project(folder):
    """A project that has this one's modules, and scripts that say what they were given; returns its launcher."""
    shutil.copy(ROOT / "deepy.py", folder)
    commands = folder / "neox_code" / "commands"
    commands.mkdir(parents=True)
    for entry in (ROOT / "neox_code").iterdir():
        if entry.name not in ("commands", "__pycache__"):
            (folder / "neox_code" / entry.name).symlink_to(entry)
    shutil.copy(ROOT / "neox_code" / "commands" / "__main__.py", commands)
    for name, text in (("__init__", ""), ("echo", ECHO), ("train", TRAIN)):
        (commands / f"{name}.py").write_text(text)
    return folder / "deepy.py"


def test_the_version_is_that_of_the_installed_package(deepy):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert deepy("--version").stdout == f"neox-code {project['version']}\n"


def test_without_arguments_or_with_h_it_prints_its_usage(start, deepy):
    for ended in (start(), deepy("-h"), deepy("--help")):
        assert ended.returncode == 0
        assert ended.stdout.startswith("usage: ./deepy.py COMMAND CONFIG")
        assert "  train       Train a model, or continue with its newest checkpoint.\n" in ended.stdout
        assert "configs/README.md lists every key" in ended.stdout


@pytest.mark.parametrize(
    ("command", "own", "others"),
    [
        ("train", ("--hostfile", "--wandb_group", "--gpu-memory-gib", "--dry-run"), ("--sample_input_file", "--peer")),
        (
            "generate",
            ("--sample_input_file", "--sample_output_file", "--iteration", "--dry-run"),
            ("--hostfile", "--gpu-memory-gib"),
        ),
        ("evaluate", ("--iteration", "--dry-run"), ("--sample_input_file", "--hostfile", "--gpu-memory-gib")),
        ("benchmark", ("benchmark decoding CONFIG", "--corpus FOLDER"), ("--hostfile", "--sample_input_file", "--dry-run")),
    ],
)
def test_the_help_of_a_command_describes_it_and_offers_its_own_options(start, monkeypatch, command, own, others):
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    ended = start(command, "-h")
    imported = [line.rpartition("|")[2].strip() for line in ended.stderr.splitlines() if line.startswith("import time:")]
    assert (ended.returncode, len(imported)) == (0, len(ended.stderr.splitlines()))
    assert "yaml" in imported and ("deepspeed" in imported) == (command == "benchmark")
    assert command != "train" or "Train a model" in ended.stdout
    assert [option for option in own if option not in ended.stdout] == []
    assert [option for option in others if option in ended.stdout] == []


@pytest.mark.parametrize(
    ("word", "instead"),
    [
        ("tools/datasets/preprocess_data.py", "Run: python tools/preprocess_data.py."),
        ("prepare_data.py", "Run: python tools/build_corpus.py for source code, or python tools/preprocess_data.py"),
        ("./tools/ckpts/convert_neox_to_hf.py", "GPT-NeoX's own convert_neox_to_hf.py reads"),
        ("tools/build_corpus.py", "Run: python tools/build_corpus.py."),
        ("trian", "Did you mean train?"),
    ],
)
def test_a_script_of_gpt_neox_is_refused_with_its_replacement(deepy, word, instead):
    ended = deepy(word, "--input", "x")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"error: {word} is not a command of this program. {instead}")
    names = "benchmark, branch, convert, evaluate, finetune, generate, lsp, quickstart, report, serve, train"
    assert ended.stderr.endswith(f" Choose among {names}.\n")


def test_every_named_replacement_exists():
    for remedy in REPLACEMENTS.values():
        for path in re.findall(r"tools/[a-z_/]+\.py", remedy):
            assert (ROOT / path).is_file(), remedy
    for command in ALIASES.values():
        assert (ROOT / "neox_code" / "commands" / f"{command}.py").is_file()


def test_the_commands_of_2021_are_started_by_their_former_names(deepy):
    ended = deepy("text_gen_gpt2.py", "-d", "conf", "shape", "rest", "--dry-run")
    assert ended.returncode == 0, ended.stderr
    assert "neox_code.commands.generate" in ended.stdout.splitlines()[-1]


def test_an_option_of_another_command_is_refused_by_name(start):
    for words, sentence in (
        (
            ("train", "conf/shape", "-i", "prompt.txt"),
            "-i/--sample_input_file is an option of generate and has no effect in train.",
        ),
        (
            ("generate", "conf/shape", "-H", "hosts"),
            "-H/--hostfile is an option of train and finetune and has no effect in generate.",
        ),
    ):
        ended = start(*words)
        assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"error: {sentence} Leave it out.\n")


def test_deepy_can_be_run_as_a_program():
    assert os.access(ROOT / "deepy.py", os.X_OK)
    assert (ROOT / "deepy.py").read_text().startswith("#!/usr/bin/env python3\n")


def test_an_unknown_script_is_one_sentence_with_the_choices(start, project):
    ended = start("dance.py", "conf/shape", launcher=project)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: dance.py is not a command of this program. Choose among echo, train.\n"


@pytest.mark.parametrize("script", ["train", "train.py", "./train.py", "/somewhere/train.py"])
def test_a_dry_run_shows_values_origins_and_the_command(deepy, script):
    ended = deepy(script, "-d", "conf", "shape", "rest.yml", "--set", "seed=7", "--dry-run", "--all")
    assert ended.returncode == 0, ended.stderr
    lines = [line.split() for line in ended.stdout.splitlines()]
    assert ["hidden_size", "64", "changed", "conf/shape.yml:2"] in lines
    assert ["lr", "0.001", "changed", "conf/rest.yml:1"] in lines
    assert ["seed", "7", "changed", "--set"] in lines
    assert ["save", "null", "default"] in lines
    module = lines[-1].index("--module")
    assert lines[-1][module + 1 :] == ["neox_code.commands.train", "conf/shape.yml", "conf/rest.yml", "--set=seed=7"]


def test_a_dry_run_checks_the_configuration_alone(deepy, folder):
    for name in FILES:
        (folder / name).unlink()
    keys = ["hostfile=hosts", "use_wandb=true", "precision=fp16", "pipe_parallel_size=2", "model_parallel_size=2"]
    ended = deepy("train", "conf/shape", "conf/rest", "--dry-run", *(f"--set={key}" for key in keys))
    assert ended.returncode == 0, ended.stderr
    missing = [line.split()[1] for line in ended.stdout.splitlines() if line.startswith("missing: ")]
    assert missing == ["corpus.bin", "vocab.json", "merges.txt", *(["the"] if find_spec("wandb") is None else []), "hostfile", "a"]
    (ranks,) = (line for line in ended.stdout.splitlines() if line.startswith("ranks"))
    assert ranks.split()[:6] == ["ranks", "4", "2", "*", "2", "*"]
    assert "smallest world" in ranks


def test_a_dry_run_as_json_has_the_reports_figures(deepy, start):
    words = ("train", "conf/shape", "conf/rest", "--dry-run", "--gpu-memory-gib", "80", "--json")
    ended = deepy(*words)
    figures = json.loads(ended.stdout)
    rows = {line.split("  ")[0]: line.split("  ", 1)[1].split() for line in ended.stderr.splitlines() if "  " in line}
    assert [f"{figures[name]:,}" for name in ("vocabulary", "parameters")] == [rows["vocabulary"][0], rows["parameters"][0]]
    assert f"{figures['tokens_per_step']:,}" == rows["tokens per step"][0]
    assert f"{figures['memory_bytes_per_gpu']['all'] / 2**30:.2f}" == rows["all"][0]
    assert figures["fits"] and figures["ranks"] == int(rows["ranks"][0])
    assert figures["keys"]["hidden_size"] == {"value": 64, "origin": "conf/shape.yml:2"} and "seed" not in figures["keys"]
    assert shlex.split(ended.stderr.splitlines()[-1]) == figures["command"]
    for launch, misplaced in ((deepy, (*words[:3], "--json")), (start, ("generate", *words[1:3], "--json"))):
        refused = launch(*misplaced)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr == f"error: {misplaced[0]} supports --json only with --dry-run. Add --dry-run.\n"


def test_a_dry_run_prints_paths_that_the_terminal_cannot_encode(start, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    ended = start("train", "conf/shape", "conf/rest", "--dry-run", "--set", "save=/tmp/\u00fcber")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert any(line.split()[:2] == ["save", "/tmp/\\xfcber"] for line in ended.stdout.splitlines())


def test_a_dry_run_names_the_default_hostfile_that_a_run_would_follow(deepy, folder, monkeypatch):
    monkeypatch.setenv("DLTS_HOSTFILE", "hosts")
    missing = deepy("train", "conf/shape", "conf/rest", "--dry-run")
    assert "missing: hostfile hosts (DLTS_HOSTFILE) does not exist: this machine alone" in missing.stdout.splitlines()
    (folder / "hosts").write_text("node0 slots=2\nnode1 slots=2\n")
    there = deepy("train", "conf/shape", "conf/rest", "--dry-run")
    assert ["hostfile", "hosts", "changed", "DLTS_HOSTFILE"] in [line.split() for line in there.stdout.splitlines()]
    assert """'--hosts={"node0": ["0", "1"], "node1": ["0", "1"]}'""" in there.stdout


def test_a_dry_run_without_data_keys_reports_what_is_missing(deepy, folder):
    (folder / "conf" / "rest.yml").write_text(REST.replace("data_path: corpus\n", ""))
    dry = deepy("train", "conf/shape", "conf/rest", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert [line.split(":")[1] for line in dry.stdout.splitlines() if line.startswith("missing: ")] == [
        " training data",
        " vocab_file",
        " a GPU",
    ]
    real = deepy("train", "conf/shape", "conf/rest")
    assert (real.returncode, real.stdout) == (2, "")
    assert real.stderr.startswith("error: missing: training data: neither data_path nor train_data_paths is set.")


def test_a_dry_run_reports_if_the_layout_fits(deepy):
    words = ("train", "conf/shape", "conf/rest", "--dry-run")
    assert "\nfits " in deepy(*words, "--gpu-memory-gib", "80").stdout
    narrow = deepy(*words, "--gpu-memory-gib", "0.5")
    assert (narrow.returncode, "\ndoes not fit " in narrow.stdout) == (0, True)
    for misplaced in ((*words[:3], "--gpu-memory-gib", "80"), ("generate", *words[1:], "--gpu-memory-gib", "80")):
        ended = deepy(*misplaced)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.startswith("error: --gpu-memory-gib ")


def test_a_file_that_cannot_be_read_is_the_only_problem(deepy):
    for words in (("nofile",), ("nofile", "conf/rest"), ("conf/shape", "nofile")):
        ended = deepy("train", *words)
        assert ended.returncode == 2
        assert ended.stderr == "error: nofile.yml does not exist. Check the name, and the folder given with -d.\n"


def test_a_dry_run_imports_no_heavy_library(start):
    words = ("train", "-d", "conf", "shape", "rest", "--dry-run", "--gpu-memory-gib", "1")
    ended = start(*words, before=["-X", "importtime"])
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in ended.stderr.splitlines()}
    assert ended.returncode == 0
    assert {"yaml", "neox_code"} <= imported
    assert imported.isdisjoint({"torch", "deepspeed", "megatron", "numpy", "transformers", "tokenizers"})


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("conf/shape", "conf/none"), "error: conf/none.yml does not exist."),
        (("conf/shape",), "error: lr is missing. Set optimizer.params.lr, or --set lr=6e-4.\nerror: train_iters is missing."),
        ((), "error: the following arguments are required: config."),
        (
            ("conf/shape", "conf/rest", "--set", "hiden_size=3"),
            "error: hiden_size (3, --set) is an unknown key: did you mean hidden_size or size?",
        ),
        (("conf/shape", "conf/rest", "--set", "num_gpus=3"), "error: train_batch_size 4 is not train_micro_batch_size_per_gpu *"),
        (("conf/shape", "conf/rest", "-H", "conf"), "error: missing: hosts to run on: hostfile conf is not a text file."),
        (("conf/shape", "conf/rest", "--set", "num_nodes=2"), "error: missing: hosts to run on: num_nodes (2) needs several"),
        (("conf/shape", "conf/rest", "--set", "precision=fp16"), "error: missing: a GPU, without which precision (fp16, --set)"),
        (("conf/shape", "conf/rest", "--set", "data_path=other"), "error: missing: other.bin and other.idx (data_path, --set)."),
    ],
)
def test_bad_input_is_a_sentence_and_status_2_before_anything_is_started(deepy, words, sentence):
    ended = deepy("train", *words)
    assert (ended.returncode, ended.stdout) == (2, "")
    last_sentence = ended.stderr[ended.stderr.index("error: ") :]
    assert last_sentence.startswith(sentence)
    assert "Traceback" not in ended.stderr


def test_any_other_script_receives_its_arguments_and_keeps_its_status(start, project):
    ended = start("echo.py", "a b", "--set", "x=1", "--dry-run", launcher=project)
    assert (ended.returncode, json.loads(ended.stdout)) == (5, ["a b", "--set", "x=1", "--dry-run"])


def test_train_runs_on_every_rank_from_any_folder(start, project):
    ended = start("train", "-d", "conf", "shape", "rest", "--set", "num_gpus=2", "--set", "train_iters=7", launcher=project)
    assert ended.returncode == 0, ended.stderr
    assert sorted(ended.stdout.splitlines()) == [f"rank {rank} of 2 trains 7 steps" for rank in range(2)]


@pytest.mark.parametrize("script", ["deepy.py", "tools/build_corpus.py", "tools/preprocess_data.py", "tools/describe_config.py"])
def test_missing_packages_are_named(folder, script):
    """-S -E: an interpreter without the packages of the virtual environment."""
    ended = subprocess.run(
        [sys.executable, "-S", "-E", ROOT / script, "train"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "is not installed for" in ended.stderr and ". .venv/bin/activate" in ended.stderr and "Traceback" not in ended.stderr


def test_another_python_is_refused_in_one_line():
    code = "import runpy, sys; sys.version_info = (3, 13); sys.version = '3.13.0 (main)'; runpy.run_path(sys.argv[1])"
    ended = subprocess.run([sys.executable, "-c", code, ROOT / "deepy.py"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert ended.stderr.startswith("error: neox-code runs on Python 3.11 and 3.12, not on 3.13.0 (")
