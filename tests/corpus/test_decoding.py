import codecs
import random
import sysconfig
from pathlib import Path

import pytest

from neox_code.corpus.decoding import decode_detected, decode_ignoring, is_binary, newlines_of

LIBRARY = Path(sysconfig.get_path("stdlib"))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_is_read_by_its_mark_and_the_mark_left_out(encoding):
    mark = codecs.BOM_UTF16_LE if encoding.endswith("le") else codecs.BOM_UTF16_BE
    assert decode_detected(mark + "x = 'é'\r\n".encode(encoding)) == ("x = 'é'\r\n", "utf-16")


def test_half_a_character_of_utf16_is_no_text():
    assert decode_detected(codecs.BOM_UTF16_LE + b"a\0b") == (None, "binary")


def test_utf32_is_no_text():
    assert decode_detected("text".encode("utf-32")) == (None, "binary")


def test_every_byte_has_a_character_in_the_fall_back():
    content = bytes(range(160, 256)) * 3
    assert decode_detected(content) == (content.decode("latin-1"), "latin-1")


def test_a_nul_makes_a_file_binary_where_git_looks_for_it():
    text = b"x = 1\n" * 2_000
    assert is_binary(text[:7_999] + b"\0" + text) and not is_binary(text[:8_000] + b"\0")


def test_random_bytes_without_a_nul_are_binary():
    generator = random.Random(1)
    assert all(is_binary(bytes(generator.choices(range(1, 256), k=400))) for _ in range(200))


def test_texts_of_the_standard_library_are_utf8_and_its_compiled_files_binary():
    sources = sorted(LIBRARY.glob("*.py"))
    assert sources and all(decode_detected(path.read_bytes())[1] == "utf-8" for path in sources)
    compiled = sorted((LIBRARY / "__pycache__").glob("*.pyc"))
    assert all(decode_detected(path.read_bytes()) == (None, "binary") for path in compiled[:50])


def test_form_feeds_and_escapes_are_text():
    assert not is_binary(b"\f\x1b[0m\b" * 10)


def test_ignoring_errors_reads_as_python_does(tmp_path):
    content = b"\xef\xbb\xbfa = '\xff\xc3\xa9\xc3'\r\n"
    path = tmp_path / "x.py"
    path.write_bytes(content)
    with path.open(encoding="utf-8", errors="ignore", newline="") as file:
        assert decode_ignoring(content) == (file.read(), "utf-8 with errors")


@pytest.mark.parametrize(
    ("content", "newlines"),
    [
        (b"a\n\r\n", "mixed"),
        (b"a\r\nb\r", "mixed"),
        (b"a\n\rb", "mixed"),
        (b"a\r\n", "crlf"),
        ("a\r\nb\r\n".encode("utf-16"), "crlf"),
        ("a\nb\u0d0d".encode("utf-16"), "lf"),
        (b"no line end", "lf"),
    ],
)
def test_line_ends_are_told_apart(content, newlines):
    assert newlines_of(content) == newlines
