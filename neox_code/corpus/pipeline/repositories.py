"""The repositories of a corpus: its projects, and the subprojects into which large projects are divided.

repositories = divide_projects(results, projects, drop_reasons, folder, is_divided=True)
repositories.sizes                             kept bytes by language of each unit
repositories.read_numbers(block)                    the repository of each row of a block (int32, from a file)
repositories.paths(block, numbers)             the rows' paths below their repositories
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from neox_code.corpus.pipeline.drop_reasons import DropReasons
from neox_code.corpus.pipeline.project_table import ProjectTable
from neox_code.corpus.pipeline.projects import PROJECTS_TO_SPLIT, find_common_folder, find_large_projects, locate_in_subproject
from neox_code.corpus.pipeline.scan_results import Block, ScanResults
from neox_code.logs import get_logger

NUMBERS_FILE = "repositories.i32"
UNITS_TO_SPLIT = 10
"""Minimum number of folders for splitting a corpus of few projects by folder."""

log = get_logger(__name__)


@dataclass
class Repositories:
    file: Path
    names: list[str]
    projects: list[int]
    """The project number of each repository. The first repositories are the projects themselves; subprojects follow."""
    prefixes: list[str]
    """Folder of each repository in its project, with a slash at the end; empty for a whole project."""
    units: list[str] = field(default_factory=list)
    """Names of the units that are sampled and split as a whole: the repositories; in a corpus of few projects, folders or files."""
    sizes: dict[str, Counter[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def read_numbers(self, block: Block) -> np.ndarray:
        return np.fromfile(self.file, np.int32, count=len(block), offset=4 * block.first_row)

    def paths(self, block: Block, numbers: np.ndarray) -> pa.Array:
        return remove_prefixes(block.table["path"].combine_chunks(), numbers, self.prefixes)


def remove_prefixes(paths: pa.Array, numbers: np.ndarray, prefixes: list[str]) -> pa.Array:
    if not any(prefixes[number] for number in np.unique(numbers).tolist()):
        return paths
    pairs = zip(paths.to_pylist(), numbers.tolist(), strict=True)
    return pa.array([path[len(prefixes[number]) :] for path, number in pairs], pa.string())


def divide_projects(
    results: ScanResults, table: ProjectTable, drop_reasons: DropReasons, folder: Path, is_divided: bool
) -> Repositories:
    """Assign every row to a repository: its project, or a subproject. Large projects are divided only if `is_divided` is true."""
    names = [project.name for project in table.projects]
    result = Repositories(folder / NUMBERS_FILE, names, list(range(len(names))), [""] * len(names))
    folders = find_folders_of_large_projects(results, table, drop_reasons) if is_divided else {}
    known = {(name, name): number for number, name in enumerate(names)}
    sizes = SizesByLanguage()
    with result.file.open("wb") as file:
        for block in results.blocks(["project", "path", "language", "bytes"]):
            numbers = table.number_projects(block.projects)[block.numbers("project")]
            if folders:
                paths = block.values("path")
                for index in np.flatnonzero(np.isin(numbers, list(folders))).tolist():
                    project = int(numbers[index])
                    name, path = locate_in_subproject(names[project], paths[index], folders[project])
                    if (names[project], name) not in known:
                        known[names[project], name] = len(result.names)
                        result.names.append(name)
                        result.projects.append(project)
                        result.prefixes.append(paths[index].removesuffix(path))
                    numbers[index] = known[names[project], name]
            file.write(numbers.astype(np.int32).data)
            sizes.add(block, numbers, drop_reasons.mask_kept(block.rows))
    result.units = list(result.names)
    result.sizes = sizes.sum_by_name(result.units)
    return result


def maybe_use_folders_as_split_units(results: ScanResults, repositories: Repositories, drop_reasons: DropReasons) -> None:
    """If the corpus has too few kept repositories for train, valid and test, make folders or files the units of the split.

    Levels of folders are tried from the common folder down. A level is used if it has UNITS_TO_SPLIT folders or more, no folder
    has more than half of the bytes, and each language with three or more files is in three or more folders. If no level fits,
    each file is a unit. The names of repositories and the paths of files do not change.
    """
    project_of = [repositories.names[number] for number in repositories.projects]
    names = sorted({project_of[number] for number, unit in enumerate(repositories.units) if unit in repositories.sizes})
    if not 0 < len(repositories.sizes) < PROJECTS_TO_SPLIT:
        return

    def format_place(number: int, path: str) -> str:
        return path if len(names) == 1 else f"{project_of[number]}/{path}"

    kept: dict[str, tuple[str, int]] = {}
    for block in results.blocks(["path", "language", "bytes"]):
        rows = np.flatnonzero(drop_reasons.mask_kept(block.rows))
        chosen = block.table.take(pa.array(rows)).to_pydict()
        for number, *row in zip(repositories.read_numbers(block)[rows].tolist(), *chosen.values(), strict=True):
            kept[format_place(number, row[0])] = (row[1], row[2])
    unit_of, level = group_into_split_units(kept)
    verb = "is" if len(names) == 1 else "are"
    log.info(
        "corpus: fewer than %d projects have kept files: %s %s split by %s", PROJECTS_TO_SPLIT, " and ".join(names), verb, level
    )
    numbers_of: dict[str, int] = {}
    sizes = SizesByLanguage()
    written = repositories.file.with_suffix(".new")
    with written.open("wb") as file:
        for block in results.blocks(["path", "language", "bytes"]):
            numbers, is_kept = repositories.read_numbers(block), drop_reasons.mask_kept(block.rows)
            paths = block.values("path")
            for index in np.flatnonzero(is_kept).tolist():
                before = int(numbers[index])
                unit = unit_of[format_place(before, paths[index])]
                key = f"{repositories.names[before]}\0{unit}"
                if key not in numbers_of:
                    numbers_of[key] = len(repositories.names)
                    repositories.names.append(repositories.names[before])
                    repositories.projects.append(repositories.projects[before])
                    repositories.prefixes.append(repositories.prefixes[before])
                    repositories.units.append(key)
                numbers[index] = numbers_of[key]
            file.write(numbers.astype(np.int32).data)
            sizes.add(block, numbers, is_kept)
    written.replace(repositories.file)
    repositories.sizes = sizes.sum_by_name(repositories.units)


def group_into_split_units(kept: Mapping[str, tuple[str, int]]) -> tuple[dict[str, str], str]:
    """Return the split unit (folder or file) of every path, and a description of the units for the log.

    `kept` has the language and the bytes of each path.

    >>> group_into_split_units({"a.c": ("C", 9), "b.c": ("C", 9)})
    ({'a.c': 'a.c', 'b.c': 'b.c'}, 'file')
    """
    folder = find_common_folder(kept)
    below = {path: path[len(folder) :].split("/")[:-1] for path in kept}
    files_of = Counter(language for language, _ in kept.values())
    total = sum(num_bytes for _, num_bytes in kept.values())
    for depth in range(1, 1 + max(map(len, below.values()), default=0)):
        units = {path: "/".join(folders[:depth]) for path, folders in below.items()}
        sizes: Counter[str] = Counter()
        pairs = Counter(language for language, _ in {(kept[path][0], unit) for path, unit in units.items()})
        for path, unit in units.items():
            sizes[unit] += kept[path][1]
        enough = all(pairs[language] >= PROJECTS_TO_SPLIT for language, files in files_of.items() if files >= PROJECTS_TO_SPLIT)
        if enough and len(sizes) >= UNITS_TO_SPLIT and 2 * max(sizes.values()) <= total:
            return units, f"folder ({len(sizes):,} of them)"
    return {path: path for path in kept}, "file"


def find_folders_of_large_projects(results: ScanResults, table: ProjectTable, drop_reasons: DropReasons) -> dict[int, str]:
    """Return project number -> common folder of the project's kept files, for every large project."""
    sizes = SizesByLanguage()
    for block in results.blocks(["project", "language", "bytes"]):
        sizes.add(block, table.number_projects(block.projects)[block.numbers("project")], drop_reasons.mask_kept(block.rows))
    by_name = sizes.sum_by_name([project.name for project in table.projects])
    large = find_large_projects(by_name)
    numbers_of_large = [number for number, project in enumerate(table.projects) if project.name in large]
    folders: dict[int, str] = {}
    for block in results.blocks(["project", "path"]):
        numbers = table.number_projects(block.projects)[block.numbers("project")]
        rows = np.flatnonzero(drop_reasons.mask_kept(block.rows) & np.isin(numbers, numbers_of_large))
        paths = defaultdict(list)
        for project, path in zip(numbers[rows].tolist(), block.table["path"].take(pa.array(rows)).to_pylist(), strict=True):
            paths[project].append(path)
        for project, members in paths.items():
            folders[project] = find_common_folder([*members, folders[project]] if project in folders else members)
    return folders


