"""The work folder of a build: its files, and the settings that all tasks of the build read.

DIR.work/key.json, cluster/        see executors/work_folder.py
DIR.work/settings.pickle           Settings; for a user's recipe also recipe.py and recipe.path with its original path
DIR.work/plan.json                 the number and sizes of the batches
DIR.work/plan/000000.pickle ...    the files of a batch
DIR.work/clones/                   clones of repositories while they are read
DIR.work/parts/000000.parquet ...  the scan results of a batch: see scan_results.py
DIR.work/decisions/                the decisions on all files: see decisions.py
DIR.work/out/                      the corpus, which is moved to DIR at the end
DIR.work/replaced/                 the corpus that was in DIR before

If a folder DIR.work exists that no build has made, it is left unchanged.
"""

import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from neox_code.corpus.recipes.recipe import Recipe
from neox_code.corpus.recipes.registry import get_recipe_file, load_recipe
from neox_code.files import atomic_file, write_text

SETTINGS_FILE = "settings.pickle"
PLAN_FILE = "plan.json"
FINISHED_FILE = "finished.json"
RECIPE_COPY = "recipe.py"
RECIPE_PATH = "recipe.path"
CLONES_FOLDER = "clones"
REPLACED_FOLDER = "replaced"


@dataclass(frozen=True)
class Settings:
    recipe: Recipe
    languages: tuple[str, ...]
    """The languages of the corpus, sorted; a subset of the recipe's."""
    seed: int
    max_bytes: int | None
    shares: Mapping[str, float]
    tokenizer: Path | None = None
    """A tokenizer.json with which tokens are counted."""
    layout: str | None = None
    """The meaning of the folders in sources, one of LAYOUTS in sources/folder_layout.py; None: detect it."""
    language: str | None = None
    """The language of dataset rows that state no language."""
    clones: Path | None = None
    """The folder in which clones of repositories are kept and reused; None: a clone is removed after it is read."""


def get_batch_path(work: Path, index: int) -> Path:
    return work / "plan" / f"{index:06d}.pickle"


def get_scan_result_path(work: Path, index: int) -> Path:
    return work / "parts" / f"{index:06d}.parquet"


def get_decisions_folder(work: Path) -> Path:
    return work / "decisions"


def get_output_folder(work: Path) -> Path:
    return work / "out"


def save_settings(work: Path, settings: Settings) -> None:
    own = get_recipe_file(settings.recipe)
    if own is not None:
        shutil.copyfile(own, work / RECIPE_COPY)
        write_text(work / RECIPE_PATH, str(own.absolute()))
    with atomic_file(work / SETTINGS_FILE, "wb") as file:
        pickle.dump(settings, file)


def load_settings(work: Path) -> Settings:
    """Return the settings that `save_settings` has written. The result is cached: a process reads the file once."""
    return read_settings(work, (work / SETTINGS_FILE).stat().st_mtime_ns)


def find_original_recipe(work: Path) -> Path | None:
    """Return the path of the user's recipe file; None for a recipe of the package."""
    return Path((work / RECIPE_PATH).read_text(encoding="utf-8")) if (work / RECIPE_PATH).exists() else None


@lru_cache(maxsize=1)
def read_settings(work: Path, written_at: int) -> Settings:
    if (work / RECIPE_COPY).exists():
        load_recipe(work / RECIPE_COPY, find_original_recipe(work))
    with (work / SETTINGS_FILE).open("rb") as file:
        return pickle.load(file)
