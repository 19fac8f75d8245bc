"""What makes rows for fine-tuning of documents: function by function, or window by window.

    maker = recipe.rows
    for row in maker.rows(document, "4"):             # {"instruction": ..., "output": ...}
        ...

A build calls it where the shards are written: rows/train-00000.jsonl has the rows of train/shard-00000.parquet, in their order.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol

from neox_code.corpus.shards import Document


class RowMaker(Protocol):
    @property
    def name(self) -> str: ...

    def says_version(self, path: str) -> bool:
        """Whether a file of this path tells the version of what is in its folder (`project.godot`): it is read for that."""
        ...

    def version(self, text: str) -> str | None:
        """The version that such a file tells."""
        ...

    def version_at(self, path: str, versions: Mapping[str, str]) -> str | None:
        """The version of a file, of those told for the folders of its repository."""
        ...

    def rows(self, document: Document, project_version: str | None) -> Iterator[dict[str, str]]: ...


def nearest_version(path: str, versions: Mapping[str, str]) -> str | None:
    """That of the nearest folder around a file, else of the one nearest to the root.

    >>> told = {"demo": "3", "demo/new": "4"}
    >>> [nearest_version(path, told) for path in ("demo/new/src/a.gd", "demo/a.gd", "addons/a.gd")], nearest_version("a.gd", {})
    (['4', '3', '3'], None)
    """
    folder = path
    while folder:
        folder = folder.rpartition("/")[0]
        if folder in versions:
            return versions[folder]
    return min(((name.count("/"), name, version) for name, version in versions.items()), default=(0, "", None))[2]