class SizesByLanguage:
    """Sums of bytes for each pair of a number (of a project or repository) and a language."""

    def __init__(self) -> None:
        self._languages: dict[str, int] = {}
        self._bytes: Counter[tuple[int, int]] = Counter()

    def add(self, block: Block, numbers: np.ndarray, chosen: np.ndarray, column: str = "language") -> None:
        languages = block.encode(column, self._languages)
        chosen = chosen & (languages >= 0)
        for number, language, num_bytes in sum_by_pair(numbers[chosen], languages[chosen], block.numbers("bytes")[chosen]):
            self._bytes[number, language] += num_bytes

    def sum_by_number(self) -> dict[int, Counter[str]]:
        languages = list(self._languages)
        sizes: dict[int, Counter[str]] = defaultdict(Counter)
        for (number, language), num_bytes in self._bytes.items():
            sizes[number][languages[language]] = num_bytes
        return sizes

    def sum_by_name(self, names: list[str]) -> dict[str, Counter[str]]:
        """Return name -> language -> bytes; `names` has the name of each number. Bytes of equal names are added up."""
        sizes: dict[str, Counter[str]] = defaultdict(Counter)
        for number, languages in self.sum_by_number().items():
            sizes[names[number]].update(languages)
        return sizes


def sum_by_pair(first: np.ndarray, second: np.ndarray, amounts: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yield (first, second, sum of `amounts`) for each distinct pair of `first` and `second`. The arrays have shape [N]."""
    pairs, inverse = np.unique(first.astype(np.int64) << 32 | second, return_inverse=True)
    totals = np.zeros(len(pairs), np.int64)
    np.add.at(totals, inverse, amounts)
    for pair, total in zip(pairs.tolist(), totals.tolist(), strict=True):
        yield pair >> 32, pair & 0xFFFFFFFF, total
