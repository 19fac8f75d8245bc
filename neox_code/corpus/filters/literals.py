"""Filters for literals that are data, not code: long runs of digits, Base64, escaped bytes, and lists of numbers.

LongLiterals().edit(file)        removes long literals from the text
NoLongLiterals().keep(file)      drops a file with a long literal, as the Kotlin project does
EncodedData(1024, 0.5)           drops a file with much encoded data, as The Stack v2 does
"""

import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from neox_code.corpus.filters.lines import longest_line_exceeds
from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.filters.runs import RunKind, has_run

DIGITS = RunKind(string.digits)
BASE64 = RunKind(string.ascii_letters + string.digits + "+/=")
BYTES = RunKind(string.hexdigits + "\\x")
NUMBERS = RunKind(string.hexdigits + "xXuUlLfF,.-+ \t\r\n")

NUMBER = r"[-+]?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)[uUlLfF]*"
LIST = re.compile(rf"(?<![\w.)]){NUMBER}(?:\s*,\s*{NUMBER})*+(?:\s*,)?\s*")


@dataclass(frozen=True)
class LongLiterals:
    """Remove Base64, escaped bytes and lists of numbers, but keep the quotes and brackets around them. Replace long numbers by 0.

    >>> blob = "iVBORw0KGgoAAAANSUhEUg" * 10
    >>> LongLiterals().edit(Candidate("x.kt", "Kotlin", 1, f'val icon = "{blob}"\\nval n = 12'))
    'val icon = ""\\nval n = 12'
    >>> LongLiterals(numbers=3).edit(Candidate("x.c", "C", 1, "int a[] = {1, 0x2,\\n  3};"))
    'int a[] = {};'
    """

    digits: int = 40
    """Minimum number of digits of a number that is replaced."""
    characters: int = 200
    """Minimum number of characters of Base64 or escaped bytes that are removed."""
    numbers: int = 256
    """Minimum number of numbers in a list that is removed."""
    name = "long literals removed"

    def edit(self, file: Candidate) -> str:
        """Return the text without long literals."""
        text = file.text
        encoded = text.encode("utf-8", "replace")
        if has_run(encoded, BASE64, self.characters):
            text = re.sub(rf"[A-Za-z0-9+/]{{{self.characters},}}={{0,2}}", "", text)
        if has_run(encoded, DIGITS, self.digits):
            text = re.sub(rf"[0-9]{{{self.digits},}}", "0", text)
        if has_run(encoded, BYTES, self.characters):
            text = re.sub(rf"(?:\\x[0-9a-fA-F]{{2}}){{{-(-self.characters // 4)},}}", "", text)
        if has_run(encoded, NUMBERS, 2 * self.numbers - 1):
            text = LIST.sub(self._replace_list, text)
        return text

    def _replace_list(self, found: re.Match[str]) -> str:
        closed = found.string[found.end() : found.end() + 1] in ("]", ")", "}", "")
        numbers = found[0].rstrip(", \t\r\n").count(",") + 1
        return "" if closed and numbers >= self.numbers else found[0]


@dataclass(frozen=True)
class NoLongLiterals:
    """Drop a file with a run of 40 digits or of 200 characters without a space, the Kotlin project's thresholds.

    >>> NoLongLiterals().keep(Candidate("x.kt", "Kotlin", 1, "val n = " + "1" * 40))
    '40 digits in a row'
    """

    digits: int = 40
    characters: int = 200
    name = "no long literals"

    def keep(self, file: Candidate) -> Literal[True] | str:
        if has_run(file.text.encode("utf-8", "replace"), DIGITS, self.digits):
            return f"{self.digits} digits in a row"
        if longest_line_exceeds(file.text, self.characters - 1) and re.search(rf"\S{{{self.characters}}}", file.text):
            return f"{self.characters} characters without a space"
        return True


@dataclass(frozen=True)
class EncodedData:
    """Drop a file with much encoded data: runs of Base64, hexadecimal or escaped Unicode.

    A file is dropped if one run has more than `longest` characters, or if all runs are more than `fraction` of the text.

    Expressions and thresholds are those of The Stack v2 (Lozhkov et al. 2024, section 2.1).

    >>> EncodedData(1024, 0.5).keep(Candidate("x.h", "C", 1, "char data[] = {" + "0x1f," * 300 + "};"))
    'encoded data'
    """

    longest: int
    fraction: float
    name = "encoded data"

    def keep(self, file: Candidate) -> Literal[True] | str:
        total = 0
        encoded = file.text.encode("utf-8", "replace")
        for expression, may_match in ENCODED:
            if may_match(encoded):
                lengths = [len(found[0]) for found in expression.finditer(file.text)]
                if max(lengths, default=0) > self.longest:
                    return "encoded data"
                total += sum(lengths)
        return total <= self.fraction * len(file.text) or "encoded data"


SPACE_OR_NOT_ASCII = bytes(byte for byte in range(256) if byte >= 128 or chr(byte).isspace())
PAIRS = RunKind(string.hexdigits + "\\x,", SPACE_OR_NOT_ASCII)
EIGHT_PAIRS = re.compile(rb"(?:(?:0x|\\x)?[0-9a-fA-F]{2},?){8}")


def has_eight_hex_pairs(encoded: bytes) -> bool:
    """Return True if the text has eight pairs of hexadecimal digits in a row. White space is ignored."""
    kinds, without_space = encoded.translate(PAIRS.table, PAIRS.ignored), None
    start = kinds.find(b"x" * 16)
    while start >= 0:
        end = kinds.find(b" ", start)
        end = len(kinds) if end < 0 else end
        without_space = encoded.translate(None, PAIRS.ignored) if without_space is None else without_space
        if EIGHT_PAIRS.search(without_space, start, end):
            return True
        start = kinds.find(b"x" * 16, end)
    return False


ENCODED: tuple[tuple[re.Pattern[str], Callable[[bytes], bool]], ...] = (
    (re.compile(r"[a-zA-Z0-9+/\n=]{64,}"), partial(has_run, kind=RunKind(BASE64.members + "\n"), length=64)),
    (re.compile(r"(?:\b(?:0x|\\x)?[0-9a-fA-F]{2}(?:,|\b\s*)){8,}"), has_eight_hex_pairs),
    (re.compile(r"(?:\\u[0-9a-fA-F]{4}){8,}"), partial(has_run, kind=RunKind(string.hexdigits + "\\u"), length=48)),
)
"""Pairs of an expression and a fast test. The expression is searched only in texts that pass the test."""
