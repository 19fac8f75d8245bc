"""Builds that are killed, and what the next run makes of it."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from neox_code.corpus.shards import load_summary

BUILD = """
import os
import signal
import sys
from neox_code.corpus.pipeline import build, index
from neox_code.corpus.pipeline.build import build_corpus
from neox_code.corpus.recipes.registry import find_recipe
from neox_code.corpus.sources import batches
from neox_code.corpus.executors.stages import LocalExecutor
from neox_code.errors import run_command

build.code_digest = lambda: "as it is"                       # a colleague may be editing
run = LocalExecutor.run

def run_until_killed(self, stage, work, tasks):
    for done in run(self, stage, work, tasks):
        yield done
        if len(list((work / "parts").glob("*.parquet"))) >= int(os.environ.get("KILLED_AFTER_PARTS", 10**9)):
            os.kill(os.getpid(), signal.SIGKILL)

LocalExecutor.run = run_until_killed
batches.BATCH_BYTES = index.LEAST_SHARD_BYTES = 2**14        # many small tasks

def main(arguments):
    workers, recipe, seed, output, *sources = arguments
    build_corpus(sources, output, find_recipe(recipe), seed=int(seed), workers=int(workers), shares=(80, 10, 10))
    return 0

sys.exit(run_command(main, sys.argv[1:]))
"""


def start(
    output: Path,
    *sources: Path,
    workers: int = 2,
    recipe: str | Path = "mixed",
    seed: int = 1,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILD, str(workers), str(recipe), str(seed), output, *sources]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"LOGLEVEL": "INFO"} | dict(environment or {})
    )


def build(output: Path, *sources: Path, **settings) -> str:
    with start(output, *sources, **settings) as process:
        _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return errors


def interrupt(output: Path, *sources: Path, **settings) -> None:
    """A build that is killed once it has made three parts."""
    with start(output, *sources, environment={"KILLED_AFTER_PARTS": "3"}, **settings) as process:
        _, errors = process.communicate(timeout=600)
    assert process.returncode == -signal.SIGKILL, errors


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def reference(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    output = tmp_path_factory.mktemp("reference") / "corpus"
    build(output, tree, workers=1)
    assert not output.with_name("corpus.work").exists()
    files = bytes_of(output)
    assert len(files) > 8
    return files


@pytest.mark.parametrize("seed", range(3))
def test_a_build_killed_at_random_moments_ends_as_one_that_was_not(tree, reference, tmp_path, seed):
    rng = random.Random(seed)
    output, work = tmp_path / "corpus", tmp_path / "corpus.work"
    for _ in range(6):
        with start(output, tree, workers=rng.choice([1, 2])) as process:
            while not work.exists() and process.poll() is None:
                time.sleep(0.001)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0, 0.9))
            process.send_signal(rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        if output.exists() and not work.exists():
            assert bytes_of(output) == reference
            shutil.rmtree(output)
    build(output, tree)
    assert bytes_of(output) == reference


def test_the_next_run_says_how_far_the_last_one_was_and_does_not_read_again(tree, reference, tmp_path):
    output = tmp_path / "corpus"
    interrupt(output, tree)
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "corpus.work" / "parts").glob("*.parquet")}
    assert not output.exists()
    said = build(output, tree)
    going_on = re.search(r"corpus: resuming an interrupted run: (\d+) of (\d+) batches read", said)
    assert 3 <= int(going_on[1]) < int(going_on[2])
    assert len(parts) >= 3
    assert bytes_of(output) == reference
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_half_a_part_is_made_again(tree, reference, tmp_path):
    output = tmp_path / "corpus"
    interrupt(output, tree)
    parts = sorted((tmp_path / "corpus.work" / "parts").glob("*.parquet"))
    parts[0].write_bytes(parts[0].read_bytes()[:100])
    parts[1].write_bytes(b"")
    build(output, tree)
    assert bytes_of(output) == reference


def test_another_recipe_starts_anew_and_says_so(tree, tmp_path):
    recipe = tmp_path / "own.py"
    recipe.write_text(OWN_RECIPE)
    interrupt(tmp_path / "corpus", tree, recipe=recipe)
    recipe.write_text(OWN_RECIPE.replace("MinTokens(20)", "MinTokens(30)"))
    assert "differs in recipe: starting from the beginning" in build(tmp_path / "corpus", tree, recipe=recipe)


def test_other_settings_start_anew_and_say_so(tree, tmp_path):
    interrupt(tmp_path / "corpus", tree)
    assert "differs in settings: starting from the beginning" in build(tmp_path / "corpus", tree, seed=2)
    assert load_summary(tmp_path / "corpus").settings["seed"] == 2


def test_changed_sources_start_anew_and_say_so(tree, reference, tmp_path):
    """A file of the same size, changed in place."""
    source = tmp_path / "tree"
    shutil.copytree(tree, source)
    interrupt(tmp_path / "corpus", source, workers=1)  # so that the first batches, of which it is, have been read
    changed = source / "alpha" / "src" / "main.c"
    changed.write_bytes(changed.read_bytes().replace(b"alpha", b"omega"))
    said = build(tmp_path / "corpus", source)
    assert "sources have changed" in said and "resuming" not in said
    assert (tmp_path / "corpus" / "index.tsv").read_bytes() != reference["index.tsv"]


OWN_RECIPE = """
from dataclasses import dataclass

