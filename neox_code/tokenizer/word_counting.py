"""A program that counts the words of files: neox_code.tokenizer.words starts it, as gigatoken prints to standard output.

    python -m neox_code.tokenizer.word_counting vocabulary.sample

writes vocabulary.sample.words and vocabulary.sample.counts: the words with a SEPARATOR before, between and after them, and as
64-bit numbers how often each occurs. It holds the distinct words, and BLOCK_BYTES of the texts.
"""

import sys
from array import array
from pathlib import Path

from gigatoken import gigatoken_rs

SEPARATOR = b"\xff"
"""After a text, and beside a word; UTF-8 never has it."""
BLOCK_BYTES = 16 * 2**20


def main(*paths: str) -> None:
    for path in map(Path, paths):
        counts = count_words(path)
        words_file, counts_file = outputs(path)
        words_file.write_bytes(SEPARATOR.join([b"", *counts, b""]))
        counts_file.write_bytes(array("q", counts.values()).tobytes())


def outputs(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name + ".words"), path.with_name(path.name + ".counts")


def count_words(path: Path) -> dict[bytes, int]:
    counts: dict[bytes, int] = {}
    rest = b""
    with path.open("rb") as file:
        while data := file.read(BLOCK_BYTES):
            texts, _, rest = (rest + data).rpartition(SEPARATOR)
            for word, count in gigatoken_rs.pretokenized_counts(texts, SEPARATOR):
                counts[word] = counts.get(word, 0) + count
    return counts


if __name__ == "__main__":
    main(*sys.argv[1:])
