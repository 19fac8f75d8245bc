# ruff: noqa: RUF001

import codecs
import random
import sysconfig
from pathlib import Path

import pytest

from neox_code.corpus.languages.text_encoding import decode_ignoring_errors, detect_and_decode, detect_newlines, is_binary

LIBRARY = Path(sysconfig.get_path("stdlib"))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_with_a_byte_order_mark_is_decoded_without_the_mark(encoding):
    mark = codecs.BOM_UTF16_LE if encoding.endswith("le") else codecs.BOM_UTF16_BE
    assert detect_and_decode(mark + "x = 'é'\r\n".encode(encoding)) == ("x = 'é'\r\n", "utf-16")


def test_truncated_utf16_is_binary():
    assert detect_and_decode(codecs.BOM_UTF16_LE + b"a\0b") == (None, "binary")


@pytest.mark.parametrize("encoding", ["utf-32", "utf-16-le", "utf-16-be"])
def test_utf32_with_a_mark_and_utf16_without_one_are_decoded(encoding):
    text = "def name(first):\n    return first  # café, 日本\n"
    assert detect_and_decode(text.encode(encoding)) == (text, encoding[:6])


def test_arrays_of_small_numbers_are_not_utf16():
    assert detect_and_decode(bytes(byte for number in range(1, 200) for byte in (number % 30, 0))) == (None, "binary")


def test_repeated_byte_order_marks_are_removed():
    assert detect_and_decode("\ufeff\ufeffint x;\n".encode()) == ("int x;\n", "utf-8")


CODE = "int main(void) {\n    return 0;\n}\n"
COMMENTS = {
    "latin-1": (
        "// Gibt die Größe zurück",
        "// Crée un élément à vérifier",
        "// Español: función, año",
        "// ©2010 Müller, José, Søren",
    ),
    "cp1252": ("// “quoted” – it’s 5 €",),
    "cp1250": ("// Zwraca długość łańcucha, ścieżka", "// příliš žluťoučký kůň"),
    "iso8859-2": ("// Zwraca długość łańcucha, ścieżka", "// příliš žluťoučký kůň"),
    "cp1251": ("// Возвращает сумму двух чисел", "// данные"),
    "koi8-r": ("// Возвращает сумму двух чисел", "// ВНИМАНИЕ"),
    "cp866": ("// Инициализация соединения с базой данных",),
    "gb18030": ("// 返回两个数的和", "// 用户管理类，负责用户的创建和删除"),
    "big5": ("// 返回兩個數的總和", "// 使用者管理類別，負責建立與刪除"),
    "cp932": ("// 二つの数の合計を返す", "// エラー：ファイルが見つかりません"),
    "euc-jp": ("// データベース接続を初期化する", "// ユーザー管理クラス"),
    "cp949": ("// 두 수의 합을 반환한다", "// 오류: 파일을 찾을 수 없습니다"),
}


@pytest.mark.parametrize(
    ("encoding", "comment"), [(encoding, comment) for encoding, found in COMMENTS.items() for comment in found]
)
def test_a_legacy_encoding_is_recognized_by_one_comment(encoding, comment):
    text = f"{comment}\n{CODE}"
    assert detect_and_decode(text.encode(encoding))[0] == text


@pytest.mark.parametrize(
    ("declaration", "encoding"),
    [
        ("# -*- coding: koi8-r -*-", "koi8-r"),
        ("# vim: set fileencoding=shift_jis :", "shift_jis"),
        ('<meta charset="euc-kr">', "euc_kr"),
        ('<?xml version="1.0" encoding="iso-8859-7"?>', "iso8859-7"),
        ("# -*- coding: latin-1-unix -*-", "iso8859-1"),
    ],
)
def test_the_declared_encoding_is_used(declaration, encoding):
    text = f"{declaration}\n" + {"iso8859-7": "Ω", "iso8859-1": "é"}.get(encoding, "у" if encoding == "koi8-r" else "")
    assert detect_and_decode(text.encode(encoding)) == (text, encoding if not text.isascii() else "utf-8")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("# 二つの数の合計を返す\nx = 1  # ~{ + ~}\n", "iso2022_jp"),
        ("# エラー ｶﾅ\n", "iso2022_jp_ext"),
        ("# 们 漢字 é\n", "iso2022_jp_2"),
        ("# 두 수의 합을 반환한다\nx = 1\n", "iso2022_kr"),
        ("# 返回两个数的和\nx = ~y\n", "hz"),
        ("# coding: hz\n# 嗄\n", "hz"),
        ("# coding: utf-7\nx = 'naïve + ü'\n", "utf-7"),
    ],
)
def test_encodings_of_7_bits_are_decoded(text, encoding):
    content = text.encode(encoding)
    assert content.isascii() and detect_and_decode(content) == (text, encoding)