from neox_code.corpus.filters.tokens import MinTokens
from neox_code.corpus.languages.rules import FileLanguage
from neox_code.corpus.recipes.recipe import Recipe


@dataclass(frozen=True)
class NoWindows:
    name = "no windows"

    def keep(self, file):
        return "windows" not in file.path or "a file for Windows"


RECIPE = Recipe(
    "own",
    languages=("C", "Python"),
    language_rule=FileLanguage(("C", "Python")),
    before_reading=(NoWindows(),),
    after_reading=(MinTokens(20),),
)
"""


def test_a_recipe_of_ones_own_with_its_own_filter_works_in_processes(tree, tmp_path):
    recipe = tmp_path / "own.py"
    recipe.write_text(OWN_RECIPE)
    build(tmp_path / "corpus", tree, recipe=recipe)
    summary = load_summary(tmp_path / "corpus")
    assert summary.recipe == "own"
    assert sum(count.files for count in summary.counts if count.verdict == "a file for Windows") == 1


@pytest.mark.parametrize("moment", ["before the rename", "between the renames", "after the rename"])
def test_a_kill_while_the_corpus_takes_its_name_is_mended(tree, reference, tmp_path, moment):
    """The work folder as a kill at that moment leaves it, made by hand."""
    output, work = tmp_path / "corpus", tmp_path / "corpus.work"
    build(output, tree, seed=2)
    old = bytes_of(output)
    script = f"""
import os
from pathlib import Path
real = Path.replace
moments = []

def replace(self, target):
    if Path(target).name == "replaced" or Path(target) == Path({str(output)!r}):
        moments.append(target)
        if {moment!r} == "before the rename" and len(moments) == 1:
            os._exit(9)
        if {moment!r} == "between the renames" and len(moments) == 2:
            os._exit(9)
    result = real(self, target)
    if {moment!r} == "after the rename" and len(moments) == 2:
        os._exit(9)
    return result

Path.replace = replace
{BUILD}
"""
    command = [sys.executable, "-c", script, "1", "mixed", "1", output, tree]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 9
    assert work.exists()
    if moment == "before the rename":
        assert bytes_of(output) == old
    build(output, tree)
    assert bytes_of(output) == reference
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus"]


def test_a_kill_while_the_work_folder_is_emptied_is_mended(tree, reference, tmp_path):
    interrupt(tmp_path / "corpus", tree, seed=2)
    script = f"""
import os
import shutil
shutil.rmtree = lambda *_, **__: os._exit(9)
{BUILD}
"""
    command = [sys.executable, "-c", script, "1", "mixed", "1", tmp_path / "corpus", tree]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 9
    build(tmp_path / "corpus", tree)
    assert bytes_of(tmp_path / "corpus") == reference


def test_the_corpus_of_a_build_killed_between_the_renames_comes_back_for_other_settings(tree, reference, tmp_path):
    build(tmp_path / "corpus", tree)
    interrupt(tmp_path / "corpus", tree, seed=2)
    (tmp_path / "corpus").rename(tmp_path / "corpus.work" / "replaced")
    with start(tmp_path / "corpus", tree / "alpha" / "README", seed=3) as process:
        assert process.wait(60) == 2
    assert bytes_of(tmp_path / "corpus") == reference


def test_two_builds_of_one_corpus_at_a_time_are_refused(tree, tmp_path):
    with start(tmp_path / "corpus", tree) as first:
        while not (tmp_path / "corpus.work" / ".lock").exists():
            time.sleep(0.001)
        time.sleep(0.05)
        with start(tmp_path / "corpus", tree) as second:
            assert second.wait(60) == 2
            assert "is in use by process" in second.stderr.read()
        assert first.wait(60) == 0


def test_a_full_disk_is_one_sentence_and_the_next_run_goes_on(tree, reference, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", small], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with start(small / "corpus", tree) as process:
            _, errors = process.communicate(timeout=600)
        assert process.returncode == 2
        assert "Traceback" not in errors
        assert f"No space left on device at {small / 'corpus.work'}" in errors and "finished work is kept" in errors
        subprocess.run(["mount", "-o", "remount,size=50m", small], check=True)
        assert "resuming an interrupted run" in build(small / "corpus", tree)
        assert bytes_of(small / "corpus") == reference
    finally:
        subprocess.run(["umount", small], check=True)


def test_the_key_of_a_build_is_readable(tree, tmp_path):
    interrupt(tmp_path / "corpus", tree)
    key = json.loads((tmp_path / "corpus.work" / "key.json").read_text())
    assert key["sources"] == [[str(tree)]]
    assert key["settings"]["seed"] == 1
