"""The stage between scan and write: decide which files are kept and their split, by project language, license and duplicates.

    decide_files(work, num_batches, settings)                        # writes decisions/, the manifest and the index

One process reads the metadata of all scan results several times, in order, a block of rows at a time. In memory it holds 2 bytes
per file, at most 70 per duplicate, about 1,000 per project, and 0.2 GB of buffers. Keys, names and the order of files are on disk.
Example: 100 million files in 300,000 projects, 10 million of them duplicates, take 0.2 + 0.7 + 0.3 + 0.2 GB of memory.
"""

import shutil
from pathlib import Path

import numpy as np

from neox_code.corpus.pipeline.decisions import DECISIONS_FILE
from neox_code.corpus.pipeline.drop_duplicates import KeptCopies, drop_duplicates
from neox_code.corpus.pipeline.drop_reasons import DropReasons
from neox_code.corpus.pipeline.file_order import FileOrder
from neox_code.corpus.pipeline.index import write_index
from neox_code.corpus.pipeline.language_and_license import LANGUAGE_AND_LICENSE_COLUMNS, LanguageAndLicense
from neox_code.corpus.pipeline.project_table import ProjectTable
from neox_code.corpus.pipeline.projects import sample_projects
from neox_code.corpus.pipeline.repositories import SizesByLanguage, divide_projects, maybe_use_folders_as_split_units
from neox_code.corpus.pipeline.row_licenses import LicenseWriter
from neox_code.corpus.pipeline.scan_results import ScanResults
from neox_code.corpus.pipeline.split import HELD_OUT, assign_splits
from neox_code.corpus.pipeline.work_folder import Settings, get_decisions_folder
from neox_code.corpus.shards import SPLITS
from neox_code.logs import get_logger, progress

log = get_logger(__name__)


def decide_files(work: Path, num_batches: int, settings: Settings) -> None:
    """Write the decisions to the work folder, unless an earlier run has written them."""
    folder = get_decisions_folder(work)
    if (folder / DECISIONS_FILE).exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    recipe = settings.recipe
    passes = 5 + 2 * recipe.divide_large_projects
    with progress("decide", total=passes * num_batches, unit="batches") as advance:
        decide_all_rows(work, ScanResults(work, num_batches, lambda: advance(1)), settings, folder)


def decide_all_rows(work: Path, results: ScanResults, settings: Settings, folder: Path) -> None:
    """Decide on every row of the scan results, and write manifest, index and decisions."""
    projects, rows_of_project = read_projects(results)
    drop_reasons = DropReasons(int(rows_of_project.sum()))
    kept_copies = find_drop_reasons(results, projects, rows_of_project, drop_reasons, settings, folder)
    repositories = divide_projects(results, projects, drop_reasons, folder, settings.recipe.divide_large_projects)
    if any(settings.shares.get(split, 0) > 0 for split in HELD_OUT):
        maybe_use_folders_as_split_units(ScanResults(work, results.count), repositories, drop_reasons)
    taken = sample_projects(repositories.sizes, settings.max_bytes, settings.seed)
    sizes = {name: size for name, size in repositories.sizes.items() if name in taken}
    splits = assign_splits(sizes, settings.shares, settings.seed)
    missing = [split for split in SPLITS if settings.shares.get(split, 0) > 0 and split not in splits.values()]
    if missing and splits:
        log.warning(
            "corpus: no files for %s: there are only %d projects, folders or files to split. Add sources.",
            " and ".join(missing),
            len(splits),
        )
    write_index(work, results, projects, drop_reasons, kept_copies, repositories, splits)


def read_projects(results: ScanResults) -> tuple[ProjectTable, np.ndarray]:
    """Return the table of projects and the number of rows of each project (shape [projects], int64)."""
    table = ProjectTable()
    counted = SizesByLanguage()
    rows = np.zeros(0, np.int64)
    for block in results.blocks(["project", "is_first", "path", "bytes", "counted", "stated_license", "project_version"]):
        numbers = table.number_projects(block.projects)[block.numbers("project")]
        if len(table) > len(rows):
            rows = np.concatenate([rows, np.zeros(len(table), np.int64)])
        seen, counts = np.unique(numbers, return_counts=True)
        rows[seen] += counts
        for column, add_statement in (("stated_license", table.add_license), ("project_version", table.add_version)):
            stated = block.table[column]
            for index in np.flatnonzero(stated.is_valid().to_numpy()).tolist():
                add_statement(int(numbers[index]), block.table["path"][index].as_py(), stated[index].as_py())
        counted.add(block, numbers, block.table["is_first"].to_numpy(), "counted")
    table.set_sizes(counted.sum_by_number())
    return table, rows[: len(table)]


def find_drop_reasons(
    results: ScanResults,
    projects: ProjectTable,
    rows_of_project: np.ndarray,
    drop_reasons: DropReasons,
    settings: Settings,
    folder: Path,
) -> KeptCopies:
    """Drop files for their language, their license and as duplicates. Return the kept copy of each duplicate."""
    rules = settings.recipe.duplicates
    keys = [f"key{number}" for number in range(len(rules))]
    ranks = projects.rank_projects()
    rows_of_rank = np.empty_like(rows_of_project)
    rows_of_rank[ranks] = rows_of_project
    with (
        FileOrder(folder / "order", rows_of_rank, len(rules)) as order,
        LicenseWriter(folder) as licenses,
    ):
        decider = LanguageAndLicense(settings, projects, drop_reasons, licenses)
        for block in results.blocks([*LANGUAGE_AND_LICENSE_COLUMNS, *keys]):
            numbers = projects.number_projects(block.projects)[block.numbers("project")]
            decider.decide_block(block, numbers)
            if not rules:
                continue
            kept = np.flatnonzero(drop_reasons.mask_kept(block.rows))
            files = block.table.take(kept)
            order.add(ranks[numbers[kept]], files["path"], kept + block.first_row, [files[key] for key in keys])
        return drop_duplicates(order, rules, drop_reasons, folder)
