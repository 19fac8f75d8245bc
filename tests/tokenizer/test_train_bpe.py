import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import regex

from neox_code.errors import DataError
from neox_code.tokenizer.gpt2 import GPT2Tokenizer
from neox_code.tokenizer.train_bpe import MERGE_FILE, TOKENIZER_FILE, VOCAB_FILE, sample_documents, train_bpe

FILES = (VOCAB_FILE, MERGE_FILE, TOKENIZER_FILE)
GPT2_PATTERN = regex.compile(r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""")


def test_vocabulary_has_special_tokens_bytes_and_merges_in_order(vocabulary: Path) -> None:
    ids = json.loads((vocabulary / VOCAB_FILE).read_text(encoding="utf-8"))
    lines = (vocabulary / MERGE_FILE).read_text(encoding="utf-8").splitlines()
    assert list(ids.values()) == list(range(2000))
    assert list(ids)[:3] == ["<|endoftext|>", "<|padding|>", "<|separator|>"]
    assert all(len(token) == 1 for token in list(ids)[3:259])
    assert lines[0] == "#version: 0.2"
    assert [line.replace(" ", "") for line in lines[1:]] == list(ids)[259:]


def test_the_first_merges_are_the_most_frequent_pairs(tmp_path: Path) -> None:
    text = "ababab abc\n" * 3
    train_bpe([text], 262, tmp_path)
    pairs = Counter(pair for piece in GPT2_PATTERN.findall(text) for pair in itertools.pairwise(piece))
    lines = (tmp_path / MERGE_FILE).read_text(encoding="utf-8").splitlines()
    assert pairs.most_common(1) == [(("a", "b"), 12)]
    assert lines[1:3] == ["a b", "ab ab"]


def test_output_is_independent_of_text_order_and_process(tmp_path: Path, real_texts: list[str]) -> None:
    texts = real_texts[:30]
    train_bpe(texts, 1000, tmp_path / "first")
    train_bpe(reversed(texts), 1000, tmp_path / "second")
    program = (
        "import json, sys; from neox_code.tokenizer.train_bpe import train_bpe; train_bpe(json.load(sys.stdin), 1000, sys.argv[1])"
    )
    environment = {"RAYON_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, str(tmp_path / "third")]
    subprocess.run(command, input=json.dumps(texts), text=True, check=True, env=environment)
    for name in FILES:
        content = (tmp_path / "first" / name).read_bytes()
        assert (tmp_path / "second" / name).read_bytes() == content
        assert (tmp_path / "third" / name).read_bytes() == content


def test_special_names_in_training_texts_are_text(tmp_path: Path) -> None:
    tokenizer = train_bpe(["<|endoftext|> <|padding|>\n" * 100], 300, tmp_path)
    ids = tokenizer.encode("<|endoftext|> <|padding|>\n")
    tokens = [tokenizer.decode([token_id]) for token_id in ids]
    assert tokens == ["<|", "endoftext", "|>", " <|", "padding", "|>", "\n"]
    assert min(ids) > 2


def test_a_small_sample_gives_a_smaller_vocabulary_with_every_byte(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tokenizer = train_bpe(["print(1)\nprint(2)\n"], 8192, tmp_path)
    assert 259 < tokenizer.vocab_size < 300
    assert tokenizer.decode(tokenizer.encode("\r\0é😀")) == "\r\0é😀"


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_an_empty_sample_is_an_error_and_leaves_no_files(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(DataError, match="contains no text to learn"):
        train_bpe(texts, 1000, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_error_while_reading_texts_is_raised_unchanged(tmp_path: Path) -> None:
    def broken() -> Iterator[str]:
        yield "fine\n" * 1000
        raise DataError("the second file is damaged")

    with pytest.raises(DataError, match="the second file is damaged"):
        train_bpe(broken(), 1000, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_vocab_size_below_the_minimum_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be at least 259"):
        train_bpe(["x"], 258, tmp_path)


def test_all_files_of_an_old_vocabulary_are_replaced(tmp_path: Path, real_texts: list[str]) -> None:
    train_bpe(real_texts[:3], 300, tmp_path)
    train_bpe(real_texts[3:6], 400, tmp_path)
    assert GPT2Tokenizer.from_files(tmp_path / VOCAB_FILE, tmp_path / MERGE_FILE).vocab_size == 400
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)


def test_ctrl_c_ends_training_immediately_and_leaves_no_files(tmp_path: Path) -> None:
    def endless() -> Iterator[str]:
        for number in itertools.count():
            if number == 100:
                os.kill(os.getpid(), signal.SIGINT)
            yield f"text {number}\n"

    threads_before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        train_bpe(endless(), 1000, tmp_path / "out")
    for thread in set(threading.enumerate()) - threads_before:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert not (tmp_path / "out").exists()


@dataclass(frozen=True)
class SizedDocument:
    sha256: str
    num_bytes: int


@pytest.fixture(scope="module")
def documents() -> list[SizedDocument]:
    sizes = random.Random(0)
    return [SizedDocument(hashlib.sha256(str(number).encode()).hexdigest(), sizes.randrange(1, 200)) for number in range(4000)]


def shuffle(documents: list[SizedDocument]) -> list[SizedDocument]:
    return random.Random(1).sample(documents, len(documents))


def test_a_sampled_fraction_depends_on_the_seed_and_not_on_order(documents: list[SizedDocument]) -> None:
    sample = list(sample_documents(documents, fraction=0.25, seed=1))
    assert 900 < len(sample) < 1100
    assert set(sample_documents(shuffle(documents), fraction=0.25, seed=1)) == set(sample)
    assert 150 < len(set(sample_documents(documents, fraction=0.25, seed=2)) & set(sample)) < 350
    assert set(sample) <= set(sample_documents(documents, fraction=0.5, seed=1))
    assert list(sample_documents(documents)) == documents


def test_max_bytes_is_nearly_reached_and_never_exceeded(documents: list[SizedDocument]) -> None:
    sample = list(sample_documents(documents, max_bytes=50_000, seed=1))
    assert 49_800 < sum(document.num_bytes for document in sample) <= 50_000
    assert list(sample_documents(shuffle(documents), max_bytes=50_000, seed=1)) == sample
    assert set(sample_documents(documents, max_bytes=20_000, seed=1)) < set(sample)
    assert sum(document.num_bytes for document in sample_documents(documents, fraction=0.01, max_bytes=50_000, seed=1)) < 6_000
