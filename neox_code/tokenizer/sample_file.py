"""Temporary file with the texts from which a vocabulary is learned, because they are read more than once.

with SampleFile(Path("vocabulary.sample"), texts) as sample:
    print(sample.num_texts, sample.num_bytes, len(sample.excerpt))
    for text in sample.texts(): ...

The file holds the texts in UTF-8, each followed by the byte 0xFF, which UTF-8 does not contain.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from neox_code.tokenizer.byte_level import encode_utf8
from neox_code.tokenizer.count_pretokens import SEPARATOR

EXCERPT_BYTES = 2**19
LONGEST_IN_EXCERPT = 2**16
CHUNK_BYTES = 2**20


class SampleFile:
    """Write the texts to `path` when the `with` block begins; delete the file when it ends."""

    def __init__(self, path: Path, texts: Iterable[str]):
        self.path = path
        self.num_texts = 0
        self.num_bytes = 0
        self.excerpt: list[str] = []
        """Texts taken at regular intervals, at most EXCERPT_BYTES in total. Of a long text only the beginning is taken."""
        self._texts = texts

    def __enter__(self) -> Self:
        try:
            self._write()
        except BaseException:
            self.path.unlink(missing_ok=True)
            raise
        return self

    def __exit__(self, *exception: Any) -> None:
        self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        """Write the file, and add every `stride`-th text to the excerpt. When the excerpt is full, `stride` doubles."""
        stride, excerpt_bytes = 1, 0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("wb") as file:
            for text in self._texts:
                data = encode_utf8(text)
                if not data:
                    continue
                file.write(data + SEPARATOR)
                if self.num_texts % stride == 0:
                    self.excerpt.append(text if len(data) <= LONGEST_IN_EXCERPT else text[: LONGEST_IN_EXCERPT // 4])
                    excerpt_bytes += min(len(data), LONGEST_IN_EXCERPT)
                while excerpt_bytes > EXCERPT_BYTES:
                    stride *= 2
                    self.excerpt = self.excerpt[::2]
                    excerpt_bytes = sum(len(encode_utf8(entry)) for entry in self.excerpt)
                self.num_texts += 1
                self.num_bytes += len(data)

    def texts(self) -> Iterator[str]:
        """Yield all texts in order, with one of them in memory at a time."""
        rest = b""
        with self.path.open("rb") as file:
            while data := file.read(CHUNK_BYTES):
                *whole, rest = (rest + data).split(SEPARATOR)
                yield from (entry.decode() for entry in whole)
