"""What is decided about every row of the parts, in two bytes each: kept, or the number of a reason.

verdicts = Verdicts(num_rows)
verdicts.take_over(block)                       # why its rows were dropped when they were read, if they were
verdicts.drop(rows, "exact duplicate")          # rows: a mask, a slice or numbers
verdicts.kept(block.rows)                       # a mask
"""

from typing import Any

import numpy as np

from neox_code.corpus.pipeline.parts import Block
from neox_code.corpus.shards import KEPT
from neox_code.errors import DataError

KEPT_CODE = 0
NO_FILE_CODE = 1
"""A row that is no file of its own: a language that its file could have been in."""
MOST_REASONS = 2**16
"""That two bytes can tell apart."""


class Verdicts:
    def __init__(self, num_rows: int):
        self.codes = np.zeros(num_rows, np.uint16)
        self.names: dict[str, int] = {KEPT: KEPT_CODE, "no file": NO_FILE_CODE}

    def take_over(self, block: Block) -> None:
        codes = block.coded("reason", self.names)
        self._refuse_too_many()
        self.codes[block.rows] = np.where(codes < 0, KEPT_CODE, codes)

    def code(self, reason: str) -> int:
        number = self.names.setdefault(reason, len(self.names))
        self._refuse_too_many()
        return number

    def _refuse_too_many(self) -> None:
        if len(self.names) > MOST_REASONS:
            last = next(reversed(self.names))
            raise DataError(
                f"files were dropped for more than {MOST_REASONS:,} different reasons, the last of them {last!r}. A reason is for "
                "many files: have the filter of the recipe say nothing in it that is of one file."
            )

    def drop(self, rows: Any, reason: str) -> None:
        self.codes[rows] = self.code(reason)

    def kept(self, rows: slice) -> np.ndarray:
        return self.codes[rows] == KEPT_CODE
