"""Filters by the lines of a text. A line ends with LF or CRLF. In a text without any LF it ends with CR."""

from dataclasses import dataclass
from typing import Literal

from neox_code.corpus.filters.protocol import Candidate


@dataclass(frozen=True)
class MaxLines:
    """Keep a file of at most `limit` lines.

    >>> MaxLines(2).keep(Candidate("x.py", "Python", 6, "a\\nb\\nc\\n"))
    'over 2 lines'
    """

    limit: int
    name = "maximal number of lines"

    def keep(self, file: Candidate) -> Literal[True] | str:
        return count_lines(file.text) <= self.limit or f"over {self.limit:,} lines"


@dataclass(frozen=True)
class MaxLineLength:
    """Keep a file without a line of more than `limit` characters.

    >>> MaxLineLength(80).keep(Candidate("x.py", "Python", 84, "x" * 81 + "\\n\\n\\n"))
    'line over 80 characters'
    """

    limit: int
    exempt: tuple[str, ...] = ()
    """Languages whose files are always kept."""
    name = "maximal line length"

    def keep(self, file: Candidate) -> Literal[True] | str:
        too_long = file.language not in self.exempt and longest_line_exceeds(file.text, self.limit)
        return not too_long or f"line over {self.limit:,} characters"


@dataclass(frozen=True)
class MeanLineLength:
    """Keep a file whose lines have at most `limit` characters on average, without line ends.

    >>> MeanLineLength(100).keep(Candidate("x.js", "JavaScript", 204, "x" * 202 + "\\n\\n"))
    'mean line over 100 characters'
    """

    limit: int
    exempt: tuple[str, ...] = ()
    name = "mean line length"

    def keep(self, file: Candidate) -> Literal[True] | str:
        if file.language in self.exempt:
            return True
        characters = len(file.text) - file.text.count("\n") - file.text.count("\r")
        return characters <= self.limit * count_lines(file.text) or f"mean line over {self.limit:,} characters"


@dataclass(frozen=True)
class MaxCharactersPerNewline:
    """Keep a file with at most `limit` characters per LF, as GPT-Code-Clippy measures the mean line length. Line ends are counted.

    A text without LF is dropped unless it is empty.

    >>> MaxCharactersPerNewline(200).keep(Candidate("x.js", "JavaScript", 1, "x"))
    'over 200 characters per newline'
    """

    limit: int
    name = "characters per newline"

    def keep(self, file: Candidate) -> Literal[True] | str:
        per_newline = len(file.text) / (file.text.count("\n") + 0.001)  # as in its download_repo_text.py
        return per_newline <= self.limit or f"over {self.limit:,} characters per newline"


def count_lines(text: str) -> int:
    """Return the number of lines; the last one may lack its line end.

    >>> count_lines("a\\nb"), count_lines("a\\r\\nb\\r\\n"), count_lines("a\\rb"), count_lines("")
    (2, 2, 2, 0)
    """
    end = find_line_end(text)
    return text.count(end) + (bool(text) and not text.endswith(end))


def longest_line_exceeds(text: str, limit: int) -> bool:
    """Return True if a line has more than `limit` characters. The search skips most characters.

    >>> longest_line_exceeds("ab\\nabc\\r\\nab", 3), longest_line_exceeds("ab\\nabcd", 3), longest_line_exceeds("\\n" + "a" * 3, 3)
    (False, True, False)
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    end = find_line_end(text)
    start = 0
    while len(text) - start > limit:
        found = text.rfind(end, start, start + limit + 1)
        if found < 0:
            return True
        start = found + 1
    return False


def find_line_end(text: str) -> str:
    return "\r" if "\n" not in text and "\r" in text else "\n"
