"""Bytes per token are compared with a count of each document's tokens."""

import logging
import math
import random
import statistics
from pathlib import Path

import pytest
from real_code import real_files
from seen_files import make_kept_row, write_seen_files
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from neox_code.corpus.description.describe import describe
from neox_code.corpus.description.fertility import Fertility
from neox_code.corpus.description.tables import make_tables
from neox_code.tokenizer.huggingface import HFTokenizer

FILES = real_files(60)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> HFTokenizer:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([file.read_text() for file in FILES[:20]], trainer)
    path = tmp_path_factory.mktemp("vocabulary") / "tokenizer.json"
    backend.save(str(path))
    return HFTokenizer.from_file(path)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("counted") / "corpus"
    rows = [make_kept_row(file.name, file.read_text(), "Python") for file in FILES] + [
        make_kept_row("a.go", "package a\r\n\tx := 1\r\n", "Go")
    ]
    write_seen_files(folder, rows)
    return folder


def test_a_sample_of_all_documents_has_the_exact_ratio(
    corpus: Path, tokenizer: HFTokenizer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("neox_code"), "propagate", True)
    caplog.set_level("INFO")
    found = describe(corpus, tokenizer, sample_bytes=10**9).fertility["Python"]
    tokens = sum(len(tokenizer.encode(file.read_text())) for file in FILES)
    num_bytes = sum(file.stat().st_size for file in FILES)
    assert (found.documents, found.bytes, found.tokens) == (len(FILES), num_bytes, tokens)
    assert found.bytes_per_token == num_bytes / tokens
    assert "encoder | gigatoken, ids identical to those of the plain tokenizer in" in caplog.text


def test_a_smaller_sample_is_seeded_and_has_a_margin(corpus: Path, tokenizer: HFTokenizer) -> None:
    description = describe(corpus, tokenizer, sample_bytes=200_000, seed=7)
    found, again, other = (
        description.fertility["Python"],
        describe(corpus, tokenizer, sample_bytes=200_000, seed=7).fertility["Python"],
        describe(corpus, tokenizer, sample_bytes=200_000, seed=8).fertility["Python"],
    )
    assert found == again != other
    assert 200_000 <= found.bytes < 200_000 + max(file.stat().st_size for file in FILES)
    assert found.margin is not None and found.margin > 0
    assert "seed 7" in description.fertility_method and "0.2 MB" in description.fertility_method
    heading = {column.heading: place for place, column in enumerate(make_tables(description)["languages"].columns)}
    tokens = next(row[heading["tokens"]] for row in make_tables(description)["languages"].rows if row[0] == "Python")
    assert tokens == pytest.approx(sum(file.stat().st_size for file in FILES) / found.bytes_per_token, rel=0.005)


def test_counted_tokens_are_taken_from_the_documents(tmp_path: Path) -> None:
    rows = [
        make_kept_row("a.py", "abcd", tokens=2),
        make_kept_row("b.py", "efghij", tokens=3),
        make_kept_row("c.go", "xyz", "Go", tokens=1),
    ]
    write_seen_files(tmp_path / "corpus", rows)
    description = describe(tmp_path / "corpus")
    assert {language: found.bytes_per_token for language, found in description.fertility.items()} == {"Python": 2.0, "Go": 3.0}
    assert [row[-1] for row in make_tables(description)["languages"].rows] == [5, 1, 6]
    assert description.fertility["Python"].margin is None


def test_estimated_tokens_have_three_digits_and_add_up(corpus: Path, tokenizer: HFTokenizer) -> None:
    *languages, total = [row[-1] for row in make_tables(describe(corpus, tokenizer, sample_bytes=200_000))["languages"].rows]
    assert total == pytest.approx(sum(languages), rel=0.01)
    assert all(len(str(tokens).rstrip("0")) <= 3 for tokens in (*languages, total))


def test_a_corpus_without_token_counts_has_no_fertility_table(corpus: Path) -> None:
    assert "fertility" not in make_tables(describe(corpus))


def test_the_margin_is_a_95_percent_interval() -> None:
    """About 380 of 400 samples of 60 documents contain the true ratio; slightly fewer, because the interval is approximate."""
    generator = random.Random(0)
    everything = []
    for _ in range(20_000):
        tokens = 1 + int(generator.lognormvariate(5, 0.8))
        everything.append((round(tokens * generator.uniform(2.5, 4.5)), tokens))
    truth = sum(size for size, _ in everything) / sum(tokens for _, tokens in everything)
    covered = 0
    for _ in range(400):
        sample = Fertility()
        for size, tokens in generator.sample(everything, 60):
            sample.add(size, tokens)
        covered += abs(sample.bytes_per_token - truth) <= sample.margin
    assert 360 <= covered <= 395


def test_the_margin_is_that_of_a_ratio_of_means() -> None:
    sample = Fertility()
    sizes, tokens = [30, 55, 18, 90], [10, 15, 7, 30]
    for size, count in zip(sizes, tokens, strict=True):
        sample.add(size, count)
    ratio = sum(sizes) / sum(tokens)
    residuals = [size - ratio * count for size, count in zip(sizes, tokens, strict=True)]
    deviation = math.sqrt(sum(value * value for value in residuals) / 3 / 4) / statistics.mean(tokens)
    assert sample.margin == pytest.approx(1.96 * deviation)
