import random
import time

import pytest
from linguist_samples import BY_CONTENT, BY_FIRST_OR_LAST_LINES
from pygments.lexers import get_lexer_by_name

from neox_code.corpus.languages.polycoder_names import LANGUAGES
from neox_code.corpus.linguist.detect import detect, find_by_name, guess_by_name
from neox_code.corpus.linguist.tables import LANGUAGE_TYPES

THE_LANGUAGES = (*LANGUAGES, "GDScript", "Kotlin")

OTHERWISE_IN_LINGUIST = {"*.C", "*.sage", "*.sc", "*.bzl", "BUCK", "BUILD", "BUILD.bazel", "WORKSPACE", "*.duby"}
"""Pygments' patterns that linguist has for another language: it puts names in lower case and knows Sage, Starlark and Mirah."""


@pytest.mark.parametrize(("path", "text", "language"), [*BY_CONTENT, *BY_FIRST_OR_LAST_LINES])
def test_content_selects_the_language_of_an_ambiguous_name(path, text, language):
    assert detect(f"src/{path}", text) == language


@pytest.mark.parametrize("language", THE_LANGUAGES)
def test_file_names_have_the_languages_of_pygments(language):
    patterns = set(get_lexer_by_name(language).filenames) - OTHERWISE_IN_LINGUIST
    names = [pattern.replace("*", "file") for pattern in patterns]
    known = [name for name in names if find_by_name(name)]
    assert known
    assert [name for name in known if language not in find_by_name(name)] == []


def test_the_longest_known_extension_is_used():
    assert find_by_name("a/index.html.erb") == ("HTML+ERB",)
    assert find_by_name("a/min.js") == find_by_name("a/x.min.js") == ("JavaScript",)
    assert find_by_name("a/CMakeLists.txt") == ("CMake",)
    assert find_by_name("a/.bashrc") == ("Shell",)
    assert find_by_name("a.py/LICENSE.xyz") == ()


def test_the_most_likely_language_is_guessed_from_a_name():
    names = ["a.h", "a.ts", "a.cs", "a.php", "a.rs", "a.pl", "a.m", "a.gd", "a.md", "a.inc", "a.xyz"]
    languages = ["C", "TypeScript", "C#", "PHP", "Rust", "Perl", "Objective-C", "GDScript", "Markdown", None, None]
    assert [guess_by_name(name) for name in names] == languages


def test_every_language_has_a_type():
    assert set(LANGUAGE_TYPES.values()) == {"programming", "markup", "data", "prose"}
    assert all(LANGUAGE_TYPES[language] == "programming" for language in THE_LANGUAGES)


@pytest.mark.parametrize(
    "unit", ["\n", "a ", "a:", " : ", "vim: ", "// vim: a=b:", "-*-", "-*- a: ", "template ", "class\n", ": ", "/*"]
)
def test_detection_is_fast_for_repetitive_texts(unit):
    text = unit * (50_000 // len(unit))
    start = time.process_time()
    for extension in (".h", ".cs", ".php", ".rs", ".pl", ".ls", ".txt"):
        detect(f"a{extension}", text)
    assert time.process_time() - start < 20, "of seconds; real code takes a thousandth"


def test_detection_raises_no_error_for_any_text():
    numbers = random.Random(7)
    pieces = [
        "\n",
        "\r",
        "\0",
        "#!",
        "-*-",
        "vim:",
        "ft=",
        "<?xml version=",
        "é",
        "\u2028",
        "class ",
        "use strict",
        "{",
        "*/",
        " ",
        "\\",
    ]
    for _ in range(500):
        text = "".join(numbers.choices(pieces, k=numbers.randrange(40)))
        for path in ("a", "a.h", "a.pl", "a.1", "Makefile", ".x", "a.", "é.inc", ""):
            assert detect(path, text) is None or detect(path, text) in LANGUAGE_TYPES
