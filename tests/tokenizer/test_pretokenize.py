from collections import Counter
from pathlib import Path

import pytest
import regex

from neox_code.errors import DataError
from neox_code.tokenizer import count_pretokens
from neox_code.tokenizer.pretokenize import Pretokenizer
from neox_code.tokenizer.sample_file import SampleFile

GPT2_PATTERN = regex.compile(r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""")


def count_with_regex(texts: list[str]) -> Counter[bytes]:
    return Counter(word.encode() for text in texts for word in GPT2_PATTERN.findall(text))


def test_pretokens_equal_gpt2s_pattern_and_are_counted_over_all_texts(tmp_path: Path, texts: list[str]) -> None:
    with (
        SampleFile(tmp_path / "a.sample", texts) as sample,
        SampleFile(tmp_path / "a.excerpt", ["x y", "y"]) as excerpt,
        Pretokenizer([sample.path, excerpt.path]) as pretokenizer,
    ):
        words, few = pretokenizer.read_counts()
    assert list(tmp_path.iterdir()) == []
    for found, expected in ((words, count_with_regex(texts)), (few, Counter([b"x", b" y", b"y"]))):
        assert found.data[:1] == found.data[-1:] == b"\xff"
        assert dict(zip(found.data[1:-1].split(b"\xff"), found.counts.tolist(), strict=True)) == expected


@pytest.mark.parametrize("block_bytes", [1, 1000, 2**30])
def test_counts_do_not_depend_on_the_block_size(
    tmp_path: Path, texts: list[str], block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(count_pretokens, "BLOCK_BYTES", block_bytes)
    few = texts[-8:] if block_bytes > 1 else ["ab cd", "  cd", "d"]
    with SampleFile(tmp_path / "sample", few) as sample:
        assert count_pretokens.count_pretokens(sample.path) == count_with_regex(few)


def test_a_failed_process_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match="counting pretokens failed with exit status 1: FileNotFoundError"),
        Pretokenizer([tmp_path / "absent"]) as pretokenizer,
    ):
        pretokenizer.read_counts()
    assert list(tmp_path.iterdir()) == []
