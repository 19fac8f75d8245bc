"""Interface of a duplicate rule: it computes a key for every document and groups equal or similar keys.

    rule = ExactDuplicates()
    key = rule.key(content, text)                              # in the process that reads the file; None: never a duplicate
    with rule.groups(folder) as groups:                        # later, over all files, on disk
        groups.add(keys, projects, rows)                       # arrays, any number of times, rows ascending
        for dropped, survivors in groups.duplicates():         # arrays of rows
            ...

The member with the smallest (project, row) of a group is kept: the caller numbers projects by stars (most first), then name, and
rows by path within a project. The result does not depend on the order or the blocks in which keys are added. Memory is bounded:
keys are stored in files below `folder`.
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
        """Yield ([M] int64 rows of duplicates, [M] int64 the kept row for each); every duplicate row once."""
        ...


class DuplicateRule(Protocol):
    @property
    def name(self) -> str:
        """The reason under which duplicates are counted: "exact duplicate"."""
        ...

    @property
    def key_bytes(self) -> int: ...

    def key(self, content: bytes, text: str) -> bytes | None:
        """Return the key; None if the document is never a duplicate. Equal inputs give equal keys on every machine.

        `content` is the original bytes of the file; `text` is the kept text.
        """
        ...

    def groups(self, folder: Path) -> AbstractContextManager[Groups]: ...
