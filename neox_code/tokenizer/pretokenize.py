"""Count the pretokens of texts. Byte-pair encoding is learned from these counts.

    with Pretokenizer([sample.path, excerpt.path]) as pretokenizer:
        sample_counts, excerpt_counts = pretokenizer.read_counts()

Pretokens are the pieces into which GPT-2's pattern splits a text. gigatoken splits and counts in a separate process, so that Ctrl-C
ends it immediately.
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
from neox_code.tokenizer.count_pretokens import make_output_paths

PROGRAM = "neox_code.tokenizer.count_pretokens"


@dataclass(frozen=True)
class PretokenCounts:
    data: bytes
    """The distinct pretokens in UTF-8, with the byte 0xFF before, between and after them."""
    counts: NDArray[np.int64]
    """How often each pretoken occurs, shape (pretokens,), in the order of `data`."""


class Pretokenizer:
    """Count the pretokens of SampleFiles during the `with` block; at its end, stop the process and delete its files."""

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
            for output in make_output_paths(path):
                output.unlink(missing_ok=True)

    def read_counts(self) -> list[PretokenCounts]:
        """Wait for the process and return the counts of every file. Raise DataError if the process failed."""
        errors = self._process.communicate()[1].strip().splitlines()
        if status := self._process.returncode:
            raise DataError(
                f"counting pretokens failed with exit status {status}: {errors[-1] if errors else 'no error output'}. "
                "The machine may be out of memory: give a smaller --fraction."
            )
        return [
            PretokenCounts(words.read_bytes(), np.fromfile(counts, np.int64))
            for words, counts in map(make_output_paths, self.paths)
        ]
