"""Prompts as they were written or typed, to the last byte."""

import pytest

from neox_code.errors import DataError
from neox_code.generation.prompts import parse_row, read_prompts, unescape


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (r"a\nb\tc", "a\nb\tc"),
        (r"print('\\n')", r"print('\n')"),
        (r"\\\n", "\\\n"),
        (r"\\\\n", r"\\n"),
        (r"\d \r \x41 \"", r"\d \r \x41 \""),
        ("\\", "\\"),
        ("\t  two spaces  ", "\t  two spaces  "),
    ],
)
def test_escapes_are_replaced_and_other_backslashes_kept(typed, meant):
    assert unescape(typed) == meant


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"  def f():\r\n\treturn 1\r\n", b"\xef\xbb\xbfx \r", "é\u2028\x0b\x00\n\n".encode()]
)
def test_the_whole_file_is_the_prompt_byte_for_byte(tmp_path, content):
    (tmp_path / "prompt").write_bytes(content)
    (prompt,) = read_prompts(tmp_path / "prompt")
    assert prompt.prompt.encode() == content


def test_prompt_end_separates_prompts_and_nothing_is_stripped(tmp_path, caplog):
    (tmp_path / "prompts").write_bytes(b" a \n\r\n---\tb\n------c ---")
    assert [item.prompt for item in read_prompts(tmp_path / "prompts", "---")] == [" a \n\r\n", "\tb\n", "c "]
    assert "prompts: 3, left out as empty: 1" in caplog.text


def test_a_file_of_only_separators_is_an_error(tmp_path):
    (tmp_path / "prompts").write_text("\n\n")
    with pytest.raises(DataError, match=r"has no prompt.*prompt_end \('\\n'\)"):
        read_prompts(tmp_path / "prompts", "\n")


def test_a_file_that_is_not_utf8_is_an_error_with_the_place(tmp_path):
    (tmp_path / "prompt").write_bytes(b"abc\n\xff\xfe")
    with pytest.raises(DataError, match="byte 0xFF at offset 4"):
        read_prompts(tmp_path / "prompt")


def test_a_missing_file_and_a_folder_without_files_are_errors(tmp_path):
    with pytest.raises(DataError, match="is not a file"):
        read_prompts(tmp_path / "missing")
    with pytest.raises(DataError, match="has no prompts"):
        read_prompts(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "place:1 is not valid JSON"),
        (b"7", "place:1 has no prompt"),
        (b'{"prompt": [1, "a"]}', "place:1 has no prompt"),
        (b'{"prompt": [1], "suffix": "a"}', "place:1 has a suffix, but the prompt or the suffix is not a text"),
        (b'{"prompt": "a", "top_k": -1}', r"top_k \(-1\) must be at least 0"),
        (b'{"prompt": "a", "maximum_tokens": "many"}', r"maximum_tokens \('many'\) must be a whole number"),
    ],
)
def test_a_row_that_is_not_a_prompt_is_an_error_with_its_place(line, message):
    with pytest.raises(DataError, match=message):
        parse_row(line, "place:1")
