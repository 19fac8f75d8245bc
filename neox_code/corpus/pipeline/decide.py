"""Deciding on the whole: languages of projects, licenses, duplicates, division, sample, split. Between reading and writing.

    decide(work, num_parts, settings)                        # leaves decisions/, the manifest and the index

Runs in one process and reads the metadata of all parts a few times, in their order, a block at a time. In memory stay 2 bytes for
every file, at most 70 for every duplicate, about 1,000 for every project, and 0.2 GB of buffers; keys, names and the order of files
wait on disk. So 100 million files, 10 million of them duplicates, in 300,000 projects, take 0.2 + 0.7 + 0.3 + 0.2 GB.
"""

import shutil
from pathlib import Path

import numpy as np

from neox_code.corpus.pipeline.decisions import DECISIONS_FILE
from neox_code.corpus.pipeline.drop_duplicates import Survivors, drop_duplicates
from neox_code.corpus.pipeline.drop_reasons import Verdicts
from neox_code.corpus.pipeline.file_order import FileOrder
from neox_code.corpus.pipeline.index import write_index
from neox_code.corpus.pipeline.language_and_license import SETTLED_COLUMNS, Settler
from neox_code.corpus.pipeline.parts import Parts
from neox_code.corpus.pipeline.project_table import ProjectTable
from neox_code.corpus.pipeline.projects import sample_projects
from neox_code.corpus.pipeline.repositories import SizesByLanguage, divide, divide_few_projects
from neox_code.corpus.pipeline.split import HELD_OUT, assign_splits
from neox_code.corpus.pipeline.work_folder import Settings, decisions_folder
from neox_code.corpus.shards import SPLITS
from neox_code.logs import get_logger, progress

log = get_logger(__name__)


def decide(work: Path, num_parts: int, settings: Settings) -> None:
    """Leaves the decisions in the work folder, unless they are there."""
    folder = decisions_folder(work)
    if (folder / DECISIONS_FILE).exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    recipe = settings.recipe
    passes = 5 + 2 * recipe.divide_large_projects
    with progress("decide", total=passes * num_parts, unit="batches") as advance:
        decide_on(work, Parts(work, num_parts, lambda: advance(1)), settings, folder)


def decide_on(work: Path, parts: Parts, settings: Settings, folder: Path) -> None:
    projects, rows_of_project = survey(parts)
    verdicts = Verdicts(int(rows_of_project.sum()))
    survivors = settle(parts, projects, rows_of_project, verdicts, settings, folder)
    repositories = divide(parts, projects, verdicts, folder, settings.recipe.divide_large_projects)
    if any(settings.shares.get(split, 0) > 0 for split in HELD_OUT):
        divide_few_projects(Parts(work, parts.count), repositories, verdicts)
    taken = sample_projects(repositories.sizes, settings.max_bytes, settings.seed)
    sizes = {name: size for name, size in repositories.sizes.items() if name in taken}
    splits = assign_splits(sizes, settings.shares, settings.seed)
    missing = [split for split in SPLITS if settings.shares.get(split, 0) > 0 and split not in splits.values()]
    if missing and splits:
        log.warning(
            "corpus: no files for %s: only %d units to split (projects; folders or files of fewer than three). Add sources.",
            " and ".join(missing),
            len(splits),
        )
    write_index(work, parts, projects, verdicts, survivors, repositories, splits)


def survey(parts: Parts) -> tuple[ProjectTable, np.ndarray]:
    """What the parts know of every project, and the number of its rows."""
    table = ProjectTable()
    counted = SizesByLanguage()
    rows = np.zeros(0, np.int64)
    for block in parts.blocks(["project", "is_first", "path", "bytes", "counted", "stated_license", "project_version"]):
        numbers = table.numbers(block.projects)[block.numbers("project")]
        if len(table) > len(rows):
            rows = np.concatenate([rows, np.zeros(len(table), np.int64)])
        seen, counts = np.unique(numbers, return_counts=True)
        rows[seen] += counts
        for column, take_note in (("stated_license", table.found_license), ("project_version", table.found_version)):
            said = block.table[column]
            for index in np.flatnonzero(said.is_valid().to_numpy()).tolist():
                take_note(int(numbers[index]), block.table["path"][index].as_py(), said[index].as_py())
        counted.add(block, numbers, block.table["is_first"].to_numpy(), "counted")
    table.count(counted.by_number())
    return table, rows[: len(table)]


def settle(
    parts: Parts, projects: ProjectTable, rows_of_project: np.ndarray, verdicts: Verdicts, settings: Settings, folder: Path
) -> Survivors:
    """Decide on the language, the license and the duplicates of every file."""
    rules = settings.recipe.duplicates
    keys = [f"key{number}" for number in range(len(rules))]
    ranks = projects.ranks()
    rows_of_rank = np.empty_like(rows_of_project)
    rows_of_rank[ranks] = rows_of_project
    with FileOrder(folder / "order", rows_of_rank, len(rules)) as order, Settler(settings, projects, verdicts, folder) as settler:
        for block in parts.blocks([*SETTLED_COLUMNS, *keys]):
            numbers = projects.numbers(block.projects)[block.numbers("project")]
            settler.settle(block, numbers)
            if not rules:
                continue
            kept = np.flatnonzero(verdicts.kept(block.rows))
            files = block.table.take(kept)
            order.add(ranks[numbers[kept]], files["path"], kept + block.first_row, [files[key] for key in keys])
        return drop_duplicates(order, rules, verdicts, folder)
