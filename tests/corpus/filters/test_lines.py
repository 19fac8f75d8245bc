import random

import pytest

from neox_code.corpus.filters.lines import (
    MaxCharactersPerNewline,
    MaxLineLength,
    MaxLines,
    MeanLineLength,
    count_lines,
    longest_line_exceeds,
)
from neox_code.corpus.filters.protocol import Candidate


def candidate(text, language="JavaScript"):
    return Candidate("x.js", language, len(text.encode()), text)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_those_of_splitlines(end):
    generator = random.Random(3)
    for _ in range(300):
        lines = ["x" * generator.choice([0, 1, 4, 9, 10, 11, 12, 25]) for _ in range(generator.randrange(1, 8))]
        text = end.join(lines) + generator.choice(["", end])
        parts = text.splitlines()
        assert count_lines(text) == len(parts)
        assert longest_line_exceeds(text, 10) == any(len(part) > 10 for part in parts), repr(text)
        if parts:
            too_long = sum(map(len, parts)) / len(parts) > 5
            assert (MeanLineLength(5).keep(candidate(text)) is not True) == too_long, repr(text)


def test_limits_include_their_bounds():
    assert MaxLines(2).keep(candidate("a\nb\n")) is True
    assert MaxLineLength(3).keep(candidate("abc\r\nabc")) is True
    assert MeanLineLength(2).keep(candidate("abc\na\n")) is True


def test_exempt_languages_pass():
    text = "x" * 5_000
    assert MaxLineLength(1_000, exempt=("JSON",)).keep(candidate(text, "JSON")) is True
    assert MeanLineLength(100, exempt=("JSON",)).keep(candidate(text, "JSON")) is True
    assert MaxLineLength(1_000, exempt=("JSON",)).keep(candidate(text)) == "line over 1,000 characters"


def test_characters_per_newline_are_counted_as_by_code_clippy():
    for text in ("x" * 199 + "\n", "x" * 200 + "\n", "x" * 201 + "\n", "x", ""):
        kept = not (len(text) / (text.count("\n") + 0.001) > 200)
        assert (MaxCharactersPerNewline(200).keep(candidate(text)) is True) == kept
