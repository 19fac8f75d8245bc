"""New tokens and their rows, against the rows of the source; the result is a folder that generates."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from foreign_checkpoint import build_peer, write_foreign_checkpoint
from real_code import real_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from neox_code.checkpoint.model_folder import load_config
from neox_code.config.command_line import parse_command_line
from neox_code.conversion.extension import INFILLING, WHITESPACE
from neox_code.conversion.source import ModelSource, open_source
from neox_code.errors import run_command
from neox_code.generation.generator import Generator
from neox_code.generation.loading import load_model
from neox_code.tokenizer.fast import GatedEncoder, find_fastest_encoder
from tools.extend_vocabulary import main

KEYS = {
    "num_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pos_emb": "rotary",
    "precision": "bfloat16",
}
ENTRIES = 640
EMBEDDING, HEAD = "sequential.0.word_embeddings.weight", "sequential.6.final_linear.weight"
TEXT = real_file("pygments/regexopt.py").read_text(encoding="utf-8") + "\t\tx\n        <|fim_prefix|>  <|endoftext|>\r\n café"


def run(*arguments: object) -> int:
    return run_command(main, list(map(str, arguments)))


def write_model(folder: Path, job_folder: Path, rows: int = ENTRIES, tied: bool = False) -> Path:
    """Write a model of GPT-NeoX in bf16 with `rows` rows of the vocabulary, all of them random."""
    keys = KEYS | {"no_weight_tying": not tied, "vocab_file": "code-vocab.json", "merge_file": "code-merges.txt"}
    write_foreign_checkpoint(folder, build_peer(keys, rows, torch.bfloat16), keys, "new", "layers")
    for name in ("code-vocab.json", "code-merges.txt"):
        shutil.copyfile(job_folder / name, folder / name)
    return folder


@pytest.fixture
def model(tmp_path, job_folder):
    return write_model(tmp_path / "model", job_folder)


def check_old_part(source: ModelSource, found: ModelSource, rows: int) -> None:
    """All parameters are equal, bit for bit, and the first `rows` rows of the vocabulary's."""
    assert sorted(found.weights) == sorted(source.weights)
    for name, weight in source.weights.items():
        assert torch.equal(found.weights[name][: weight.shape[0]] if name not in (EMBEDDING, HEAD) else found.weights[name][:rows],
                           weight if name not in (EMBEDDING, HEAD) else weight[:rows])  # fmt: skip
    assert found.tokenizer.bytes_of_id[:ENTRIES] == source.tokenizer.bytes_of_id


def test_whitespace_and_infilling_tokens_are_added_and_the_folder_generates(model, tmp_path):
    assert run(model, tmp_path / "out", "--whitespace", "--infilling") == 0
    source, found = open_source(model), open_source(tmp_path / "out")
    old, new = source.tokenizer, found.tokenizer
    spaces = [token for token in WHITESPACE if token.text.encode() not in old.bytes_of_id]
    added = [*spaces, *INFILLING]
    assert spaces and new.bytes_of_id[ENTRIES:] == [token.text.encode() for token in added]
    check_old_part(source, found, ENTRIES)
    for name in (EMBEDDING, HEAD):
        for number, token in enumerate(added):
            rows = source.weights[name][old.encode(token.text)].double()
            torch.testing.assert_close(found.weights[name][ENTRIES + number], rows.mean(0).to(torch.bfloat16), atol=0, rtol=2**-7)
    for token in spaces:
        assert new.encode(token.text) == [new.bytes_of_id.index(token.text.encode())]
    ids = new.encode(TEXT)
    assert new.decode(ids) == TEXT and set(ids).isdisjoint(range(ENTRIES + len(spaces), new.vocab_size))
    assert len(set(ids) & set(range(ENTRIES, ENTRIES + len(spaces)))) > 0
    assert new.encode("def f(x):\n") == old.encode("def f(x):\n")
    shutil.move(tmp_path / "out", tmp_path / "moved")
    loaded = load_model(load_config(parse_command_line([str(tmp_path / "moved")], None, "generate")), torch.device("cpu"))
    config = load_config(parse_command_line([str(tmp_path / "moved"), "--set", "maximum_tokens=4"], None, "generate"))
    [completion] = Generator(loaded, config.generation, seed=1).complete(["class A:\n        def"])
    assert loaded.tokenizer.vocab_size == ENTRIES + len(added) and completion.text is not None
    fast = GatedEncoder(new, find_fastest_encoder(new))
    assert fast.encode([TEXT], ["Python"])[0].tolist() == ids


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("options", [["--like", "<|endoftext|>"], ["--mean"]])
def test_rows_are_those_of_a_token_or_the_mean_of_all(tmp_path, job_folder, options, tied):
    model = write_model(tmp_path / "model", job_folder, tied=tied)
    assert run(model, tmp_path / "out", "--infilling", *options) == 0
    source, found = open_source(model), open_source(tmp_path / "out")
    check_old_part(source, found, ENTRIES)
    assert (HEAD in found.weights) != tied
    for name in [EMBEDDING] if tied else [EMBEDDING, HEAD]:
        weight = source.weights[name]
        expected = weight[source.tokenizer.eod_id] if "--like" in options else weight[:ENTRIES].double().mean(0).to(torch.bfloat16)
        for row in found.weights[name][ENTRIES : ENTRIES + len(INFILLING)]:
            torch.testing.assert_close(row, expected, atol=0, rtol=0 if "--like" in options else 2**-7)


