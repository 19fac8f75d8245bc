import os
from pathlib import Path

import pytest
import sentencepiece

from neox_code.errors import DataError
from neox_code.tokenizer.train_sentencepiece import MODEL_FILE, train_sentencepiece


def test_trained_model_round_trips_and_has_special_tokens_first(tmp_path: Path, texts: list[str]) -> None:
    tokenizer = train_sentencepiece(texts[:60], 1500, tmp_path)
    assert (tokenizer.vocab_size, tokenizer.eod_id, tokenizer.pad_id) == (1500, 0, 1)
    assert tokenizer.decode([0, 1, 2]) == "<|endoftext|><|padding|><|separator|>"
    peer = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / MODEL_FILE))
    sample = texts[::8] + texts[-14:]
    for text, ids in zip(sample, tokenizer.encode_batch(sample), strict=True):
        assert tokenizer.decode(ids) == text
        assert ids == peer.encode(text)
        assert not {0, 1, 2, 3} & set(ids)
    assert [path.name for path in tmp_path.iterdir()] == [MODEL_FILE]


def test_whitespace_tokens_are_separate_pieces(tmp_path: Path, real_texts: list[str]) -> None:
    tokenizer = train_sentencepiece(real_texts[:20], 1000, tmp_path, whitespace_tokens=True)
    ids = tokenizer.encode("\t\tx" + " " * 14 + "=")
    assert [len(tokenizer.decode_bytes([number])) for number in ids] == [2, 1, 8, 4, 2, 1]


def test_the_same_texts_give_the_same_file_on_any_machine(
    tmp_path: Path, real_texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for cores in (1, 7):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        train_sentencepiece(real_texts[:20], 1000, tmp_path / str(cores))
    assert (tmp_path / "1" / MODEL_FILE).read_bytes() == (tmp_path / "7" / MODEL_FILE).read_bytes()


def test_a_too_small_sample_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains no text to learn"):
        train_sentencepiece([""], 1000, tmp_path)
    with pytest.raises(DataError, match=r"SentencePiece cannot learn 5,000 pieces .*smaller --vocab-size"):
        train_sentencepiece(["print(1)\n"], 5000, tmp_path)
    with pytest.raises(DataError, match=r"cannot learn 264 pieces .* than required_chars.*Choose a larger --vocab-size\.$"):
        train_sentencepiece(["print(1)\n"], 264, tmp_path, whitespace_tokens=True)
    with pytest.raises(DataError, match=r"vocab_size \(263\) must be at least 264"):
        train_sentencepiece(["print(1)\n"], 263, tmp_path, whitespace_tokens=True)
    assert list(tmp_path.iterdir()) == []
