"""What a rule of duplicates is: a key of every document, computed where the text is at hand, and groups of keys that are alike.

    rule = ExactDuplicates()
    key = rule.key(content, text)                              # in the process that reads the file; None: never a duplicate
    with rule.groups(folder) as groups:                        # later, over all files, on disk
        groups.add(keys, projects, rows)                       # arrays, any number of times, rows ascending
        for dropped, survivors in groups.duplicates():         # arrays of rows
            ...

Of a group the member of the least (project, row) survives: the caller numbers projects by stars (most first), then name, and rows
in the order of paths within a project. The result does not depend on the order or the blocks in which keys arrive. Memory stays
bounded: keys wait in files below `folder`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import numpy as np


class Groups(Protocol):
    def add(self, keys: np.ndarray, projects: np.ndarray, rows: np.ndarray) -> None:
        """`keys`: [N] of dtype V{key_bytes}; `projects`: [N] int32 or int64, the rank of each file's project; `rows`: [N] int64."""
        ...

    def duplicates(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields ([M] int64 rows that are duplicates, [M] int64 the row that survives for each); every duplicate row once."""
        ...


class DuplicateRule(Protocol):
    @property
    def name(self) -> str:
        """The reason under which duplicates are counted: "exact duplicate"."""
        ...

    @property
    def key_bytes(self) -> int: ...

    def key(self, content: bytes, text: str) -> bytes | None:
        """`content`: the file's bytes as found; `text`: its text as kept. Same inputs, same key, on every machine."""
        ...

    def groups(self, folder: Path) -> AbstractContextManager[Groups]: ...
