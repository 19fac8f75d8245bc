"""The folder of a build that goes on: what every task needs to know, and where everything is.

DIR.work/key.json, cluster/        see executors/work_folder.py
DIR.work/settings.pickle           Settings; where the recipe is the user's own, recipe.py and its place beside it
DIR.work/plan.json                 the batches: their number and sizes
DIR.work/plan/000000.pickle ...    a batch of files to read
DIR.work/clones/                   repositories while they are read
DIR.work/parts/000000.parquet ...  what reading it gave: see parts.py
DIR.work/decisions/                what was decided: see decisions.py
DIR.work/out/                      the corpus, which takes its name at the end
DIR.work/replaced/                 the corpus that had that name before, until then

Nothing is removed from a folder that has such a name and is not ours.
"""

import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from neox_code.corpus.recipes.recipe import Recipe
from neox_code.corpus.recipes.registry import load_recipe, recipe_file
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
    """What the tasks of a build have in common."""

    recipe: Recipe
    languages: tuple[str, ...]
    """Of the recipe's, those that are taken; sorted."""
    seed: int
    max_bytes: int | None
    shares: Mapping[str, float]
    tokenizer: Path | None = None
    """A tokenizer.json, whose tokens are counted."""
    layout: str | None = None
    """What the folders of folders and archives are, instead of what they look like: one of LAYOUTS of sources/layout.py."""
    language: str | None = None
    """Of rows of datasets that name none."""
    clones: Path | None = None
    """Where clones of repositories are kept, and taken from; else they are removed once they are read."""


def batch_file(work: Path, index: int) -> Path:
    return work / "plan" / f"{index:06d}.pickle"


def part_file(work: Path, index: int) -> Path:
    return work / "parts" / f"{index:06d}.parquet"


def decisions_folder(work: Path) -> Path:
    return work / "decisions"


def output_folder(work: Path) -> Path:
    return work / "out"


def save_settings(work: Path, settings: Settings) -> None:
    own = recipe_file(settings.recipe)
    if own is not None:
        shutil.copyfile(own, work / RECIPE_COPY)
        write_text(work / RECIPE_PATH, str(own.absolute()))
    with atomic_file(work / SETTINGS_FILE, "wb") as file:
        pickle.dump(settings, file)


def load_settings(work: Path) -> Settings:
    """The inverse of `save_settings`; a worker asks for every task and reads once."""
    return read_settings(work, (work / SETTINGS_FILE).stat().st_mtime_ns)


def original_recipe(work: Path) -> Path | None:
    """Return the user's recipe file that a build is by; None if it is by a recipe of the package."""
    return Path((work / RECIPE_PATH).read_text(encoding="utf-8")) if (work / RECIPE_PATH).exists() else None


@lru_cache(maxsize=1)
def read_settings(work: Path, written_at: int) -> Settings:
    if (work / RECIPE_COPY).exists():
        load_recipe(work / RECIPE_COPY, original_recipe(work))
    with (work / SETTINGS_FILE).open("rb") as file:
        return pickle.load(file)
