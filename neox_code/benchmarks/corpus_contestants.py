"""Contestants in building a corpus by PolyCoder's recipe: ours, and Code-LMs' steps. The kept files are compared."""

import hashlib
import shutil
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from neox_code.benchmarks import code_lms
from neox_code.benchmarks.contestant import TimedStep, compute_digest, run_contestant
from neox_code.benchmarks.corpus_contest import CODE, SMALL
from neox_code.benchmarks.sample import read_sample
from neox_code.corpus.pipeline.build import build_corpus
from neox_code.corpus.recipes.registry import find_recipe
from neox_code.corpus.shards import KEPT, read_manifest

LAYOUT = "language/organization/project"


def build_with_ours(size: str, folder: Path, cores: int) -> TimedStep:
    """Return the timed step that builds the sample corpus with the recipe polycoder."""
    output = folder / f"{size}-corpus-{cores}"
    recipe = find_recipe("polycoder")

    def run() -> None:
        shutil.rmtree(output, ignore_errors=True)
        build_corpus([str(folder / size)], output, recipe, seed=1, workers=cores, layout=LAYOUT)

    def describe_output() -> list[Any]:
        manifest = read_manifest(output)
        rows = zip(manifest["verdict"].to_pylist(), manifest["sha256"].to_pylist(), strict=True)
        return describe_kept_files(sha256 for verdict, sha256 in rows if verdict == KEPT)

    return TimedStep(run, describe_output, read_sample(folder / size).num_bytes)


def build_with_code_lms(folder: Path, cores: int) -> TimedStep:
    """Return the timed step that builds the small sample with Code-LMs' scripts."""
    output = folder / "Code"

    def run() -> None:
        shutil.rmtree(output, ignore_errors=True)
        code_lms.extract(folder / SMALL, output)
        code_lms.deduplicate(output)

    def describe_output() -> list[Any]:
        return describe_kept_files(hashlib.sha256(path.read_bytes()).hexdigest() for path in output.rglob("*") if path.is_file())

    return TimedStep(run, describe_output, read_sample(folder / SMALL).num_bytes)


def describe_kept_files(hashes: Iterable[str]) -> list[Any]:
    found = sorted(hashes)
    return [len(found), compute_digest(*(sha256.encode() for sha256 in found))]


if __name__ == "__main__":
    sys.exit(
        run_contestant(
            {
                "neox-code": partial(build_with_ours, CODE),
                "neox-code-small": partial(build_with_ours, SMALL),
                "code-lms": build_with_code_lms,
            }
        )
    )
