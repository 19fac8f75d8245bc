import json
import logging
from pathlib import Path

import pytest

from neox_code.config.data import DataConfig
from neox_code.config.fields import list_choices
from neox_code.errors import DataError
from neox_code.tokenizer.gpt2 import GPT2Tokenizer
from neox_code.tokenizer.huggingface import HFTokenizer
from neox_code.tokenizer.registry import TOKENIZERS, build_tokenizer
from neox_code.tokenizer.train_bpe import MERGE_FILE, TOKENIZER_FILE, VOCAB_FILE


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("neox_code"), "propagate", True)
    return caplog


def test_each_tokenizer_type_is_built_from_its_keys(vocabulary: Path, warnings: pytest.LogCaptureFixture) -> None:
    gpt2 = build_tokenizer(
        DataConfig(
            tokenizer_type="GPT2BPETokenizer", vocab_file=str(vocabulary / VOCAB_FILE), merge_file=str(vocabulary / MERGE_FILE)
        )
    )
    huggingface = build_tokenizer(DataConfig(tokenizer_type="HFTokenizer", vocab_file=str(vocabulary / TOKENIZER_FILE)))
    assert isinstance(gpt2, GPT2Tokenizer)
    assert isinstance(huggingface, HFTokenizer)
    assert gpt2.encode("def f():") == huggingface.encode("def f():")
    assert not warnings.records


def test_tokenizer_type_choices_equal_the_registry() -> None:
    assert set(list_choices("tokenizer_type")) == set(TOKENIZERS)


def test_the_merge_file_reader_of_the_section_is_used(vocabulary: Path) -> None:
    section = DataConfig(
        vocab_file=str(vocabulary / VOCAB_FILE), merge_file=str(vocabulary / MERGE_FILE), merge_file_reader="gpt-neox"
    )
    assert build_tokenizer(section).identity["merge_file_reader"] == "gpt-neox"


def test_a_merge_file_without_version_line_is_logged(vocabulary: Path, tmp_path: Path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(logging.getLogger("neox_code"), "propagate", True)
    caplog.set_level(logging.INFO, "neox_code")
    header, _, merges = (vocabulary / MERGE_FILE).read_text(encoding="utf-8").partition("\n")
    assert header.startswith("#version")
    (tmp_path / MERGE_FILE).write_text(merges, encoding="utf-8")
    files = {"vocab_file": str(vocabulary / VOCAB_FILE), "merge_file": str(tmp_path / MERGE_FILE)}
    build_tokenizer(DataConfig(**files))
    assert "has no #version line" in caplog.text and "merge_file_reader" in caplog.text
    caplog.clear()
    build_tokenizer(DataConfig(**files, merge_file_reader="gpt-neox"))
    assert "#version" not in caplog.text


def test_a_tokenizer_that_changes_text_is_logged(vocabulary: Path, tmp_path: Path, warnings: pytest.LogCaptureFixture) -> None:
    description = json.loads((vocabulary / TOKENIZER_FILE).read_text(encoding="utf-8"))
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(description | {"normalizer": {"type": "NFC"}}), encoding="utf-8")
    build_tokenizer(DataConfig(tokenizer_type="HFTokenizer", vocab_file=str(path)))
    assert "does not decode every text exactly" in warnings.text


def test_char_level_tokenizer_needs_no_vocabulary_file() -> None:
    assert build_tokenizer(DataConfig(tokenizer_type="CharLevelTokenizer")).encode("a") == [97]


@pytest.mark.parametrize("tokenizer_type", [name for name in TOKENIZERS if name not in ("CharLevelTokenizer", "TiktokenTokenizer")])
def test_an_unset_or_missing_vocab_file_is_an_error_with_its_key(tokenizer_type: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"vocab_file is not set, but tokenizer_type {tokenizer_type} needs it"):
        build_tokenizer(DataConfig(tokenizer_type=tokenizer_type))
    with pytest.raises(DataError, match=r"vocab_file \(.*absent\) is not a file"):
        build_tokenizer(DataConfig(tokenizer_type=tokenizer_type, vocab_file=str(tmp_path / "absent")))


def test_an_unset_merge_file_is_an_error_with_its_key(vocabulary: Path) -> None:
    with pytest.raises(DataError, match="merge_file is not set"):
        build_tokenizer(DataConfig(vocab_file=str(vocabulary / VOCAB_FILE)))
