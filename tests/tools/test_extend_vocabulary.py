"""New tokens and their rows, against the rows of the source; the result is a folder that generates."""

import base64
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
from neox_code.conversion.convert import convert
from neox_code.conversion.extension import INFILLING, WHITESPACE, find_vocabulary
from neox_code.conversion.options import ConversionOptions
from neox_code.conversion.source import ModelSource, open_source
from neox_code.errors import run_command
from neox_code.generation.generator import Generator
from neox_code.generation.loading import load_model
from neox_code.tokenizer.byte_level import convert_token_to_bytes
from neox_code.tokenizer.comparison import compare_vocabulary, describe_vocabulary
from neox_code.tokenizer.fast import GatedEncoder, find_fastest_encoder
from neox_code.tokenizer.protocol import Tokenizer
from neox_code.tokenizer.tiktoken_encoding import ENCODINGS
from neox_code.tokenizer.train_sentencepiece import train_sentencepiece
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
TEXTS = [*TEXT.split("\n\n"), TEXT]


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
    """All parameters are equal, bit for bit, and the first `rows` rows of the vocabulary's: GPT-Code-Clippy's tool overwrote the
    row of the end-of-document token."""
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


def write_sentencepiece(folder: Path) -> Path:
    lines = real_file("pygments/regexopt.py").read_text(encoding="utf-8").splitlines()
    return Path(train_sentencepiece(["\n".join(lines)], 420, folder).identity["vocab_file"])


def write_tiktoken(folder: Path, job_folder: Path, name: str) -> Path:
    """Write the tokens of the small vocabulary without its special ones, in the order of their ids, as an encoding."""
    tokens = [convert_token_to_bytes(token) for token in json.loads((job_folder / "code-vocab.json").read_text())][3:]
    lines = [base64.b64encode(token) + f" {rank}\n".encode() for rank, token in enumerate(tokens)]
    (folder / f"{name}.tiktoken").write_bytes(b"".join(lines))
    return folder / f"{name}.tiktoken"


def has_special_ids(tokenizer: Tokenizer, ids: list[int]) -> bool:
    data = tokenizer.read_token_bytes()
    return any(not data[token] for token in ids)


@pytest.fixture
def encodings(monkeypatch):
    """The special token follows the small vocabulary, in cl100k_base after two unused ids: thousands of them take a minute."""
    for name, end in (("r50k_base", ENTRIES - 3), ("cl100k_base", ENTRIES - 1)):
        monkeypatch.setitem(ENCODINGS, name, (ENCODINGS[name][0], {"<|endoftext|>": end}))


@pytest.mark.usefixtures("encodings")
@pytest.mark.parametrize("kind", ["sentencepiece", "r50k_base", "cl100k_base", "CharLevelTokenizer", "vocab.json", "folder"])
def test_a_vocabulary_of_each_type_is_extended_without_a_model(tmp_path, job_folder, kind, caplog):
    source = {
        "sentencepiece": lambda: write_sentencepiece(tmp_path),
        "CharLevelTokenizer": lambda: kind,
        "vocab.json": lambda: job_folder / "code-vocab.json",
        "folder": lambda: job_folder,
    }.get(kind, lambda: write_tiktoken(tmp_path, job_folder, kind))()
    old = find_vocabulary(Path(source))
    assert run(source, tmp_path / "out", "--whitespace", "--infilling") == 0
    new = find_vocabulary(tmp_path / "out")
    size = old.vocab_size
    added = {number for part, number in new.infilling_ids.items() if part not in old.infilling_ids}
    assert len(new.infilling_ids) == 6 and added == set(range(new.vocab_size - len(added), new.vocab_size))
    assert f"vocab_file: {tmp_path / 'out'}" in caplog.text
    for text in (*TEXTS, "9876543210 don't\n\n\n  x\r\n", "<|endoftext|> <|fim_middle|>"):
        before, after = old.encode(text), new.encode(text)
        assert new.decode(after) == old.decode(before) == text
        assert not has_special_ids(new, after)
        if not any(space in text for space in ("  ", "\t\t")):
            assert after == before
    text = "\t\tx\n        y"
    assert new.decode(new.encode(text)) == text
    if kind == "CharLevelTokenizer":
        assert max(new.encode(text)) >= size
        assert [new.decode_bytes([number]) for number in range(256)] == [old.decode_bytes([number]) for number in range(256)]
    else:
        assert compare_vocabulary(describe_vocabulary(old), new) == "same ids"


@pytest.mark.usefixtures("encodings")
@pytest.mark.parametrize("kind", ["sentencepiece", "tiktoken", "char"])
def test_a_model_with_a_vocabulary_of_another_type_gets_rows_and_transformers_reads_its_tokens(tmp_path, job_folder, kind):
    path = {"sentencepiece": write_sentencepiece, "tiktoken": lambda folder: write_tiktoken(folder, job_folder, "r50k_base")}.get(
        kind
    )
    words = {"sentencepiece": "SPMTokenizer", "tiktoken": "TiktokenTokenizer", "char": "CharLevelTokenizer"}
    folder = tmp_path / "model"
    folder.mkdir()
    file = path(folder) if path else None
    old = find_vocabulary(file or Path("CharLevelTokenizer"))
    keys = KEYS | {"no_weight_tying": True, "tokenizer_type": words[kind]} | ({"vocab_file": file.name} if file else {})
    write_foreign_checkpoint(folder, build_peer(keys, old.vocab_size, torch.bfloat16), keys, "new", "layers")
    assert run(folder, tmp_path / "out", "--infilling", "--whitespace", "--like", "x") == 0
    source, found = open_source(folder), open_source(tmp_path / "out")
    size, row = old.vocab_size, old.encode("x")[-1]
    assert found.tokenizer.vocab_size > size and found.vocab_rows == found.tokenizer.vocab_size
    for name in (EMBEDDING, HEAD):
        assert torch.equal(found.weights[name][:size], source.weights[name][:size])
        assert all(torch.equal(new, source.weights[name][row]) for new in found.weights[name][size : found.vocab_rows])
    convert(tmp_path / "out", tmp_path / "hf", "huggingface", ConversionOptions())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf")
    for text in ("        x\n\t\tdef f():\n        return 1\n", "def f(x):\n    return x  # y\n"):
        assert tokenizer.encode(text) == found.tokenizer.encode(text) and tokenizer.decode(tokenizer.encode(text)) == text
    assert max(tokenizer.encode("\t\tx")) >= size or kind == "tiktoken"
    assert tokenizer.convert_tokens_to_ids("<|fim_prefix|>") == found.tokenizer.infilling_ids["fim_prefix"]
