import json
from itertools import pairwise
from pathlib import Path

import pytest
import regex
from transformers import GPT2TokenizerFast

from neox_code.config.neox import NeoXConfig
from neox_code.errors import DataError
from neox_code.tokenizer.gpt2 import GPT2Tokenizer
from neox_code.tokenizer.huggingface import HFTokenizer
from neox_code.tokenizer.registry import build_tokenizer
from neox_code.tokenizer.train_bpe import MERGE_FILE, VOCAB_FILE

GPT2_PATTERN = regex.compile(r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""")


def plain_encode(text: str, folder: Path) -> list[int]:
    """Return the ids by byte-level BPE as published, without a library except for the pattern."""
    spelled = json.loads((folder / VOCAB_FILE).read_text(encoding="utf-8"))
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = dict(
        zip(printable + sorted(set(range(256)) - set(printable)), map(chr, printable + list(range(256, 324))), strict=True)
    )
    lines = (folder / MERGE_FILE).read_text(encoding="utf-8").splitlines()[1:]
    ranks = {tuple(line.split(" ")): rank for rank, line in enumerate(lines)}
    ids = []
    for piece in GPT2_PATTERN.findall(text):
        parts = [characters[byte] for byte in piece.encode("utf-8")]
        while pairs := [pair for pair in pairwise(parts) if pair in ranks]:
            first, second = min(pairs, key=ranks.__getitem__)
            joined, index = [], 0
            while index < len(parts):
                is_pair = parts[index : index + 2] == [first, second]
                joined.append(first + second if is_pair else parts[index])
                index += 1 + is_pair
            parts = joined
        ids += [spelled[part] for part in parts]
    return ids


def test_ids_equal_a_plain_byte_pair_encoding(gpt2: GPT2Tokenizer, vocabulary: Path, texts: list[str]) -> None:
    for text in [text[:1500] for text in texts[::10]] + [text[:300] for text in texts[-14:]]:
        assert gpt2.encode(text) == plain_encode(text, vocabulary)


def test_ids_equal_transformers_and_tokenizer_json_and_decode_to_the_same_bytes(
    gpt2: GPT2Tokenizer, huggingface: HFTokenizer, vocabulary: Path, texts: list[str]
) -> None:
    peer = GPT2TokenizerFast(vocab=str(vocabulary / VOCAB_FILE), merges=str(vocabulary / MERGE_FILE))
    batch = gpt2.encode_batch(texts)
    assert huggingface.encode_batch(texts) == batch
    assert peer(texts, split_special_tokens=True)["input_ids"] == batch
    for text, ids in zip(texts, batch, strict=True):
        assert gpt2.decode_bytes(ids) == text.encode("utf-8")
        assert huggingface.decode(ids) == gpt2.decode(ids) == text


def test_encode_batch_equals_encode(gpt2: GPT2Tokenizer, texts: list[str]) -> None:
    assert gpt2.encode_batch(texts[-40:]) == [gpt2.encode(text) for text in texts[-40:]]


def test_special_tokens_decode_to_names_and_names_encode_as_text(gpt2: GPT2Tokenizer) -> None:
    assert (gpt2.eod_id, gpt2.pad_id, gpt2.vocab_size) == (0, 1, 2000)
    assert gpt2.decode([0, 1, 2]) == "<|endoftext|><|padding|><|separator|>"
    assert not {0, 1, 2} & set(gpt2.encode("<|endoftext|><|padding|><|separator|>"))


def test_a_divided_character_decodes_to_the_replacement_character(gpt2: GPT2Tokenizer) -> None:
    ids = gpt2.encode("☃")
    assert len(ids) == 3
    assert gpt2.decode(ids[:2]) == "\ufffd"
    assert gpt2.decode_bytes(ids[:2]) == "☃".encode()[:2]


@pytest.mark.parametrize("wrong", [2000, -1])
def test_ids_outside_the_vocabulary_are_refused(gpt2: GPT2Tokenizer, wrong: int) -> None:
    with pytest.raises(DataError, match=rf"id {wrong} is not in .* has the ids 0 to 1,999"):
        gpt2.decode([5, wrong])


def test_a_lone_surrogate_is_refused(gpt2: GPT2Tokenizer) -> None:
    with pytest.raises(DataError, match=r"lone surrogate U\+D800 at character 2"):
        gpt2.encode_batch(["fine", "ab\ud800"])


def write_vocabulary(folder: Path, tokens: dict[str, int], merges: str) -> tuple[Path, Path]:
    vocab_file, merge_file = folder / "vocab.json", folder / "merges.txt"
    vocab_file.write_text(json.dumps(tokens), encoding="utf-8")
    merge_file.write_bytes(merges.encode("utf-8"))
    return vocab_file, merge_file


SMALL = {"<|endoftext|>": 0, "a": 1, "b": 2, "c": 3, "ab": 4, "abc": 5}


@pytest.mark.parametrize("merges", ["a b\nab c\n", "a b\nab c", "#version: 0.2\na b\nab c\n", "#version: 0.2\r\na b\r\nab c\r\n"])
def test_the_whole_reader_keeps_every_merge(tmp_path: Path, merges: str) -> None:
    assert GPT2Tokenizer.from_files(*write_vocabulary(tmp_path, SMALL, merges)).encode("abc") == [5]


def test_the_gpt_neox_reader_drops_the_first_and_the_last_line(tmp_path: Path) -> None:
    files = write_vocabulary(tmp_path, SMALL, "a b\nab c\n")
    assert GPT2Tokenizer.from_files(*files, merge_file_reader="gpt-neox").encode("abc") == [1, 2, 3]
    files = write_vocabulary(tmp_path, SMALL, "#version: 0.2\na b\nab c")
    assert GPT2Tokenizer.from_files(*files, merge_file_reader="gpt-neox").encode("abc") == [4, 3]


def test_pad_id_is_eod_id_without_a_padding_token(tmp_path: Path) -> None:
    tokenizer = GPT2Tokenizer.from_files(*write_vocabulary(tmp_path, SMALL, "a b\nab c\n"))
    assert (tokenizer.eod_id, tokenizer.pad_id) == (0, 0)


@pytest.mark.parametrize(
    ("tokens", "merges", "message"),
    [
        (SMALL, "a b\nab d\n", r"merges.txt:2 merges 'ab' and 'd', but the vocabulary has no token 'd'"),
        (SMALL, "a b\nb c\n", r"merges.txt:2 merges 'b' and 'c', but the vocabulary has no token 'bc'"),
        (SMALL, "a b\n\nab c\n", r"merges.txt:2 is '', expected two tokens"),
        (SMALL, "a b c\n", r"merges.txt:1 is 'a b c', expected two tokens"),
        ({**SMALL, "abc": 6}, "a b\n", r"token 'abc' has id 6, but the 6 tokens must have the ids 0 to 5"),
        ({**SMALL, "abc": 4}, "a b\n", r"token 'abc' has id 4, but the 6 tokens must have the ids 0 to 5, each once"),
        ({"a": 0}, "", r"no token <\|endoftext\|>"),
        ({"a": "0"}, "", r"must be a JSON object from tokens to whole numbers"),
    ],
)
def test_a_malformed_vocabulary_is_refused(tmp_path: Path, tokens: dict[str, int], merges: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        GPT2Tokenizer.from_files(*write_vocabulary(tmp_path, tokens, merges))


def test_missing_and_invalid_files_are_refused(tmp_path: Path) -> None:
    vocab_file, merge_file = write_vocabulary(tmp_path, SMALL, "a b\n")
    with pytest.raises(DataError, match="absent does not exist"):
        GPT2Tokenizer.from_files(vocab_file, tmp_path / "absent")
    with pytest.raises(DataError, match="absent does not exist"):
        GPT2Tokenizer.from_files(tmp_path / "absent", merge_file)
    merge_file.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        GPT2Tokenizer.from_files(vocab_file, merge_file)


def test_text_with_missing_bytes_is_refused_with_their_counts(tmp_path: Path) -> None:
    tokenizer = GPT2Tokenizer.from_files(*write_vocabulary(tmp_path, SMALL, "a b\n"))
    with pytest.raises(DataError, match=r"byte 0x0D 2 times, .*LF"):
        tokenizer.encode("a\rb\r")
    with pytest.raises(DataError, match="byte 0x64 1 times and byte 0x65 2 times"):
        tokenizer.encode_batch(["abc", "aeed"])


def test_identity_hash_depends_on_ids_and_not_on_paths(tmp_path: Path) -> None:
    def identity(folder: str, merges: str, reader: str = "whole") -> str:
        (tmp_path / folder).mkdir()
        return GPT2Tokenizer.from_files(*write_vocabulary(tmp_path / folder, SMALL, merges), reader).identity["sha256"]

    first = identity("first", "a b\nab c\n")
    assert identity("second", "#version: 0.2\na b\nab c\n") == first
    assert identity("third", "a b\nab c\n", "gpt-neox") != first
    assert identity("fourth", "ab c\na b\n") != first


@pytest.fixture
def polycoder(test_data: Path) -> tuple[Path, Path]:
    return test_data / "polycoder-vocab/code-vocab.json", test_data / "polycoder-vocab/code-merges.txt"


def test_polycoder_vocabulary_round_trips_text_without_carriage_returns(polycoder: tuple[Path, Path], texts: list[str]) -> None:
    tokenizer = GPT2Tokenizer.from_files(*polycoder)
    assert (tokenizer.vocab_size, tokenizer.eod_id, tokenizer.pad_id) == (50_257, 0, 1)
    for text in texts[-60:]:
        if "\r" in text:
            with pytest.raises(DataError, match="byte 0x0D"):
                tokenizer.encode(text)
        else:
            assert tokenizer.decode_bytes(tokenizer.encode(text)) == text.encode()


def test_gpt_neox_reader_drops_polycoders_merge_of_two_spaces(polycoder: tuple[Path, Path]) -> None:
    whole = GPT2Tokenizer.from_files(*polycoder)
    gpt_neox = GPT2Tokenizer.from_files(*polycoder, merge_file_reader="gpt-neox")
    indented = " " * 9 + "x"
    assert len(whole.encode(indented)) == 2
    assert len(gpt_neox.encode(indented)) == 9
    assert gpt_neox.decode(gpt_neox.encode(indented)) == indented


def test_polycoder_configuration_uses_the_gpt_neox_reader(polycoder: tuple[Path, Path]) -> None:
    configs = Path(__file__).parents[2] / "configs"
    files = dict(zip(("vocab_file", "merge_file"), map(str, polycoder), strict=True))
    config = NeoXConfig.load([configs / "2-7B.yml", configs / "polycoder.yml"], files)
    config.require_training_keys()
    assert len(build_tokenizer(config.data).encode(" " * 9 + "x")) == 9
    assert config.data.newlines == "lf"
