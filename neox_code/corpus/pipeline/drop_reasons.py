"""The drop reason of every row of the scan results, as a code of two bytes: 0 for a kept row, else the number of the reason.

drop_reasons = DropReasons(num_rows)
drop_reasons.add_scan_reasons(block)                       # the reasons that the scan has recorded
drop_reasons.drop(rows, "exact duplicate")          # rows: a mask, a slice or numbers
drop_reasons.mask_kept(block.rows)                       # a mask
"""

from typing import Any

import numpy as np

from neox_code.corpus.pipeline.scan_results import Block
from neox_code.corpus.shards import KEPT
from neox_code.errors import DataError

KEPT_CODE = 0
NO_FILE_CODE = 1
"""Code of an extra row: a file with several possible languages has a row for each, and only one row is counted as a file."""
MOST_REASONS = 2**16
"""Maximum number of reasons: a code has two bytes."""


class DropReasons:
    def __init__(self, num_rows: int):
        self.codes = np.zeros(num_rows, np.uint16)
        self.names: dict[str, int] = {KEPT: KEPT_CODE, "no file": NO_FILE_CODE}

    def add_scan_reasons(self, block: Block) -> None:
        codes = block.encode("reason", self.names)
        self._check_number_of_reasons()
        self.codes[block.rows] = np.where(codes < 0, KEPT_CODE, codes)

    def find_code(self, reason: str) -> int:
        number = self.names.setdefault(reason, len(self.names))
        self._check_number_of_reasons()
        return number

    def _check_number_of_reasons(self) -> None:
        if len(self.names) > MOST_REASONS:
            last = next(reversed(self.names))
            raise DataError(
                f"files were dropped for more than {MOST_REASONS:,} different reasons, the last of them {last!r}. Reasons "
                "must be general: remove values of a single file from the reasons of the recipe's filters."
            )

    def drop(self, rows: Any, reason: str) -> None:
        self.codes[rows] = self.find_code(reason)

    def mask_kept(self, rows: slice) -> np.ndarray:
        return self.codes[rows] == KEPT_CODE
