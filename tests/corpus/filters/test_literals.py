import ast
import random
import re
import string

import pytest

from neox_code.corpus.filters.literals import ENCODED, EncodedData, LongLiterals, NoLongLiterals
from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.filters.runs import RunKind, find_lines_with_runs, has_run

ESCAPED = "".join(f"\\x{byte:02x}" for byte in range(256))


def candidate(text):
    return Candidate("x.py", "Python", len(text), text)


def test_python_with_its_long_literals_removed_still_parses():
    text = f"""
icon = "{"iVBORw0KGgo" * 30}=="
data = b"{ESCAPED}"
table = [{", ".join(map(hex, range(500)))},
]
weights = ({", ".join(f"-{number}.5e-3" for number in range(300))})
big = {"7" * 60}
name = "{"word " * 100}"
"""
    left = LongLiterals().edit(candidate(text))
    values = {statement.targets[0].id: ast.literal_eval(statement.value) for statement in ast.parse(left).body}
    assert values == {"icon": "", "data": b"", "table": [], "weights": (), "big": 0, "name": "word " * 100}


@pytest.mark.parametrize(
    "text",
    [
        "f(1, 2, 3)",
        "x = " + "9" * 39,
        "x = [" + "1, " * 255 + "]",
        "x = [" + "f(1), " * 300 + "]",
        "x = '" + "a" * 199 + "'",
        "# " + "-" * 500,
        "\\u30d5" * 100,
        "",
    ],
)
def test_short_literals_and_other_runs_stay(text):
    assert LongLiterals().edit(candidate(text)) == text


def test_no_long_literals_drops_the_files_that_the_kotlin_project_drops():
    pattern = re.compile(r"(\d{40,})|([^\s]{200,})")
    generator = random.Random(2)
    decisions = set()
    for _ in range(400):
        text = "".join(generator.choice(["1" * 39, "1", "x" * 150, "x", "\u00e9" * 60, " ", "\n", "\u00a0"]) for _ in range(6))
        kept = NoLongLiterals().keep(candidate(text)) is True
        assert kept == (pattern.search(text) is None), repr(text)
        decisions.add(kept)
    assert decisions == {True, False}


def test_encoded_data_gives_the_decision_of_its_plain_expressions():
    generator = random.Random(4)
    pieces = ["QUJD" * 20, "0x1f,", "ab cd ", r"\x4f", r"\u30d5" * 3, "word ", "\n", "1f\u00a0", "x = 1;\n", "\x1c"]
    decisions = set()
    for _ in range(3_000):
        weights = [generator.random() ** 4 for _ in pieces]
        text = "".join(generator.choices(pieces, weights, k=generator.randrange(1, 150)))
        lengths = [[len(found[0]) for found in expression.finditer(text)] for expression, _ in ENCODED]
        dropped = max(map(max, filter(None, lengths)), default=0) > 256 or sum(map(sum, lengths)) > 0.5 * len(text)
        assert (EncodedData(256, 0.5).keep(candidate(text)) == "encoded data") == dropped, repr(text)
        decisions.add(dropped)
    assert decisions == {True, False}


def test_runs_equal_the_matches_of_an_expression():
    generator = random.Random(6)
    kind = RunKind(string.digits)
    for _ in range(300):
        text = "".join(generator.choices("12a\n", k=40)).encode()
        assert has_run(text, kind, 5) == (re.search(rb"[0-9]{5}", text) is not None)
        lines = [text[start:end] for start, end in find_lines_with_runs(text, kind, 3)]
        assert lines == [line for line in text.split(b"\n") if re.search(rb"[0-9]{3}", line)]


def test_lists_that_are_kept_take_linear_time():
    text = "x = " + "1, " * 150_000 + "y\n" + "{" + "2, " * 200 + "f(1)},\n" * 500
    assert LongLiterals().edit(candidate(text)) == text
