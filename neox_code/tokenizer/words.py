"""The words of texts and how often each occurs: what byte-pair encoding is learnt from.

    with WordCounter([sample.path, excerpt.path]) as counter:
        words, few = counter.words()

Words are the pieces into which GPT-2's pattern cuts a text. gigatoken cuts and counts them, in a process of its own, which Ctrl-C
ends at once.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from neox_code.errors import DataError
from neox_code.tokenizer.word_counting import outputs

PROGRAM = "neox_code.tokenizer.word_counting"


@dataclass(frozen=True)
class Words:
    data: bytes
    """All of them in UTF-8, the byte 0xFF before, between and after them."""
    counts: NDArray[np.int64]


class WordCounter:
    """Counts the words of SampleFiles while the `with` block goes on, at whose end it stops and deletes what it wrote."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = paths

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", PROGRAM, *map(str, self.paths)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        return self

    def __exit__(self, *exception: Any) -> None:
        with self._process:
            self._process.kill()
        for path in self.paths:
            for output in outputs(path):
                output.unlink(missing_ok=True)

    def words(self) -> list[Words]:
        """Waits for those of every file. Raises DataError if the program failed."""
        said = self._process.communicate()[1].strip().splitlines()
        if status := self._process.returncode:
            raise DataError(
                f"counting words ended with status {status} and said: {said[-1] if said else 'nothing'}. "
                "The machine may be out of memory: give a smaller --fraction."
            )
        return [Words(words.read_bytes(), np.fromfile(counts, np.int64)) for words, counts in map(outputs, self.paths)]
