"""Interface of a duplicate rule: it computes a key for every document and groups equal or similar keys.

    rule = ExactDuplicates()
    key = rule.key(content, text)                              # in the process that reads the file; None: never a duplicate
    with rule.groups(folder) as groups:                        # later, over all files, on disk
        groups.add(keys, projects, rows)                       # arrays, any number of times, rows ascending
        for dropped, survivors in groups.duplicates():         # arrays of rows
            ...

Of each group, the file with the smallest (project, row) is kept. The caller numbers projects by stars (most first), then by name;
it numbers rows by path within a project. The result does not depend on the order or the blocks in which keys are added. Memory is
bounded: keys are stored in files below `folder`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import numpy as np


class Groups(Protocol):
    def add(self, keys: np.ndarray, projects: np.ndarray, rows: np.ndarray) -> None:
        """Add N files: `keys` [N] of dtype V{key_bytes}, `projects` [N] int32 or int64 (their ranks), `rows` [N] int64."""
        ...

    def duplicates(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (rows of M duplicates, the kept row for each), both int64 [M]. Every duplicate is yielded once."""
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

        `content` is the original bytes of the file; `text` is the text after decoding and the recipe's edits.
        """
        ...

    def groups(self, folder: Path) -> AbstractContextManager[Groups]: ...
