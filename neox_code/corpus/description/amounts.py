"""Count files and bytes for each combination of the values of some columns. Rows are added one table at a time.

amounts = Amounts("language", "split")
amounts.add(rows)                                      # a table with these columns and `bytes`
amounts.group_by("split", language="Python")["train"].files
"""

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from neox_code.corpus.description.summary_table import Amount

OTHERS = "(others)"


class Amounts:
    """Files and bytes for each combination of the columns' values. After `most` combinations, each new one is counted as OTHERS."""

    def __init__(self, *columns: str, most: int = 1_000_000):
        self._columns = columns
        self._most = most
        self._counted: dict[tuple[Any, ...], list[int]] = {}

    def add(self, rows: pa.Table) -> None:
        """Add the rows of a table that has the counted columns and the column `bytes`."""
        if not len(rows):
            return
        grouped = rows.group_by(list(self._columns), use_threads=False).aggregate([([], "count_all"), ("bytes", "sum")])
        keys = zip(*(grouped[column].to_pylist() for column in self._columns), strict=True)
        for key, files, num_bytes in zip(keys, grouped["count_all"].to_pylist(), grouped["bytes_sum"].to_pylist(), strict=True):
            if key not in self._counted and len(self._counted) >= self._most:
                key = (OTHERS,) * len(self._columns)
            counted = self._counted.setdefault(key, [0, 0])
            counted[0] += files
            counted[1] += num_bytes

    def __len__(self) -> int:
        return len(self._counted)

    def group_by(self, *columns: str, where: Callable[[dict[str, Any]], bool] | None = None, **values: Any) -> dict[Any, Amount]:
        """Return the amounts by value of one column, or by tuple of the values of several columns; most files first.

        `values` (column -> required value) and `where` select the combinations that are added up. `where` is called with a
        dictionary of column -> value.
        """
        result: dict[Any, Amount] = {}
        for key, (files, num_bytes) in self._counted.items():
            row = dict(zip(self._columns, key, strict=True))
            if all(row[column] == value for column, value in values.items()) and (where is None or where(row)):
                name = row[columns[0]] if len(columns) == 1 else tuple(row[column] for column in columns)
                result[name] = result.get(name, Amount()) + Amount(files, num_bytes)
        return dict(sorted(result.items(), key=lambda item: (-item[1].files, -item[1].bytes, str(item[0]))))

    def total(self, where: Callable[[dict[str, Any]], bool] | None = None, **values: Any) -> Amount:
        return sum(self.group_by(self._columns[0], where=where, **values).values(), Amount())
