"""The interface RowMaker: an object that makes rows for fine-tuning from documents, given as `rows` in a recipe.

    maker = recipe.rows
    for row in maker.rows(document, "4"):             # {"instruction": ..., "output": ...}
        ...

A build calls `rows` while it writes the shards: rows/train-00000.jsonl has the rows of train/shard-00000.parquet, in the same
order.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol

from neox_code.corpus.shards import Document


class RowMaker(Protocol):
    @property
    def name(self) -> str: ...

    def is_version_file(self, path: str) -> bool:
        """Return True for a file that states the version of the project in its folder, like `project.godot`. The scan reads it."""
        ...

    def read_version(self, text: str) -> str | None: ...

    def find_version(self, path: str, versions: Mapping[str, str]) -> str | None:
        """Return the project version that applies to a file. `versions` maps folders of the repository to versions."""
        ...

    def rows(self, document: Document, project_version: str | None) -> Iterator[dict[str, str]]: ...


def find_nearest_version(path: str, versions: Mapping[str, str]) -> str | None:
    """Return the version of the nearest folder in `versions` that contains the file; else of the folder nearest to the root.

    >>> versions = {"demo": "3", "demo/new": "4"}
    >>> [find_nearest_version(path, versions) for path in ("demo/new/src/a.gd", "demo/a.gd", "addons/a.gd")]
    ['4', '3', '3']
    >>> find_nearest_version("a.gd", {})
    """
    folder = path
    while folder:
        folder = folder.rpartition("/")[0]
        if folder in versions:
            return versions[folder]
    return min(((name.count("/"), name, version) for name, version in versions.items()), default=(0, "", None))[2]
