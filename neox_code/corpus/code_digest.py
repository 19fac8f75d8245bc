"""The digest of all code and tables that decide what a corpus holds: a build is resumed only by the code that began it."""

import hashlib
from pathlib import Path

CODE_SUFFIXES = (".py", ".json", ".npz")


def code_digest() -> str:
    """Return the SHA-256, in hexadecimal, of every file of code below this folder, in the order of their paths."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*")):
        if path.suffix in CODE_SUFFIXES:
            digest.update(path.read_bytes())
    return digest.hexdigest()
