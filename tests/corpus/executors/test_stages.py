import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from neox_code.corpus.executors.stages import LocalExecutor, Stage, is_complete_file, run_stage
from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.pipeline import index
from neox_code.corpus.pipeline.build import build_corpus
from neox_code.corpus.recipes.registry import find_recipe
from neox_code.corpus.sources import batches
from neox_code.errors import DataError

NUMBERS = [3, 1, 4, 1, 5, 9, 2, 6]


def square(work: Path, task: int) -> Iterator[float]:
    number = int((work / f"{task}.in").read_text())
    yield number
    with (work / "log").open("a") as log:
        log.write(f"{task}\n")
    (work / f"{task}.out").write_text(f"{number**2}PAR1")


def fails_at_three(work: Path, task: int) -> Iterator[float]:
    if task == 3:
        raise DataError("task 3 is impossible")
    yield from square(work, task)


def square_file(work: Path, task: int) -> Path:
    return work / f"{task}.out"


SQUARES = Stage("squares", square, square_file)


def cube(work: Path, task: int) -> Iterator[float]:
    number = int((work / f"{task}.in").read_text())
    yield number
    cube_file(work, task).write_text(f"{number**3}PAR1")


def cube_file(work: Path, task: int) -> Path:
    return work / f"{task}.cube"


class Here:
    """Runs tasks in this process, in an order of its own, and loses some."""

    def __init__(self, seed: int = 0, lost: Sequence[int] = ()):
        self.seed = seed
        self.lost = lost

    def run(self, stage: Stage, work: Path, tasks: Sequence[int]) -> Iterator[float]:
        for task in random.Random(self.seed).sample(tasks, len(tasks)):
            if task not in self.lost:
                yield from stage.run(work, task)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    for task, number in enumerate(NUMBERS):
        (tmp_path / f"{task}.in").write_text(str(number))
    return tmp_path


def test_only_tasks_without_output_are_run(work):
    (work / "2.out").write_text("16PAR1")
    (work / "5.out").write_text("8")  # broken off
    with LocalExecutor(2) as executor:
        run_stage(SQUARES, work, NUMBERS, executor)
        run_stage(SQUARES, work, NUMBERS, executor)
    assert [square_file(work, task).read_text() for task in range(8)] == [f"{number**2}PAR1" for number in NUMBERS]
    assert sorted(map(int, (work / "log").read_text().split())) == [0, 1, 3, 4, 5, 6, 7]


def test_an_error_of_a_task_is_raised_and_finished_tasks_are_not_repeated(work):
    with LocalExecutor(1) as executor:
        with pytest.raises(DataError, match="task 3 is impossible"):
            run_stage(Stage("squares", fails_at_three, square_file), work, NUMBERS, executor)
        assert SQUARES.find_missing(work, 8) == [3, 4, 5, 6, 7]
        run_stage(SQUARES, work, NUMBERS, executor)
    assert SQUARES.find_missing(work, 8) == []
    assert (work / "log").read_text().split() == list("01234567")


def test_tasks_that_were_started_early_are_not_repeated(work):
    with LocalExecutor(2) as executor:
        for task in range(5):
            executor.start_early(SQUARES, work, task)
        assert len(executor._early) >= 2
        assert sum(executor.run(SQUARES, work, range(8))) == sum(NUMBERS)
    assert [square_file(work, task).read_text() for task in range(8)] == [f"{number**2}PAR1" for number in NUMBERS]
    assert sorted(map(int, (work / "log").read_text().split())) == list(range(8))


def test_early_tasks_of_one_stage_are_not_counted_for_the_next(work):
    cubes = Stage("cubes", cube, cube_file)
    with LocalExecutor(2) as executor:
        for task in (0, 1):
            executor.start_early(SQUARES, work, task)
        end = time.monotonic() + 30
        while SQUARES.find_missing(work, 2):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert sum(executor.run(SQUARES, work, [2, 3])) == sum(NUMBERS[2:4])
        run_stage(cubes, work, NUMBERS, executor)
    assert [cube_file(work, task).read_text() for task in range(8)] == [f"{number**3}PAR1" for number in NUMBERS]


def test_an_executor_that_loses_tasks_silently_is_an_error(work):
    with pytest.raises(DataError, match=r"2 of 8 tasks left no output in .*; the first is task 4"):
        run_stage(SQUARES, work, NUMBERS, Here(lost=[4, 6]))
    run_stage(SQUARES, work, NUMBERS, Here())
    assert SQUARES.find_missing(work, 8) == []


def test_a_truncated_file_is_not_whole(tmp_path):
    assert not is_complete_file(tmp_path / "nowhere")
    for content, whole in ((b"{", False), (b"{}", True)):
        (tmp_path / "part.json").write_bytes(content)
        assert is_complete_file(tmp_path / "part.json") == whole
    for content, whole in ((b"", False), (b"PAR", False), (b"PAR1 and more", False), (b"PAR1...PAR1", True)):
        (tmp_path / "part").write_bytes(content)
        assert is_complete_file(tmp_path / "part") == whole


class Halfhearted:
    name = "halfhearted"

    def keep(self, file: Candidate) -> bool:
        return False


@pytest.mark.parametrize("place", ["before_reading", "after_reading"])
def test_a_filter_that_returns_no_reason_is_an_error(tree, tmp_path, place):
    recipe = replace(find_recipe("mixed"), **{place: (Halfhearted(),)})
    with pytest.raises(DataError, match=r"filter 'halfhearted' returned False for .*\. It must return True or a drop reason"):
        build_corpus([str(tree)], tmp_path / "corpus", recipe, seed=1, executor=Here())


class Edited:
    name = "edited"

    def __init__(self, code: int | None):
        self.code = code

    def edit(self, file: Candidate) -> str | None:
        return None if self.code is None else chr(self.code)


@pytest.mark.parametrize(("code", "problem"), [(None, "returned None for"), (0xD800, r"left the lone surrogate U\+D800 in")])
def test_an_edit_that_returns_no_text_is_an_error(tree, tmp_path, code, problem):
    recipe = replace(find_recipe("mixed"), after_reading=(Edited(code),))
    with pytest.raises(DataError, match=f"edit 'edited' {problem} "):
        build_corpus([str(tree)], tmp_path / "corpus", recipe, seed=1, executor=Here())


def test_a_corpus_does_not_depend_on_the_place_and_order_of_tasks(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "BATCH_BYTES", 2**14)
    monkeypatch.setattr(index, "LEAST_SHARD_BYTES", 2**14)
    recipe = find_recipe("mixed")
    build_corpus([str(tree)], tmp_path / "processes", recipe, seed=1, workers=2)
    for seed in (1, 2):
        build_corpus([str(tree)], tmp_path / f"here{seed}", recipe, seed=1, executor=Here(seed))
    build_corpus([str(tree)], tmp_path / "here1", recipe, seed=2, executor=Here())
    build_corpus([str(tree)], tmp_path / "here1", recipe, seed=1, executor=Here())
    for path in sorted((tmp_path / "processes").rglob("*")):
        for name in ("here1", "here2"):
            other = tmp_path / name / path.relative_to(tmp_path / "processes")
            assert path.is_dir() or other.read_bytes() == path.read_bytes()
    shards = [pq.read_table(path)["bytes"].to_pylist() for path in (tmp_path / "processes").rglob("shard-*.parquet")]
    assert len(shards) > 5
    assert all(len(sizes) == 1 or sum(sizes) <= 2**14 for sizes in shards)
