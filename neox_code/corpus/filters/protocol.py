"""The interfaces of filters and edits, which are small frozen dataclasses. A filter keeps a file or drops it; an edit changes it.

    @dataclass(frozen=True)
    class NoTests:
        name = "no tests"

        def keep(self, file: Candidate) -> Literal[True] | str:
            return "/tests/" not in file.path or "a test"

A filter in a recipe's `before_reading` receives a file whose content is not read yet. It decides by path and size.
"""

from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(slots=True)
class Candidate:
    path: str
    language: str
    num_bytes: int
    """Size of the original file in bytes."""
    text: str = ""


class Filter(Protocol):
    @property
    def name(self) -> str: ...

    def keep(self, file: Candidate) -> Literal[True] | str:
        """Return True, or the reason under which the file is counted as dropped."""
        ...


class Edit(Protocol):
    @property
    def name(self) -> str:
        """Description of the change, such as "secrets masked". The manifest lists it for every changed file."""
        ...

    def edit(self, file: Candidate) -> str:
        """Return the text to keep; the same text if there is nothing to change."""
        ...