def test_padding_rows_are_used_first_and_those_behind_them_stay(tmp_path, job_folder):
    model = write_model(tmp_path / "model", job_folder, rows=ENTRIES + 128)
    assert run(model, tmp_path / "out", "--infilling", "--like", "<|endoftext|>") == 0
    before, after = (open_source(folder).weights[HEAD] for folder in (model, tmp_path / "out"))
    end = ENTRIES + len(INFILLING)
    assert after.shape == before.shape
    assert torch.equal(after[:ENTRIES], before[:ENTRIES]) and torch.equal(after[end:], before[end:])
    assert not torch.equal(after[ENTRIES:end], before[ENTRIES:end])


def test_tokens_of_a_file_are_added_once(model, tmp_path):
    entries = ["\n\n\n\n", {"content": "<|user|>", "special": True}, "<|endoftext|>", "\n\n\n\n"]
    (tmp_path / "tokens.json").write_text(json.dumps(entries))
    (tmp_path / "tokens.txt").write_text("Zażółć\n        \n")
    assert run(model, tmp_path / "one", "--tokens", tmp_path / "tokens.json") == 0
    one = open_source(tmp_path / "one").tokenizer
    assert one.bytes_of_id[ENTRIES:] == [b"\n\n\n\n", b"<|user|>"]
    assert one.encode("a\n\n\n\nb")[1:2] == [ENTRIES] and ENTRIES + 1 not in one.encode("<|user|>")
    assert run(tmp_path / "one", tmp_path / "two", "--tokens", tmp_path / "tokens.txt") == 0
    two = open_source(tmp_path / "two").tokenizer
    assert two.bytes_of_id[: ENTRIES + 2] == one.bytes_of_id and two.decode(two.encode(TEXT + "Zażółć")) == TEXT + "Zażółć"


def test_mistakes_are_refused_and_leave_nothing(model, tmp_path, capfd):
    (tmp_path / "tokens.json").write_text(json.dumps(["a", 3]))
    (tmp_path / "known.txt").write_text("def\n")
    (tmp_path / "twice.json").write_text(json.dumps(["xyzzy", {"content": "xyzzy", "special": True}]))
    refusals = {
        "no tokens are named": [],
        "tokens.json, token 2, must be a text": ["--tokens", tmp_path / "tokens.json"],
        "There is nothing to add": ["--tokens", tmp_path / "known.txt"],
        "'xyzzy' is named both": ["--tokens", tmp_path / "twice.json"],
        "'no such token' is not a token of": ["--infilling", "--like", "no such token"],
        "not allowed with": ["--infilling", "--like", "x", "--mean"],
        "No such file": ["--tokens", tmp_path / "nothing.txt"],
    }
    for sentence, options in refusals.items():
        assert run(model, tmp_path / "out", *options) == 2
        assert sentence in (printed := capfd.readouterr().err) and "Traceback" not in printed, printed
    assert not list(tmp_path.glob("out*"))


def test_a_model_of_hugging_face_stays_one_and_its_tokenizer_has_the_new_tokens(tmp_path, job_folder):
    peer = build_peer(KEYS | {"no_weight_tying": True}, ENTRIES + 2, torch.bfloat16)
    peer.save_pretrained(tmp_path / "model")
    shutil.copyfile(job_folder / "tokenizer.json", tmp_path / "model" / "tokenizer.json")
    assert run(tmp_path / "model", tmp_path / "out", "--infilling", "--whitespace") == 0
    found, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out")
    rows = found.get_output_embeddings().weight
    assert torch.equal(rows[:ENTRIES], peer.get_output_embeddings().weight[:ENTRIES])
    assert rows.shape[0] == len(tokenizer) and tokenizer.convert_tokens_to_ids("<|fim_prefix|>") >= ENTRIES
    text = "        x\n\t\tdef f():\n        return 1\n"
    ids = open_source(tmp_path / "out").tokenizer.encode(text)
    assert tokenizer.encode(text) == ids and tokenizer.decode(ids) == text and max(ids) >= ENTRIES
