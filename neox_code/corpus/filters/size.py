"""Filters by the size of a file, in bytes as found."""

from dataclasses import dataclass
from typing import Literal

from neox_code.corpus.filters.protocol import Candidate


@dataclass(frozen=True)
class NotEmpty:
    name = "not empty"

    def keep(self, file: Candidate) -> Literal[True] | str:
        return file.num_bytes > 0 or "empty"


@dataclass(frozen=True)
class MaxBytes:
    """At most so many bytes.

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
