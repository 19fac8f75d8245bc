"""Steps are done once, and again if something they depend on changes."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from neox_code.errors import DataError, LaunchError
from neox_code.quickstart.steps import FinishedStep, Step, claim_folder, make_folder_variable, run_steps


class Interrupted(Exception):
    pass


class ExampleJob:
    """A job of three steps that write a file each, and a list of the steps done."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.done: list[str] = []
        self.failing: set[str] = set()

    def steps(self, **inputs: int) -> list[Step]:
        return [
            Step(name, {"size": inputs.get(name, 1)}, self.work(name), lambda name=name: self.done.append(f"clear {name}"))
            for name in ("corpus", "tokens", "report")
        ]

    def work(self, name: str) -> Callable[[], FinishedStep]:
        def work() -> FinishedStep:
            if name in self.failing:
                raise Interrupted
            self.done.append(name)
            (self.folder / name).write_text("")
            return FinishedStep((self.folder / name,), {"count": len(self.done)})

        return work

    def run(self, **inputs: int) -> list[str]:
        self.done.clear()
        run_steps(self.steps(**inputs), self.folder)
        return [entry for entry in self.done if not entry.startswith("clear")]


@pytest.fixture
def job(tmp_path: Path) -> ExampleJob:
    return ExampleJob(tmp_path)


def test_finished_steps_are_skipped(job: ExampleJob, messages: list[str]) -> None:
    assert job.run() == ["corpus", "tokens", "report"]
    messages.clear()
    assert job.run() == []
    assert len(messages) == 3 and all("skipped" in line for line in messages)


def test_records_keep_facts_in_later_runs(job: ExampleJob) -> None:
    first = run_steps(job.steps(), job.folder)
    second = run_steps(job.steps(), job.folder)
    assert [record.facts for record in first] == [record.facts for record in second]
    assert all(record.finished for record in second)


def test_changed_inputs_repeat_the_step_and_all_later_ones(job: ExampleJob, messages: list[str]) -> None:
    job.run()
    messages.clear()
    assert job.run(tokens=2) == ["tokens", "report"]
    assert messages[1] == "2/3 tokens | size changed: running this step again"
    assert job.run(tokens=2) == []


def test_a_missing_product_repeats_the_step_and_all_later_ones(job: ExampleJob, messages: list[str]) -> None:
    job.run()
    (job.folder / "tokens").unlink()
    assert job.run() == ["tokens", "report"]
    assert any(line.endswith("tokens is missing: running this step again") for line in messages)


def test_an_interrupted_step_resumes(job: ExampleJob, messages: list[str]) -> None:
    job.failing = {"tokens"}
    with pytest.raises(Interrupted):
        job.run()
    job.failing = set()
    messages.clear()
    assert job.run() == ["tokens", "report"]
    assert messages[1] == "2/3 tokens | was interrupted: starts over"
    assert "clear tokens" not in job.done


def test_an_interrupted_step_starts_over_with_other_inputs(job: ExampleJob) -> None:
    job.failing = {"tokens"}
    with pytest.raises(Interrupted):
        job.run()
    job.failing = set()
    assert job.run(corpus=2) == ["corpus", "tokens", "report"]
    assert "clear tokens" in job.done


def test_later_steps_are_repeated_after_an_interrupted_repetition(job: ExampleJob) -> None:
    job.run()
    (job.folder / "corpus").unlink()
    job.failing = {"corpus"}
    with pytest.raises(Interrupted):
        job.run()
    job.failing = set()
    assert job.run() == ["corpus", "tokens", "report"]


def test_a_folder_with_other_content_is_refused_and_not_changed(tmp_path: Path) -> None:
    thesis = tmp_path / "documents" / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("all my work")
    for fresh in (False, True):
        with pytest.raises(DataError, match="has other contents"), claim_folder(thesis.parent, fresh):
            pass
    assert [entry.name for entry in thesis.parent.iterdir()] == ["thesis.tex"]
    with pytest.raises(DataError, match="has other contents"), claim_folder(thesis):
        pass


def test_fresh_empties_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("")
    output = tmp_path / "output"
    with claim_folder(output):
        ExampleJob(output).run()
        (output / "link").symlink_to(outside)
    with claim_folder(output, fresh=True):
        assert {entry.name for entry in output.iterdir()} == {".lock", "stages.json"}
        assert ExampleJob(output).run() == ["corpus", "tokens", "report"]
    assert (outside / "kept").exists()


def test_a_second_run_at_the_same_time_is_refused(tmp_path: Path) -> None:
    with (
        claim_folder(tmp_path / "output"),
        pytest.raises(LaunchError, match="in use by process"),
        claim_folder(tmp_path / "output"),
    ):
        pass
    with claim_folder(tmp_path / "output"):
        pass


def test_processes_of_a_killed_run_are_killed(tmp_path: Path) -> None:
    ours, others = (subprocess.Popen(["sleep", "60"], env=make_folder_variable(tmp_path / name)) for name in ("output", "other"))
    try:
        with claim_folder(tmp_path / "output"):
            assert ours.wait(timeout=5) == -9
            assert others.poll() is None
    finally:
        others.kill()
        others.wait()
