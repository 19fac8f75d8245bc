"""Find the commit that is checked out in a work tree.

    read_checked_out_commit("/srv/code/linux")                           # "8bb7eca972ad531c9b149c0a51ab43a417385813", or None

The commit is read from git's files without running git, because a folder may hold thousands of work trees.
"""

import os
import re
import stat

from neox_code.corpus.sources.regular_file import read_regular_file

REFERENCE = re.compile(rb"ref: (refs/[\w./+@-]+)\n?")
OBJECT_NAME = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
LARGEST_REFERENCES = 2**26


def read_checked_out_commit(place: str) -> str | None:
    """Return the commit at HEAD of the work tree in a folder; None without a work tree or commit."""
    head = read_small_file(f"{place}/.git/HEAD")
    reference = REFERENCE.fullmatch(head)
    if not reference:
        return parse_commit(head)
    name = reference[1].decode()
    loose = None if ".." in name else parse_commit(read_small_file(f"{place}/.git/{name}"))
    return loose or read_packed_reference(f"{place}/.git/packed-refs", name)


def read_packed_reference(path: str, name: str) -> str | None:
    lines = read_small_file(path, LARGEST_REFERENCES).splitlines()
    return next((parse_commit(line.partition(b" ")[0]) for line in lines if line.partition(b" ")[2] == name.encode()), None)


def parse_commit(content: bytes) -> str | None:
    text = content.decode("ascii", "replace").strip()
    return text if OBJECT_NAME.fullmatch(text) else None


def read_small_file(path: str, largest: int = 4096) -> bytes:
    try:
        status = os.lstat(path)
    except OSError:
        return b""
    is_small = stat.S_ISREG(status.st_mode) and status.st_size <= largest
    return (read_regular_file(path, status.st_size) or b"") if is_small else b""
