import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from neox_code.errors import DataError
from neox_code.tokenizer.sentencepiece import SPMTokenizer

EXACT = {
    "normalization_rule_name": "identity",
    "byte_fallback": True,
    "remove_extra_whitespaces": False,
    "add_dummy_prefix": False,
    "control_symbols": ["<|endoftext|>", "<|padding|>"],
}

Trainer = Callable[..., Path]


@pytest.fixture(scope="module")
def train(real_texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    lines = [line for text in real_texts[:40] for line in text.split("\n") if line]

    def train_model(**options: Any) -> Path:
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=model, vocab_size=600, model_type="bpe", minloglevel=2, **options
        )
        path = tmp_path_factory.mktemp("sentencepiece") / "code.model"
        path.write_bytes(model.getvalue())
        return path

    return train_model


@pytest.fixture(scope="module")
def exact(train: Trainer) -> Path:
    return train(**EXACT)


def test_an_exact_model_round_trips_text(exact: Path, texts: list[str]) -> None:
    tokenizer = SPMTokenizer.from_file(exact)
    sample = texts[::6] + texts[-14:]
    for text, ids in zip(sample, tokenizer.encode_batch(sample), strict=True):
        assert tokenizer.decode_bytes(ids) == text.encode()
        assert tokenizer.decode(ids) == text
        assert not {tokenizer.eod_id, tokenizer.pad_id} & set(ids)


def test_ids_and_texts_equal_those_of_the_library(exact: Path, real_texts: list[str]) -> None:
    peer = sentencepiece.SentencePieceProcessor(model_file=str(exact))
    tokenizer = SPMTokenizer.from_file(exact)
    for text in real_texts[:20]:
        ids = tokenizer.encode(text)
        assert ids == peer.encode(text)
        assert tokenizer.decode(ids) == peer.decode(ids)


@pytest.mark.parametrize("text", ["▁", "x = '▁▂▃'  # ▁ ▁▁\n", " ▁ ", "▁▁▁" * 2000 + "y"])
def test_space_sign_in_a_text_round_trips(exact: Path, text: str) -> None:
    tokenizer = SPMTokenizer.from_file(exact)
    ids, around = tokenizer.encode_batch([text, "x = 1\n"])
    assert tokenizer.decode(ids) == text == sentencepiece.SentencePieceProcessor(model_file=str(exact)).decode(ids)
    assert around == tokenizer.encode("x = 1\n")


@pytest.mark.parametrize("option", [{"add_dummy_prefix": True}, {"byte_fallback": False}])
def test_space_sign_in_a_text_is_refused_without_byte_pieces(train: Trainer, option: dict[str, bool]) -> None:
    tokenizer = SPMTokenizer.from_file(train(**EXACT | option))
    with pytest.raises(DataError, match=r"the text contains U\+2581 \(▁\), which .*code\.model would read as a space"):
        tokenizer.encode_batch(["x", "y = '▁'"])


def test_special_pieces_decode_to_their_names(exact: Path) -> None:
    tokenizer = SPMTokenizer.from_file(exact)
    assert tokenizer.vocab_size == 600
    assert tokenizer.decode([tokenizer.eod_id, tokenizer.pad_id]) == "<|endoftext|><|padding|>"
    with pytest.raises(DataError, match="id 600 is not in"):
        tokenizer.decode([600])


def test_the_space_added_by_a_model_is_removed(train: Trainer) -> None:
    path = train(**EXACT | {"add_dummy_prefix": True})
    peer = sentencepiece.SentencePieceProcessor(model_file=str(path))
    tokenizer = SPMTokenizer.from_file(path)
    for text in ("def f():", "  x = 1", "\n"):
        assert tokenizer.decode(tokenizer.encode(text)) == text == peer.decode(peer.encode(text))


def test_end_of_sentence_piece_is_the_fallback_end_of_document(train: Trainer) -> None:
    tokenizer = SPMTokenizer.from_file(train(**EXACT | {"control_symbols": []}))
    assert (tokenizer.eod_id, tokenizer.pad_id) == (2, 2)
    with pytest.raises(DataError, match="nor an end-of-sentence piece"):
        SPMTokenizer.from_file(train(**EXACT | {"control_symbols": [], "eos_id": -1}))


def test_text_without_a_piece_is_refused(train: Trainer) -> None:
    tokenizer = SPMTokenizer.from_file(train(**EXACT | {"byte_fallback": False}))
    with pytest.raises(DataError, match="the text contains '☃'"):
        tokenizer.encode_batch(["x", "y = '☃'"])


def test_a_special_name_that_encodes_as_one_piece_is_refused(train: Trainer) -> None:
    tokenizer = SPMTokenizer.from_file(train(**EXACT | {"control_symbols": [], "user_defined_symbols": ["<|endoftext|>"]}))
    with pytest.raises(DataError, match="control symbols"):
        tokenizer.encode("x <|endoftext|>")


def test_missing_and_invalid_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        SPMTokenizer.from_file(tmp_path / "absent")
    (tmp_path / "other").write_text("no model", encoding="utf-8")
    with pytest.raises(DataError, match="not a SentencePiece model"):
        SPMTokenizer.from_file(tmp_path / "other")
