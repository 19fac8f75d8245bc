"""Program that counts pretokens (the pieces before merging) of sample files. neox_code.tokenizer.pretokenize starts this program in
its own process, because gigatoken prints to stdout.

    python -m neox_code.tokenizer.count_pretokens vocabulary.sample

It writes vocabulary.sample.words (the distinct pretokens, with SEPARATOR before, between and after them) and
vocabulary.sample.counts (how often each occurs, int64). Its memory holds the distinct pretokens and BLOCK_BYTES of the texts.
"""

import sys
from array import array
from pathlib import Path

from gigatoken import gigatoken_rs

SEPARATOR = b"\xff"
"""Byte after each text and between pretokens; UTF-8 does not contain it."""
BLOCK_BYTES = 16 * 2**20


def main(*paths: str) -> None:
    for path in map(Path, paths):
        counts = count_pretokens(path)
        words_file, counts_file = make_output_paths(path)
        words_file.write_bytes(SEPARATOR.join([b"", *counts, b""]))
        counts_file.write_bytes(array("q", counts.values()).tobytes())


def make_output_paths(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name + ".words"), path.with_name(path.name + ".counts")


def count_pretokens(path: Path) -> dict[bytes, int]:
    counts: dict[bytes, int] = {}
    rest = b""
    with path.open("rb") as file:
        while data := file.read(BLOCK_BYTES):
            texts, _, rest = (rest + data).rpartition(SEPARATOR)
            for pretoken, count in gigatoken_rs.pretokenized_counts(texts, SEPARATOR):
                counts[pretoken] = counts.get(pretoken, 0) + count
    return counts


if __name__ == "__main__":
    main(*sys.argv[1:])
