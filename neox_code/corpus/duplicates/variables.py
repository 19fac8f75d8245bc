"""Files with the same sequence of variables, as GPT-Code-Clippy's deduplication sees them: those that differ in white space,
punctuation and operators alone are duplicates.

    SameVariables().key(content, "a = b;") == SameVariables().key(content, "a\\t+b ")

Its key is " ".join(re.split(r"\\W+", text)), which it hashes with Python's salted `hash`; here it is the xxh3-128 of the same
string, so that a build can be interrupted, divided among machines and repeated.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import xxhash

from neox_code.corpus.duplicates.exact import KEY_BYTES, KeyGroups
from neox_code.corpus.duplicates.words import words_key


@dataclass(frozen=True)
class SameVariables:
    name = "same variables"
    key_bytes = KEY_BYTES

    def key(self, content: bytes, text: str) -> bytes | None:
        return xxhash.xxh3_128_digest(words_key(text))

    @contextmanager
    def groups(self, folder: Path) -> Iterator[KeyGroups]:
        with KeyGroups(folder) as groups:
            yield groups
