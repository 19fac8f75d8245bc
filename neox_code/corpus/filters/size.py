"""Filters by the size of the original file in bytes, and a filter for files without a visible character."""

import string
from dataclasses import dataclass
from typing import Literal

from neox_code.corpus.filters.protocol import Candidate

INVISIBLE = f"{string.whitespace}\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000\u200b\u200c\u200d\u2060\ufeff" + "".join(
    map(chr, range(0x2000, 0x200B))
)
"""White space and characters of zero width."""


@dataclass(frozen=True)
class NotEmpty:
    """Drop files of 0 bytes."""

    name = "not empty"

    def keep(self, file: Candidate) -> Literal[True] | str:
        return file.num_bytes > 0 or "empty"


@dataclass(frozen=True)
class NotBlank:
    """Drop files that consist of white space.

    >>> NotBlank().keep(Candidate("x.py", "Python", 6, " \\n\\t\\n\u200b"))
    'blank'
    """

    name = "not blank"

    def keep(self, file: Candidate) -> Literal[True] | str:
        return bool(file.text.strip(INVISIBLE)) or "blank"


@dataclass(frozen=True)
class MaxBytes:
    """Keep files of at most `limit` bytes.

    >>> MaxBytes(1_048_576).keep(Candidate("big.py", "Python", 2_000_000))
    'over 1 MiB'
    >>> MaxBytes(1_000).keep(Candidate("big.py", "Python", 2_000_000))
    'over 1,000 bytes'
    """

    limit: int
    name = "maximal size"

    def keep(self, file: Candidate) -> Literal[True] | str:
        mebibytes, rest = divmod(self.limit, 2**20)
        return file.num_bytes <= self.limit or (f"over {self.limit:,} bytes" if rest else f"over {mebibytes:,} MiB")