def test_text_in_an_encoding_of_7_bits_that_cannot_be_decoded_is_dropped():
    for content in (b"# \x1b$)A\x0e=;;;\x0f\n", b"# \x1b$B!!\x1b[31m\x1b$BF\n", b"\x1b$B\x21", b"# coding: utf-7 \x1b$)A\n+2AA-"):
        assert detect_and_decode(content) in ((None, "unknown"), (None, "binary"))


@pytest.mark.parametrize(
    "code",
    ["x = theta+AOA-1\n", "print('\x1b[31m$B\x1b[0m')\n", "y = ~{1: 2}\nz = '~}'\n", "case ~{abcd~}: a+b-c\n", "$x = ~$y;\n"],
)
def test_ascii_code_that_resembles_an_encoding_of_7_bits_stays(code):
    assert detect_and_decode(code.encode()) == (code, "utf-8")


@pytest.mark.parametrize("declared", ["rot13", "unicode_escape", "utf-7", "nonsense", "ascii", "utf-16", "utf-32-le", "cp037"])
def test_a_declared_codec_that_is_not_a_file_encoding_is_ignored(declared):
    assert detect_and_decode(f"# coding: {declared}\n# café\n".encode("latin-1")) == (f"# coding: {declared}\n# café\n", "latin-1")


@pytest.mark.parametrize(
    "content",
    [
        "# é ü ö à\n".encode() + b"# caf\xe9\n",  # two encodings in one file
        "// ελληνικά\n".encode("iso8859-7"),
        b"x = 'a'  # \xed\xa0\x80\n",  # a lone surrogate
        bytes(range(160, 256)) * 3,
    ],
)
def test_content_in_no_known_encoding_is_not_text(content):
    assert detect_and_decode(content) == (None, "unknown")


def test_a_nul_anywhere_makes_a_file_binary():
    text = b"x = 1\n" * 2_000
    assert not is_binary(text) and all(is_binary(text[:place] + b"\0" + text) for place in (0, 7_999, 8_000, 11_999))


def test_random_bytes_without_a_nul_are_binary():
    generator = random.Random(1)
    assert all(is_binary(bytes(generator.choices(range(1, 256), k=400))) for _ in range(200))


def test_texts_of_the_standard_library_are_utf8_and_its_compiled_files_binary():
    sources = sorted(LIBRARY.glob("*.py"))
    assert sources and all(detect_and_decode(path.read_bytes())[1] == "utf-8" for path in sources)
    compiled = sorted((LIBRARY / "__pycache__").glob("*.pyc"))
    assert all(detect_and_decode(path.read_bytes()) == (None, "binary") for path in compiled[:50])


def test_form_feeds_and_escapes_are_text():
    assert not is_binary(b"\f\x1b[0m\b" * 10)


def test_decode_ignoring_equals_pythons_errors_ignore(tmp_path):
    content = b"\xef\xbb\xbfa = '\xff\xc3\xa9\xc3'\r\n"
    path = tmp_path / "x.py"
    path.write_bytes(content)
    with path.open(encoding="utf-8", errors="ignore", newline="") as file:
        assert decode_ignoring_errors(content) == (file.read(), "utf-8 with errors")


@pytest.mark.parametrize(
    ("text", "newlines"),
    [
        ("a\n\r\n", "mixed"),
        ("a\r\nb\r", "mixed"),
        ("a\n\rb", "mixed"),
        ("a\r\n", "crlf"),
        ("no line end", "lf"),
    ],
)
def test_line_ends_are_classified(text, newlines):
    assert detect_newlines(text) == newlines
