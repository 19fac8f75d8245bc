import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import AddedToken, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from neox_code.tokenizer import merges
from neox_code.tokenizer.byte_pairs import merge_pretokens
from neox_code.tokenizer.fast import ENCODERS, load_encoder
from neox_code.tokenizer.gpt2 import GPT2Tokenizer
from neox_code.tokenizer.huggingface import HFTokenizer
from neox_code.tokenizer.sample_file import SampleFile
from neox_code.tokenizer.train_bpe import MERGE_FILE, TOKENIZER_FILE, VOCAB_FILE, train_bpe

SPECIAL = ["<|endoftext|>", "<|padding|>", "<|separator|>"]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("neox_code"), "propagate", True)
    caplog.set_level("INFO")
    return caplog


@pytest.fixture
def accelerated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the fast way for small samples too."""
    monkeypatch.setattr(merges, "SMALL_SAMPLE_BYTES", 0)


def train_peer(texts: list[str], size: int) -> tuple[dict[str, int], list[list[str]]]:
    """Return the vocabulary and merges that the tokenizers library learns."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=[AddedToken(name, special=True) for name in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    model = json.loads(backend.to_str())["model"]
    return model["vocab"], model["merges"]


def test_vocabulary_equals_that_of_the_tokenizers_library(
    tmp_path: Path, texts: list[str], accelerated: None, log: pytest.LogCaptureFixture
) -> None:
    train_bpe(texts, 3000, tmp_path)
    assert "learning with gigatoken" in log.text
    vocabulary, expected = train_peer(texts, 3000)
    assert json.loads((tmp_path / VOCAB_FILE).read_text(encoding="utf-8")) == vocabulary
    assert json.loads((tmp_path / TOKENIZER_FILE).read_text(encoding="utf-8"))["model"]["merges"] == expected
    assert len((tmp_path / MERGE_FILE).read_text(encoding="utf-8").splitlines()) == 1 + 3000 - 259
    assert sorted(path.name for path in tmp_path.iterdir()) == [MERGE_FILE, VOCAB_FILE, TOKENIZER_FILE]


def test_exhausted_sample_gives_the_vocabulary_of_the_tokenizers_library(
    tmp_path: Path, real_texts: list[str], accelerated: None, log: pytest.LogCaptureFixture
) -> None:
    train_bpe(real_texts[:10], 30_000, tmp_path)
    assert "learning with gigatoken" in log.text
    assert json.loads((tmp_path / VOCAB_FILE).read_text(encoding="utf-8")) == train_peer(real_texts[:10], 30_000)[0]


@pytest.mark.parametrize("wrong", ["words", "merges"])
def test_different_merges_of_the_excerpt_select_the_tokenizers_library(
    tmp_path: Path,
    real_texts: list[str],
    accelerated: None,
    wrong: str,
    log: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if wrong == "words":
        read_counts = merges.Pretokenizer.read_counts
        monkeypatch.setattr(
            merges.Pretokenizer,
            "read_counts",
            lambda self: [replace(words, counts=words.counts[::-1]) for words in read_counts(self)],
        )
    else:
        monkeypatch.setattr(merges, "merge_pretokens", lambda *arguments: merge_pretokens(*arguments)[::-1])
    train_bpe(real_texts[:10], 700, tmp_path)
    assert "learning with the tokenizers library" in log.text
    assert json.loads((tmp_path / VOCAB_FILE).read_text(encoding="utf-8")) == train_peer(real_texts[:10], 700)[0]


def test_a_sample_file_yields_its_texts_and_an_excerpt_of_all_parts(tmp_path: Path, texts: list[str]) -> None:
    with SampleFile(tmp_path / "sample", iter(texts * 3)) as sample:
        assert list(sample.texts()) == [text for text in texts * 3 if text]
        assert sample.num_bytes == 3 * sum(len(text.encode()) for text in texts)
        assert 0.15e6 < sum(len(text.encode()) for text in sample.excerpt) <= 2**19
        assert sample.excerpt[-1] in texts[-30:]
    with SampleFile(tmp_path / "long", ["a b " * 20_000, " " * 70_000]) as sample:
        assert sample.excerpt == ["a b " * 2**12, " " * 2**14]
    assert list(tmp_path.iterdir()) == []


def test_whitespace_tokens_are_last_and_decode_as_ordinary_tokens(tmp_path: Path, real_texts: list[str]) -> None:
    train_bpe(real_texts[:3], 400, tmp_path)
    tokenizer = train_bpe(real_texts[:40], 1000, tmp_path, whitespace_tokens=True)
    assert [path.name for path in tmp_path.iterdir()] == [TOKENIZER_FILE]
    assert isinstance(tokenizer, HFTokenizer)
    assert tokenizer.vocab_size == 1000
    assert [tokenizer.decode_bytes([number]) for number in range(996, 1000)] == [b"\t\t", b"  ", b"    ", b"        "]
    text = "\t\tx" + " " * 14 + "= 1\n"
    ids = tokenizer.encode(text)
    assert [number for number in ids if number >= 996] == [996, 999, 998, 997]
    peer = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / TOKENIZER_FILE))
    assert peer(text)["input_ids"] == ids
    assert peer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == text == tokenizer.decode(ids)


@pytest.mark.parametrize("name", [name for name in ENCODERS if name != "plain"])
def test_an_accelerated_encoder_supports_or_refuses_whitespace_tokens(tmp_path: Path, texts: list[str], name: str) -> None:
    tokenizer = train_bpe(texts[:40], 1000, tmp_path, whitespace_tokens=True)
    encoder = load_encoder(tokenizer, name)
    assert (encoder is None) == (name == "tiktoken")
    if encoder is not None:
        ids, lengths = encoder(texts)
        expected = tokenizer.encode_batch(texts)
        assert lengths.tolist() == [len(document) for document in expected]
        assert ids.tolist() == [number for document in expected for number in document]


def test_accelerated_encoders_support_polycoders_vocabulary(test_data: Path, texts: list[str]) -> None:
    files = [test_data / "polycoder-vocab" / name for name in ("code-vocab.json", "code-merges.txt")]
    held = [text.replace("\r", "\n") for text in texts]
    for reader in ("whole", "gpt-neox"):
        tokenizer = GPT2Tokenizer.from_files(*files, merge_file_reader=reader)
        for name in ("gigatoken", "tiktoken"):
            encoder = load_encoder(tokenizer, name)
            assert encoder is not None or (name, reader) == ("tiktoken", "gpt-neox")
            if encoder is not None:
                assert encoder(held)[0].tolist() == [number for text in held for number in tokenizer.encode(text)]
