"""Stages are done once, and again when what decides them changes."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from neox_code.errors import DataError, LaunchError
from neox_code.quickstart.stages import Done, Stage, claimed, mark_of, run_stages


class Interrupted(Exception):
    pass


class Workshop:
    """Three stages that write a file each, and a list of what they did."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.done: list[str] = []
        self.breaks: set[str] = set()

    def stages(self, **inputs: int) -> list[Stage]:
        return [
            Stage(name, {"size": inputs.get(name, 1)}, self.work(name), lambda name=name: self.done.append(f"clear {name}"))
            for name in ("sow", "water", "reap")
        ]

    def work(self, name: str) -> Callable[[], Done]:
        def work() -> Done:
            if name in self.breaks:
                raise Interrupted
            self.done.append(name)
            (self.folder / name).write_text("")
            return Done((self.folder / name,), {"count": len(self.done)})

        return work

    def run(self, **inputs: int) -> list[str]:
        self.done.clear()
        run_stages(self.stages(**inputs), self.folder)
        return [entry for entry in self.done if not entry.startswith("clear")]


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def test_finished_stages_are_skipped(workshop: Workshop, said: list[str]) -> None:
    assert workshop.run() == ["sow", "water", "reap"]
    said.clear()
    assert workshop.run() == []
    assert len(said) == 3 and all("skipped" in line for line in said)


def test_records_keep_facts_over_runs(workshop: Workshop) -> None:
    first = run_stages(workshop.stages(), workshop.folder)
    second = run_stages(workshop.stages(), workshop.folder)
    assert [record.facts for record in first] == [record.facts for record in second]
    assert all(record.finished for record in second)


def test_changed_inputs_redo_the_stage_and_the_later_ones(workshop: Workshop, said: list[str]) -> None:
    workshop.run()
    said.clear()
    assert workshop.run(water=2) == ["water", "reap"]
    assert said[1] == "2/3 water | size changed: done again"
    assert workshop.run(water=2) == []


def test_a_missing_product_redoes_the_stage_and_the_later_ones(workshop: Workshop, said: list[str]) -> None:
    workshop.run()
    (workshop.folder / "water").unlink()
    assert workshop.run() == ["water", "reap"]
    assert any(line.endswith("water is gone: done again") for line in said)


def test_an_interrupted_stage_goes_on_with_what_is_there(workshop: Workshop, said: list[str]) -> None:
    workshop.breaks = {"water"}
    with pytest.raises(Interrupted):
        workshop.run()
    workshop.breaks = set()
    said.clear()
    assert workshop.run() == ["water", "reap"]
    assert said[1] == "2/3 water | was interrupted: begins again"
    assert "clear water" not in workshop.done


def test_an_interrupted_stage_does_not_go_on_with_other_inputs(workshop: Workshop) -> None:
    workshop.breaks = {"water"}
    with pytest.raises(Interrupted):
        workshop.run()
    workshop.breaks = set()
    assert workshop.run(sow=2) == ["sow", "water", "reap"]
    assert "clear water" in workshop.done


def test_later_stages_are_redone_after_an_interrupted_redo(workshop: Workshop) -> None:
    workshop.run()
    (workshop.folder / "sow").unlink()
    workshop.breaks = {"sow"}
    with pytest.raises(Interrupted):
        workshop.run()
    workshop.breaks = set()
    assert workshop.run() == ["sow", "water", "reap"]


def test_a_folder_with_other_content_is_refused_and_stays_as_it_was(tmp_path: Path) -> None:
    thesis = tmp_path / "documents" / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("all my work")
    for fresh in (False, True):
        with pytest.raises(DataError, match="holds other things"), claimed(thesis.parent, fresh):
            pass
    assert [entry.name for entry in thesis.parent.iterdir()] == ["thesis.tex"]
    with pytest.raises(DataError, match="holds other things"), claimed(thesis):
        pass


def test_fresh_empties_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("")
    output = tmp_path / "output"
    with claimed(output):
        Workshop(output).run()
        (output / "link").symlink_to(outside)
    with claimed(output, fresh=True):
        assert {entry.name for entry in output.iterdir()} == {".lock", "stages.json"}
        assert Workshop(output).run() == ["sow", "water", "reap"]
    assert (outside / "kept").exists()


def test_a_second_run_at_the_same_time_is_refused(tmp_path: Path) -> None:
    with claimed(tmp_path / "output"), pytest.raises(LaunchError, match="in use by process"), claimed(tmp_path / "output"):
        pass
    with claimed(tmp_path / "output"):
        pass


def test_processes_that_a_killed_run_left_are_ended(tmp_path: Path) -> None:
    ours, others = (subprocess.Popen(["sleep", "60"], env=mark_of(tmp_path / name)) for name in ("output", "other"))
    try:
        with claimed(tmp_path / "output"):
            assert ours.wait(timeout=5) == -9
            assert others.poll() is None
    finally:
        others.kill()
        others.wait()
