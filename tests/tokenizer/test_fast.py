import json
import pickle
from pathlib import Path

import gigatoken
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import normalizers, pre_tokenizers

from neox_code.errors import DataError
from neox_code.tokenizer import fast
from neox_code.tokenizer.char_level import CharLevelTokenizer
from neox_code.tokenizer.fast import (
    CACHE_BYTES,
    ENCODERS,
    LONGEST_COMPARED,
    GatedEncoder,
    IdsDiffer,
    find_fastest_encoder,
    load_encoder,
)
from neox_code.tokenizer.gpt2 import GPT2Tokenizer
from neox_code.tokenizer.huggingface import HFTokenizer
from neox_code.tokenizer.train_bpe import TOKENIZER_FILE
from neox_code.tokenizer.train_sentencepiece import train_sentencepiece


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_returns_the_ids_of_the_tokenizers_library(
    gpt2: GPT2Tokenizer, vocabulary: Path, texts: list[str], name: str
) -> None:
    peer = Backend.from_file(str(vocabulary / TOKENIZER_FILE))
    peer.encode_special_tokens = True
    ids, lengths = GatedEncoder(gpt2, name).encode(texts, ["Python"] * len(texts))
    expected = [encoding.ids for encoding in peer.encode_batch(texts)]
    assert lengths.tolist() == list(map(len, expected))
    assert ids.tolist() == [number for document in expected for number in document]
    assert GatedEncoder(gpt2, name).encode([""], ["Python"])[1].tolist() == [0]


def test_first_texts_of_every_language_and_a_share_of_the_others_are_compared(gpt2: GPT2Tokenizer) -> None:
    encoder = GatedEncoder(gpt2, "gigatoken")
    batch = ["x" * 10_000] * 2000 + ["y = 1\n"]
    encoder.encode(batch, ["Python"] * 2000 + ["Go"])
    assert encoder.compared == fast.Compared(documents=8, characters=70_006, languages=2)
    encoder.encode(["z" * (LONGEST_COMPARED + 1)], ["Rust"])
    assert encoder.compared.documents == 8


def test_the_fastest_encoder_that_supports_the_vocabulary_is_found(
    gpt2: GPT2Tokenizer, tmp_path: Path, real_texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_fastest_encoder(gpt2) == "gigatoken"
    assert find_fastest_encoder(gpt2, after="gigatoken") == "tiktoken"
    assert find_fastest_encoder(CharLevelTokenizer()) == "plain"
    assert find_fastest_encoder(train_sentencepiece(real_texts[:20], 800, tmp_path)) == "plain"
    sound = ENCODERS["gigatoken"](gpt2)
    monkeypatch.setitem(ENCODERS, "gigatoken", lambda _: lambda texts: (sound(texts)[0] + 1, sound(texts)[1]))
    assert load_encoder(gpt2, "gigatoken") is None
    with pytest.raises(IdsDiffer, match="does not support the vocabulary"):
        GatedEncoder(gpt2, "gigatoken")


def test_gigatoken_is_reloaded_when_its_cache_has_grown(
    gpt2: GPT2Tokenizer, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0 < fast.read_resident_bytes() < 2**40
    loads = []
    load = gigatoken.Tokenizer.from_json
    monkeypatch.setattr(gigatoken.Tokenizer, "from_json", lambda written: loads.append(written) or load(written))
    sizes = iter([7, 7 + CACHE_BYTES, 8 + CACHE_BYTES, 9, 9 + CACHE_BYTES])
    monkeypatch.setattr(fast, "read_resident_bytes", lambda: next(sizes))
    encode = ENCODERS["gigatoken"](gpt2)
    expected = [number for ids in gpt2.encode_batch(texts) for number in ids]
    for number_of_loads in (1, 2, 2):
        assert encode(texts)[0].tolist() == expected
        assert len(loads) == number_of_loads


@pytest.mark.parametrize("change", ["normalizer", "digits", "prefix space"])
@pytest.mark.parametrize("name", ["gigatoken", "tiktoken"])
def test_another_pre_tokenizer_or_a_normalizer_is_applied_or_refused(
    vocabulary: Path, tmp_path: Path, texts: list[str], name: str, change: str
) -> None:
    backend = Backend.from_file(str(vocabulary / TOKENIZER_FILE))
    if change == "normalizer":
        backend.normalizer = normalizers.NFC()
    elif change == "digits":
        parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        backend.pre_tokenizer = pre_tokenizers.Sequence(parts)
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = HFTokenizer.from_file(tmp_path / "tokenizer.json")
    encoder = load_encoder(tokenizer, name)
    assert encoder is None or name == "gigatoken"
    if encoder is not None:
        assert encoder(texts)[0].tolist() == [number for ids in tokenizer.encode_batch(texts) for number in ids]


def test_text_that_the_vocabulary_cannot_represent_is_refused(gpt2: GPT2Tokenizer, tmp_path: Path) -> None:
    vocabulary = {token: number for number, token in enumerate(["<|endoftext|>", "a", "b", "ab"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("a b\n", encoding="utf-8")
    tokenizer = GPT2Tokenizer.from_files(tmp_path / "vocab.json", tmp_path / "merges.txt")
    for name in ENCODERS:
        encoder = GatedEncoder(tokenizer, name)
        assert encoder.encode(["abba"], ["C"])[0].tolist() == [3, 2, 1]
        with pytest.raises(DataError, match="byte 0x0D 1 times"):
            encoder.encode(["ab\r"], ["C"])
    with pytest.raises(DataError, match="lone surrogate"):
        GatedEncoder(gpt2, "gigatoken").encode(["\ud800"], ["C"])


def test_every_tokenizer_can_be_pickled(gpt2: GPT2Tokenizer, huggingface: HFTokenizer, tmp_path: Path, texts: list[str]) -> None:
    held = [text for text in texts[-14:] if not {"\0", "\1"} & set(text)]
    for tokenizer in (gpt2, huggingface, CharLevelTokenizer(), train_sentencepiece(texts[:20], 800, tmp_path)):
        copy = pickle.loads(pickle.dumps(tokenizer))
        assert copy.encode_batch(held) == tokenizer.encode_batch(held)
        assert copy.identity == tokenizer.identity
