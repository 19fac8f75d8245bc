"""Filters by the kinds of characters in a text. A letter is a letter of Unicode, in any script."""

import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from neox_code.corpus.filters.protocol import Candidate

NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
LETTERS = string.ascii_letters.encode()
DIGITS = string.digits.encode()


@dataclass(frozen=True)
class AlphanumericFraction:
    """Keep a file if at least this share of its characters are letters or digits.

    >>> AlphanumericFraction(0.25).keep(Candidate("x.c", "C", 8, "{{{{a1}}"))
    True
    >>> AlphanumericFraction(0.25).keep(Candidate("x.c", "C", 8, "{{{{{a}}"))
    'under 25% alphanumeric'
    """

    minimum: float
    name = "alphanumeric fraction"

    def keep(self, file: Candidate) -> Literal[True] | str:
        found = count_characters_in(file.text, LETTERS + DIGITS, str.isalnum)
        return found >= self.minimum * len(file.text) or f"under {self.minimum:.0%} alphanumeric"


@dataclass(frozen=True)
class AlphabeticFraction:
    """Keep a file if at least this share of its characters are letters.

    >>> AlphabeticFraction(0.25).keep(Candidate("x.c", "C", 9, "{1, 2, 3}"))
    'under 25% alphabetic'
    """

    minimum: float
    exempt: tuple[str, ...] = ()
    """Languages whose files are always kept."""
    name = "alphabetic fraction"

    def keep(self, file: Candidate) -> Literal[True] | str:
        if file.language in self.exempt:
            return True
        found = count_characters_in(file.text, LETTERS, str.isalpha)
        return found >= self.minimum * len(file.text) or f"under {self.minimum:.0%} alphabetic"


@dataclass(frozen=True)
class MaxDigits:
    """Keep a file if at most this share of its characters are the digits 0 to 9.

    >>> MaxDigits(0.8).keep(Candidate("x.txt", "Text", 6, "12345\\n"))
    'over 80% digits'
    """

    maximum: float
    name = "share of digits"

    def keep(self, file: Candidate) -> Literal[True] | str:
        return count_characters_in(file.text, DIGITS, None) <= self.maximum * len(file.text) or f"over {self.maximum:.0%} digits"


def count_characters_in(text: str, ascii_members: bytes, is_member: Callable[[str], bool] | None) -> int:
    """Return the number of characters that are in a set: the ASCII characters `ascii_members`, and others if `is_member` is true.

    >>> count_characters_in("naïve 2²", LETTERS + DIGITS, str.isalnum), count_characters_in("naïve", DIGITS, None)
    (7, 0)
    """
    plain = text.encode("ascii", "ignore")
    members = len(plain) - len(plain.translate(None, ascii_members))
    if is_member is not None and len(plain) < len(text):
        members += sum(map(is_member, "".join(NOT_ASCII.findall(text))))
    return members
