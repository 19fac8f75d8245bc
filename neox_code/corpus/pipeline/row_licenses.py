"""Files with the license of every row: a file of license numbers, 4 bytes per row, and a table of the licenses.

    with LicenseWriter(folder) as licenses:
        numbers = licenses.write(block, project_numbers, projects)      # for every block in order
    table = read_licenses(folder)                                       # columns license, license_file
    numbers = read_license_numbers(folder, first_row, num_rows)

The license in the header of a file takes precedence over the license of its folder (folder_licenses.py).
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from neox_code.corpus.licenses.folder_licenses import StatedLicense
from neox_code.corpus.pipeline.project_table import ProjectTable
from neox_code.corpus.pipeline.scan_results import Block

NUMBERS_FILE = "licenses.i32"
TABLE_FILE = "licenses.parquet"
OWN_FILE = ""
"""Value of the column license_file if the header of the file itself states the license."""
LICENSE_COLUMNS = ["path", "license"]


class LicenseWriter:
    def __init__(self, folder: Path):
        self.licenses: list[StatedLicense] = []
        self._folder = folder
        self._numbers: dict[StatedLicense, int] = {}
        self._own_codes: dict[str, int] = {}

    def __enter__(self) -> "LicenseWriter":
        self._file = (self._folder / NUMBERS_FILE).open("wb")
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
        expressions, files = zip(*self.licenses, strict=True) if self.licenses else ((), ())
        table = pa.table({"license": pa.array(expressions, pa.string()), "license_file": pa.array(files, pa.string())})
        pq.write_table(table, self._folder / TABLE_FILE)

    def write(self, block: Block, projects_of_rows: np.ndarray, projects: ProjectTable) -> np.ndarray:
        """Find the license of each row. Write and return its index in `licenses`: int32 [rows]."""
        numbers = self._find_folder_license(block, projects_of_rows, projects)
        for index in np.flatnonzero([projects.licenses(number).has_annotations for number in projects_of_rows.tolist()]).tolist():
            number = int(projects_of_rows[index])
            path, listed = block.table["path"][index].as_py(), self._find_listed_license(block, index)
            numbers[index] = self._get_number(projects.licenses(number).find(path, listed))
        own = block.encode("license", self._own_codes)
        own_numbers = [self._get_number(StatedLicense(expression, OWN_FILE)) for expression in self._own_codes]
        numbers = np.where(own >= 0, np.array([*own_numbers, 0], np.int32)[own], numbers).astype(np.int32)
        self._file.write(numbers.data)
        return numbers

    def _find_folder_license(self, block: Block, projects_of_rows: np.ndarray, projects: ProjectTable) -> np.ndarray:
        paths = block.table["path"].combine_chunks()
        folders = pc.replace_substring_regex(paths, "/?[^/]*$", "", max_replacements=1).dictionary_encode()
        names = folders.dictionary.to_pylist()
        keys = block.numbers("project").astype(np.int64) * len(names) + folders.indices.to_numpy()
        _, first_rows, inverse = np.unique(keys, return_index=True, return_inverse=True)
        numbers = np.empty(len(first_rows), np.int32)
        for place, row in enumerate(first_rows.tolist()):
            number = int(projects_of_rows[row])
            folder = names[folders.indices[row].as_py()]
            numbers[place] = self._get_number(
                projects.licenses(number).find_in_folder(folder, self._find_listed_license(block, row))
            )
        return numbers[inverse]

    def _find_listed_license(self, block: Block, row: int) -> str | None:
        """Return the license that a repository list or dataset gives for this row. Rows of a project can differ."""
        return block.projects[block.table["project"][row].as_py()].license

    def _get_number(self, license: StatedLicense) -> int:
        number = self._numbers.setdefault(license, len(self.licenses))
        if number == len(self.licenses):
            self.licenses.append(license)
        return number


def read_licenses(folder: Path) -> pa.Table:
    return pq.read_table(folder / TABLE_FILE).combine_chunks()


def read_license_numbers(folder: Path, first_row: int, num_rows: int) -> np.ndarray:
    return np.fromfile(folder / NUMBERS_FILE, np.int32, num_rows, offset=4 * first_row)
