import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from transformers import GPT2TokenizerFast

from neox_code.errors import DataError
from neox_code.tokenizer.huggingface import HFGPT2Tokenizer, HFTokenizer
from neox_code.tokenizer.train_bpe import MERGE_FILE, TOKENIZER_FILE, VOCAB_FILE


def write_changed(vocabulary: Path, path: Path, **entries: Any) -> Path:
    """Write a copy of the tokenizer.json with other top-level entries."""
    description = json.loads((vocabulary / TOKENIZER_FILE).read_text(encoding="utf-8"))
    path.write_text(json.dumps(description | entries), encoding="utf-8")
    return path


def test_ids_equal_those_of_the_library_without_special_names(huggingface: HFTokenizer, vocabulary: Path, texts: list[str]) -> None:
    backend = Backend.from_file(str(vocabulary / TOKENIZER_FILE))
    plain = [text for text in texts if "<|" not in text][::5]
    assert len(plain) > 50
    assert huggingface.encode_batch(plain) == [encoding.ids for encoding in backend.encode_batch(plain)]


def test_special_names_are_encoded_as_text(huggingface: HFTokenizer, vocabulary: Path) -> None:
    assert Backend.from_file(str(vocabulary / TOKENIZER_FILE)).encode("<|endoftext|>").ids == [0]
    assert 0 not in huggingface.encode("<|endoftext|>")
    assert huggingface.decode(huggingface.encode("<|endoftext|>")) == "<|endoftext|>" == huggingface.decode([0])


def test_truncation_padding_and_post_processor_are_disabled(huggingface: HFTokenizer, vocabulary: Path, tmp_path: Path) -> None:
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}},
    }
    truncation = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    padding = {
        "strategy": {"Fixed": 64},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 1,
        "pad_type_id": 0,
        "pad_token": "<|padding|>",
    }
    path = write_changed(vocabulary, tmp_path / "tokenizer.json", post_processor=template, truncation=truncation, padding=padding)
    text = "def function(argument):\n    return argument\n"
    assert Backend.from_file(str(path)).encode(text).ids[0] == 0
    assert HFTokenizer.from_file(path).encode(text) == huggingface.encode(text)


def test_ordinary_added_tokens_round_trip(vocabulary: Path, tmp_path: Path) -> None:
    backend = Backend.from_file(str(vocabulary / TOKENIZER_FILE))
    backend.add_tokens(["\t\t", "µ-token é"])
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = HFTokenizer.from_file(tmp_path / "tokenizer.json")
    text = "\t\tx = 'µ-token é'"
    ids = tokenizer.encode(text)
    assert tokenizer.vocab_size == 2002
    assert {2000, 2001} <= set(ids)
    assert tokenizer.decode_bytes(ids) == text.encode()


def test_an_end_of_document_token_that_is_not_special_is_refused(vocabulary: Path, tmp_path: Path) -> None:
    added = json.loads((vocabulary / TOKENIZER_FILE).read_text(encoding="utf-8"))["added_tokens"]
    ordinary = [token | {"special": False} for token in added]
    with pytest.raises(DataError, match="inside a text as the token's id 0"):
        HFTokenizer.from_file(write_changed(vocabulary, tmp_path / "tokenizer.json", added_tokens=ordinary))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "has no `model`"),
        ("[1", "not valid JSON"),
        ('{"model": {"type": "BPE"}, "decoder": {"type": "Metaspace"}}', "has no byte-level vocabulary"),
        ('{"model": {"type": "Nonsense"}, "decoder": {"type": "ByteLevel"}}', "cannot be read by the tokenizers library"),
    ],
)
def test_invalid_tokenizer_json_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        HFTokenizer.from_file(path)


def test_pickling_changes_no_id(huggingface: HFTokenizer, texts: list[str]) -> None:
    copy = pickle.loads(pickle.dumps(huggingface))
    assert copy.encode_batch(texts[-20:]) == huggingface.encode_batch(texts[-20:])
    assert 0 not in copy.encode("<|endoftext|>")
    assert copy.identity == huggingface.identity


@pytest.fixture
def gpt2_folder(vocabulary: Path, tmp_path: Path) -> Path:
    """Folder with GPT-2's files and a vocabulary without a padding token."""
    tokens = json.loads((vocabulary / VOCAB_FILE).read_text(encoding="utf-8"))
    others = [token for token in tokens if token not in ("<|padding|>", "<|separator|>")]
    numbers = {token: number for number, token in enumerate(others)}
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2/vocab.json").write_text(json.dumps(numbers), encoding="utf-8")
    shutil.copy(vocabulary / MERGE_FILE, tmp_path / "gpt2/merges.txt")
    return tmp_path / "gpt2"


def test_hf_gpt2_tokenizer_adds_a_padding_token(gpt2_folder: Path, texts: list[str]) -> None:
    peer = GPT2TokenizerFast(vocab=str(gpt2_folder / "vocab.json"), merges=str(gpt2_folder / "merges.txt"))
    peer.add_special_tokens({"pad_token": "<|padding|>"})
    tokenizer = HFGPT2Tokenizer.from_path(gpt2_folder)
    assert (tokenizer.vocab_size, tokenizer.eod_id, tokenizer.pad_id) == (len(peer), peer.eos_token_id, peer.pad_token_id)
    assert (tokenizer.vocab_size, tokenizer.pad_id) == (1999, 1998)
    plain = [text for text in texts if "<|" not in text][::5]
    assert tokenizer.encode_batch(plain) == peer(plain)["input_ids"]
    assert tokenizer.decode(tokenizer.encode("<|padding|><|endoftext|>")) == "<|padding|><|endoftext|>"
    assert not {0, 1998} & set(tokenizer.encode("<|padding|><|endoftext|>"))
    peer.save_pretrained(gpt2_folder)
    for path in (gpt2_folder, gpt2_folder / "tokenizer.json"):
        assert HFGPT2Tokenizer.from_path(path).encode_batch(plain) == tokenizer.encode_batch(plain)


def test_a_missing_hf_gpt2_folder_is_refused_without_download(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gpt2 does not exist"):
        HFGPT2Tokenizer.from_path(tmp_path / "gpt2")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"vocab\.json does not exist"):
        HFGPT2Tokenizer.from_path(tmp_path / "empty")
