"""The hash of all code and tables that determine a corpus and its token files. A build resumes only with an equal hash."""

import hashlib
from pathlib import Path

CODE_SUFFIXES = (".py", ".json", ".npz")
PACKAGES = ("corpus", "data", "tokenizer")


def code_digest() -> str:
    """Return the SHA-256, in hexadecimal, of every file of code in PACKAGES, in the order of their paths."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*")):
        if path.suffix in CODE_SUFFIXES:
            digest.update(path.read_bytes())
    return digest.hexdigest()
