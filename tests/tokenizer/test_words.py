from collections import Counter
from pathlib import Path

import pytest
import regex

from neox_code.errors import DataError
from neox_code.tokenizer import word_counting
from neox_code.tokenizer.sample_file import SampleFile
from neox_code.tokenizer.words import WordCounter

GPT2_PATTERN = regex.compile(r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""")


def counted(texts: list[str]) -> Counter[bytes]:
    return Counter(word.encode() for text in texts for word in GPT2_PATTERN.findall(text))


def test_words_are_gpt2s_and_counted_over_all_texts(tmp_path: Path, texts: list[str]) -> None:
    with (
        SampleFile(tmp_path / "a.sample", texts) as sample,
        SampleFile(tmp_path / "a.excerpt", ["x y", "y"]) as excerpt,
        WordCounter([sample.path, excerpt.path]) as counter,
    ):
        words, few = counter.words()
    assert list(tmp_path.iterdir()) == []
    for found, expected in ((words, counted(texts)), (few, Counter([b"x", b" y", b"y"]))):
        assert found.data[:1] == found.data[-1:] == b"\xff"
        assert dict(zip(found.data[1:-1].split(b"\xff"), found.counts.tolist(), strict=True)) == expected


@pytest.mark.parametrize("block_bytes", [1, 1000, 2**30])
def test_a_text_is_counted_whole_whatever_is_read_at_once(
    tmp_path: Path, texts: list[str], block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_counting, "BLOCK_BYTES", block_bytes)
    few = texts[-8:] if block_bytes > 1 else ["ab cd", "  cd", "d"]
    with SampleFile(tmp_path / "sample", few) as sample:
        assert word_counting.count_words(sample.path) == counted(few)


def test_an_ended_process_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match="counting words ended with status 1 and said: FileNotFoundError"),
        WordCounter([tmp_path / "absent"]) as counter,
    ):
        counter.words()
    assert list(tmp_path.iterdir()) == []
