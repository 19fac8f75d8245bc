import pickle

import numpy as np
import pytest

from neox_code.errors import DataError
from neox_code.tokenizer.char_level import CharLevelTokenizer


def test_ids_equal_gpt_neox_and_text_without_special_bytes_round_trips(texts: list[str]) -> None:
    tokenizer = pickle.loads(pickle.dumps(CharLevelTokenizer()))
    held = [text for text in texts if not {"\0", "\1"} & set(text)]
    assert len(held) > 0.9 * len(texts)
    for text, ids in zip(held, tokenizer.encode_batch(held), strict=True):
        assert ids == np.frombuffer(text.encode(), dtype=np.uint8).tolist()
        assert tokenizer.decode(ids) == text
    assert (tokenizer.vocab_size, tokenizer.eod_id, tokenizer.pad_id) == (512, 0, 1)


def test_special_bytes_are_refused_and_unused_ids_decode() -> None:
    tokenizer = CharLevelTokenizer()
    with pytest.raises(DataError, match=r"byte 0x01, which is the id of <\|padding\|>"):
        tokenizer.encode_batch(["fine", "a\1"])
    with pytest.raises(DataError, match="lone surrogate"):
        tokenizer.encode("\ud800")
    assert tokenizer.decode([0, 10, 97, 233 + 256, 1]) == f"<|endoftext|>\na{chr(489)}<|padding|>"
    with pytest.raises(DataError, match="id 512 is not in CharLevelTokenizer"):
        tokenizer.decode([512])
