"""What a run needs and this machine lacks, by script."""

import importlib.util

import pytest

from neox_code.config.neox import NeoXConfig
from neox_code.planning import missing as not_here
from neox_code.planning.missing import NEW_VOCABULARY, OWN_VOCABULARY, TOKEN_FILES, lacking, stopping

SHAPE = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 128}


@pytest.fixture
def lacks(tmp_path, monkeypatch):
    """The first words of the sentences, in a folder with a vocabulary and token files, on a machine with so many GPUs."""
    monkeypatch.chdir(tmp_path)
    for name in ("vocab.json", "merges.txt", "corpus.bin", "corpus.idx", "half.bin"):
        (tmp_path / name).touch()

    def sentences(script="train", count=0, function=lacking, **keys):
        monkeypatch.setattr(not_here, "visible_gpus", lambda: tuple(map(str, range(count))))
        data = {"data_path": "corpus", "vocab_file": "vocab.json", "merge_file": "merges.txt"}
        return [sentence.split(" (")[0] for sentence in function(NeoXConfig.load([], {**SHAPE, **data, **keys}), script)]

    return sentences


def test_nothing_is_lacking_where_everything_is_here(lacks):
    assert lacks(count=1) == []


def test_files_are_named_with_their_endings(lacks):
    assert lacks(count=1, data_path="half") == ["half.idx"]
    keys = {"data_path": None, "train_data_paths": ["corpus", "a/b"], "merge_file": None}
    assert lacks(count=1, **keys) == [
        "merge_file: it is not set, and GPT2BPETokenizer needs it beside vocab_file. Set it to the file of merges.",
        "a/b.bin and a/b.idx",
    ]


def test_other_scripts_need_other_files(lacks):
    assert lacks("generate", load="checkpoints", sample_input_file="prompt.txt", data_path="none") == ["checkpoints", "prompt.txt"]
    assert lacks("evaluate", heldout_path="corpus-folder") == ["corpus-folder"]


def test_a_missing_file_is_named_with_what_makes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def remedies(script, **keys):
        return [sentence.partition("). ")[2] for sentence in stopping(NeoXConfig.load([], {**SHAPE, **keys}), script)]

    files = {"vocab_file": "v.json", "merge_file": "m.txt"}
    assert remedies("train", data_path="d", **files) == [TOKEN_FILES, NEW_VOCABULARY, NEW_VOCABULARY]
    assert remedies("train", data_path="d", finetune=True, **files) == [TOKEN_FILES, OWN_VOCABULARY, OWN_VOCABULARY]
    assert remedies("generate", **files) == remedies("evaluate", **files) == [OWN_VOCABULARY, OWN_VOCABULARY]
    assert "tools/preprocess_data.py" in TOKEN_FILES and "train_tokenizer" not in OWN_VOCABULARY
    assert remedies("generate", sample_input_file="-", tokenizer_type="CharLevelTokenizer") == []


def test_gpus_are_counted_on_a_single_machine(lacks):
    assert lacks(count=2, num_gpus=4) == [
        "4 GPUs, of which this machine has 2. Run on a machine with more, or on several with a hostfile."
    ]
    assert lacks(num_gpus=2) == ["2 GPUs: a run here has 2 CPU processes."]


@pytest.mark.parametrize("function", [lacking, stopping])
def test_hosts_that_nothing_names_stop_a_run(lacks, function):
    assert lacks(count=4, function=function, include="node7:0,1") == [
        "hosts to run on: node7:0,1 names a host or slot that is not there. Choose among localhost:0."
    ]
    assert lacks(count=4, function=function, num_nodes=2) == ["hosts to run on: num_nodes"]
    assert lacks("generate", num_nodes=2, function=function) == []


def test_data_is_looked_for_here_where_this_machine_is_one_of_the_hosts(lacks, tmp_path):
    for name, sentences in (("localhost", ["none.bin and none.idx"]), ("192.0.2.1", []), ("no-such-host.invalid", [])):
        (tmp_path / "hosts").write_text(f"{name} slots=1\n")
        assert lacks(function=stopping, hostfile="hosts", data_path="none") == sentences
        assert lacks(hostfile="hosts", data_path="none") == ["none.bin and none.idx"]


def test_a_host_file_that_cannot_be_followed_stops_a_run_with_all_else_that_does(lacks, tmp_path):
    (tmp_path / "hosts").write_text("node0\n")
    assert lacks(function=stopping, hostfile="hosts", data_path="none") == ["none.bin and none.idx", "hosts to run on: hosts:1"]


def test_a_cpu_stops_fp16_alone(lacks):
    assert lacks(function=stopping) == []
    assert lacks(function=stopping, precision="fp16") == ["a GPU, without which precision"]
    assert lacks(precision="fp16") == ["a GPU, without which precision"]
    assert lacks(count=1, precision="fp16") == []


@pytest.mark.parametrize(("key", "package"), [("use_wandb", "wandb"), ("use_bnb_optimizer", "bitsandbytes")])
def test_optional_packages_stop_a_run_that_uses_them(lacks, monkeypatch, key, package):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert lacks(count=1) == []
    assert lacks(count=1, function=stopping, **{key: True}) == [f"the package {package}, which {key}"]


def test_missing_validation_and_test_files_do_not_stop_a_run(lacks):
    keys = {"data_path": None, "train_data_paths": ["corpus"], "valid_data_paths": ["none"], "test_data_paths": ["nothing"]}
    assert lacks(count=1, **keys) == ["none.bin and none.idx", "nothing.bin and nothing.idx"]
    assert lacks(count=1, function=stopping, **keys) == []
    assert lacks(count=1, function=stopping, **keys | {"valid_data_paths": ["none", "corpus"]}) == ["none.bin and none.idx"]
    assert lacks(count=1, function=stopping, **keys | {"train_data_paths": ["absent"]}) == ["absent.bin and absent.idx"]
