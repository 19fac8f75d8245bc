"""What is decided about every row of the parts, in two bytes each: kept, or the number of a reason.

verdicts = Verdicts(num_rows)
verdicts.drop(rows, "exact duplicate")          # rows: a mask, a slice or numbers
verdicts.kept(block.rows)                       # a mask
"""

from typing import Any

import numpy as np

from neox_code.corpus.shards import KEPT

KEPT_CODE = 0
NO_FILE_CODE = 1
"""A row that is no file of its own: a language that its file could have been in."""


class Verdicts:
    def __init__(self, num_rows: int):
        self.codes = np.zeros(num_rows, np.uint16)
        self.names: dict[str, int] = {KEPT: KEPT_CODE, "no file": NO_FILE_CODE}

    def code(self, reason: str) -> int:
        return self.names.setdefault(reason, len(self.names))

    def drop(self, rows: Any, reason: str) -> None:
        self.codes[rows] = self.code(reason)

    def kept(self, rows: slice) -> np.ndarray:
        return self.codes[rows] == KEPT_CODE
