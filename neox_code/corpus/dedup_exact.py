"""Exact duplicates: files with the same bytes, of which one survives by a rule that knows no order of arrival."""

from collections.abc import Iterable, Mapping
from typing import Any


def survivors(files: Iterable[tuple[bytes, Any]]) -> Mapping[bytes, Any]:
    """For each content hash the key of the file that stays: the least one, such as (repository, path).

    >>> survivors([(b"1", ("b", "x.c")), (b"1", ("a", "y.c")), (b"2", ("b", "z.c"))])
    {b'1': ('a', 'y.c'), b'2': ('b', 'z.c')}
    """
    least: dict[bytes, Any] = {}
    for digest, key in files:
        if digest not in least or key < least[digest]:
            least[digest] = key
    return least
