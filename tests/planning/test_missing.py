"""Missing files, packages, hosts and GPUs are reported for each command."""

import importlib.util

import pytest

from neox_code.config.neox import NeoXConfig
from neox_code.planning import missing as missing_module
from neox_code.planning.missing import NEW_VOCABULARY, OWN_VOCABULARY, TOKEN_FILES, list_all_missing, list_blocking_problems

SHAPE = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 128}


@pytest.fixture
def find_missing(tmp_path, monkeypatch):
    """Return a function that lists what is missing, up to the parenthesis, on a machine with `count` GPUs."""
    monkeypatch.chdir(tmp_path)
    for name in ("vocab.json", "merges.txt", "corpus.bin", "corpus.idx", "half.bin"):
        (tmp_path / name).touch()

    def sentences(script="train", count=0, function=list_all_missing, **keys):
        monkeypatch.setattr(missing_module, "find_visible_gpus", lambda: tuple(map(str, range(count))))
        data = {"data_path": "corpus", "vocab_file": "vocab.json", "merge_file": "merges.txt"}
        return [sentence.split(" (")[0] for sentence in function(NeoXConfig.load([], {**SHAPE, **data, **keys}), script)]

    return sentences


def test_nothing_is_missing_if_everything_exists(find_missing):
    assert find_missing(count=1) == []


def test_missing_files_are_reported_with_their_endings(find_missing):
    assert find_missing(count=1, data_path="half") == ["half.idx"]
    keys = {"data_path": None, "train_data_paths": ["corpus", "a/b"], "merge_file": None}
    assert find_missing(count=1, **keys) == [
        "merge_file: it is not set, but GPT2BPETokenizer needs it beside vocab_file. Set it to the file of merges.",
        "a/b.bin and a/b.idx",
    ]


def test_each_command_needs_its_own_files(find_missing):
    assert find_missing("generate", load="checkpoints", sample_input_file="prompt.txt", data_path="none") == [
        "checkpoints",
        "prompt.txt",
    ]
    assert find_missing("evaluate", heldout_path="corpus-folder") == ["corpus-folder"]


def test_a_missing_file_is_reported_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def remedies(script, **keys):
        return [sentence.partition("). ")[2] for sentence in list_blocking_problems(NeoXConfig.load([], {**SHAPE, **keys}), script)]

    files = {"vocab_file": "v.json", "merge_file": "m.txt"}
    assert remedies("train", data_path="d", **files) == [TOKEN_FILES, NEW_VOCABULARY, NEW_VOCABULARY]
    assert remedies("train", data_path="d", finetune=True, **files) == [TOKEN_FILES, OWN_VOCABULARY, OWN_VOCABULARY]
    assert remedies("generate", **files) == remedies("evaluate", **files) == [OWN_VOCABULARY, OWN_VOCABULARY]
    assert "tools/preprocess_data.py" in TOKEN_FILES and "train_tokenizer" not in OWN_VOCABULARY
    assert remedies("generate", sample_input_file="-", tokenizer_type="CharLevelTokenizer") == []


def test_gpus_are_counted_on_a_single_machine(find_missing):
    assert find_missing(count=2, num_gpus=4) == [
        "4 GPUs, of which this machine has 2. Run on a machine with more, or on several with a hostfile."
    ]
    assert find_missing(num_gpus=2) == ["2 GPUs: a run here has 2 CPU processes."]


@pytest.mark.parametrize("function", [list_all_missing, list_blocking_problems])
def test_unknown_hosts_stop_a_run(find_missing, function):
    assert find_missing(count=4, function=function, include="node7:0,1") == [
        "hosts to run on: node7:0,1 contains an unknown host or slot. Choose among localhost:0."
    ]
    assert find_missing(count=4, function=function, num_nodes=2) == ["hosts to run on: num_nodes"]
    assert find_missing("generate", num_nodes=2, function=function) == []


def test_data_is_checked_only_if_this_machine_is_one_of_the_hosts(find_missing, tmp_path):
    for name, sentences in (("localhost", ["none.bin and none.idx"]), ("192.0.2.1", []), ("no-such-host.invalid", [])):
        (tmp_path / "hosts").write_text(f"{name} slots=1\n")
        assert find_missing(function=list_blocking_problems, hostfile="hosts", data_path="none") == sentences
        assert find_missing(hostfile="hosts", data_path="none") == ["none.bin and none.idx"]


def test_an_invalid_hostfile_is_reported_with_all_other_blocking_problems(find_missing, tmp_path):
    (tmp_path / "hosts").write_text("node0\n")
    assert find_missing(function=list_blocking_problems, hostfile="hosts", data_path="none") == [
        "none.bin and none.idx",
        "hosts to run on: hosts:1",
    ]


def test_only_fp16_needs_a_gpu(find_missing):
    assert find_missing(function=list_blocking_problems) == []
    assert find_missing(function=list_blocking_problems, precision="fp16") == ["a GPU, without which precision"]
    assert find_missing(precision="fp16") == ["a GPU, without which precision"]
    assert find_missing(count=1, precision="fp16") == []


@pytest.mark.parametrize(("key", "package"), [("use_wandb", "wandb"), ("use_bnb_optimizer", "bitsandbytes")])
def test_optional_packages_stop_a_run_that_uses_them(find_missing, monkeypatch, key, package):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert find_missing(count=1) == []
    assert find_missing(count=1, function=list_blocking_problems, **{key: True}) == [f"the package {package}, which {key}"]


def test_missing_validation_and_test_files_do_not_stop_a_run(find_missing):
    keys = {"data_path": None, "train_data_paths": ["corpus"], "valid_data_paths": ["none"], "test_data_paths": ["nothing"]}
    assert find_missing(count=1, **keys) == ["none.bin and none.idx", "nothing.bin and nothing.idx"]
    assert find_missing(count=1, function=list_blocking_problems, **keys) == []
    assert find_missing(count=1, function=list_blocking_problems, **keys | {"valid_data_paths": ["none", "corpus"]}) == [
        "none.bin and none.idx"
    ]
    assert find_missing(count=1, function=list_blocking_problems, **keys | {"train_data_paths": ["absent"]}) == [
        "absent.bin and absent.idx"
    ]
