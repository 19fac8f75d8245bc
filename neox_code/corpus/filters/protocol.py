"""What a filter is: a small frozen dataclass that keeps a file, or drops it with a reason. An edit changes its text instead.

    @dataclass(frozen=True)
    class NoTests:
        name = "no tests"

        def keep(self, file: Candidate) -> Literal[True] | str:
            return "/tests/" not in file.path or "a test"

A filter in a recipe's `before_reading` sees a file that is not read yet: it judges by path and size.
"""

from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(slots=True)
class Candidate:
    """A file that may become a document."""

    path: str
    language: str
    num_bytes: int
    """The file's size as found."""
    text: str = ""


class Filter(Protocol):
    @property
    def name(self) -> str: ...

    def keep(self, file: Candidate) -> Literal[True] | str:
        """True, or the reason under which the file is counted as dropped."""
        ...


class Edit(Protocol):
    @property
    def name(self) -> str:
        """What is done, in the past tense: "secrets masked". The manifest lists it for every file that it changed."""
        ...

    def edit(self, file: Candidate) -> str:
        """The text as it is to be kept; the same text where there is nothing to change."""
        ...
