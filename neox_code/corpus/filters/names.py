"""Filters by the path of a file, which spare the reading."""

from dataclasses import dataclass
from typing import Literal

from neox_code.corpus.filters.protocol import Candidate


@dataclass(frozen=True)
class NoNamesWith:
    """No path that contains one of the parts, as they are written.

    >>> NoNamesWith((".min.", "node_modules")).keep(Candidate("web/jquery.min.js", "JavaScript", 1))
    '.min. in its path'
    """

    parts: tuple[str, ...]
    name = "parts of the path"

    def keep(self, file: Candidate) -> Literal[True] | str:
        return next((f"{part} in its path" for part in self.parts if part in file.path), True)


@dataclass(frozen=True)
class NoHiddenFiles:
    """
    >>> NoHiddenFiles().keep(Candidate("src/.pylintrc.py", "Python", 1)), NoHiddenFiles().keep(Candidate(".ci/x.py", "Python", 1))
    ('hidden file', True)
    """

    name = "no hidden files"

    def keep(self, file: Candidate) -> Literal[True] | str:
        return not file.path.rsplit("/", 1)[-1].startswith(".") or "hidden file"
