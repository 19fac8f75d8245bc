"""Find duplicates as GPT-Code-Clippy does: files with the same sequence of words, which differ only in white space, punctuation
and operators.

    SameVariables().key(content, "a = b;") == SameVariables().key(content, "a\\t+b ")

GPT-Code-Clippy's key is " ".join(re.split(r"\\W+", text)), hashed with Python's salted `hash`. Here it is the xxh3-128 of the same
string, so that the key is equal in every process and build.
"""

from dataclasses import dataclass
from pathlib import Path

import xxhash

from neox_code.corpus.duplicates.exact import KEY_BYTES, KeyGroups
from neox_code.corpus.duplicates.lexing import normalize_words


@dataclass(frozen=True)
class SameVariables:
    name = "same variables"
    key_bytes = KEY_BYTES

    def key(self, content: bytes, text: str) -> bytes | None:
        return xxhash.xxh3_128_digest(normalize_words(text))

    def groups(self, folder: Path) -> KeyGroups:
        return KeyGroups(folder)
