"""Filters by the name of a file. They do not need its content."""

from dataclasses import dataclass
from typing import Literal

from neox_code.corpus.filters.protocol import Candidate


@dataclass(frozen=True)
class NoNamesWith:
    """Drop files whose name contains one of the parts. Case matters; names of folders are ignored.

    >>> NoNamesWith((".min.", ".git")).keep(Candidate("web/jquery.min.js", "JavaScript", 1))
    '.min. in its name'
    """

    parts: tuple[str, ...]
    name = "parts of the name"

    def keep(self, file: Candidate) -> Literal[True] | str:
        name = get_file_name(file)
        return next((f"{part} in its name" for part in self.parts if part in name), True)


@dataclass(frozen=True)
class NoHiddenFiles:
    """Drop files whose name begins with a dot.

    >>> NoHiddenFiles().keep(Candidate("src/.pylintrc.py", "Python", 1)), NoHiddenFiles().keep(Candidate(".ci/x.py", "Python", 1))
    ('hidden file', True)
    """

    name = "no hidden files"

    def keep(self, file: Candidate) -> Literal[True] | str:
        return not get_file_name(file).startswith(".") or "hidden file"


def get_file_name(file: Candidate) -> str:
    return file.path.rsplit("/", 1)[-1]
