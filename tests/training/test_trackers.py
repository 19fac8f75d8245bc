"""Failing trackers end no run; the key of Weights & Biases reaches the rank by environment, and nothing written or started."""

import os
import re
import secrets
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from neox_code.checkpoint.record import read_record
from neox_code.config.neox import NeoXConfig
from neox_code.files import read_json_lines
from neox_code.training.trackers import JsonLinesTracker, Tolerant, build_trackers, has_wandb_login

DEEPY = Path(__file__).parents[2] / "deepy.py"

STAND_IN = '''
"""As much of wandb as a run uses; writes down all that it is told, and whether the key is there."""
import json, os

class Run:
    def log(self, *told, **named):
        with open("wandb.log", "a") as file:
            json.dump([told, named], file)

    def finish(self):
        self.log("finished", has_key="WANDB_API_KEY" in os.environ)

def init(**settings):
    run = Run()
    run.log("began", **settings)
    return run
'''


@pytest.fixture
def key() -> str:
    """A key in the form of a real one."""
    return secrets.token_hex(20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a run works, with a home and temporary files of its own; holds a stand-in for wandb where that is not installed."""
    for name in ("home", "temporary", "stand_in"):
        (tmp_path / name).mkdir()
    if find_spec("wandb") is None:
        (tmp_path / "stand_in" / "wandb.py").write_text(STAND_IN)
    return tmp_path


def run(folder: Path, key: str, *words: str) -> tuple[int, bytes, set[bytes]]:
    """Runs deepy.py with the key in its environment: the status, all that is printed, and the command lines of all it started."""
    own = {"HOME": folder / "home", "TMPDIR": folder / "temporary", "PYTHONPATH": folder / "stand_in"}
    environment = os.environ | {name: str(path) for name, path in own.items()}
    environment |= {"WANDB_API_KEY": key, "WANDB_MODE": "offline", "LOGLEVEL": "DEBUG", "DS_ACCELERATOR": "cpu"}
    printed = folder / "printed.txt"
    with printed.open("wb") as output:
        process = subprocess.Popen([sys.executable, DEEPY, *words], cwd=folder, env=environment, stdout=output, stderr=output)
        commands: set[bytes] = set()
        while process.poll() is None:
            commands |= command_lines(key)
            time.sleep(0.05)
    return process.returncode, printed.read_bytes(), commands


def command_lines(key: str) -> set[bytes]:
    """The command lines of the processes whose environment has the key."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if key.encode() in (entry / "environ").read_bytes():
                found.add((entry / "cmdline").read_bytes())
        except OSError:
            continue  # it has ended, or is another user's
    return found


def files_with(folder: Path, key: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]


def test_the_wandb_key_is_neither_written_nor_printed_nor_passed_on(job, folder, key):
    file = job(
        use_wandb=True,
        wandb_project="code",
        train_iters=2,
        eval_interval=2,
        save="save",
        tensorboard_dir="board",
        log_dir="logs",
    )
    status, printed, commands = run(folder, key, "train", str(file))
    assert status == 0, printed.decode()
    assert any(b"neox_code.commands.train" in command for command in commands)
    assert not [command for command in commands if key.encode() in command]
    assert files_with(folder, key) == []
    assert len(list(read_json_lines(folder / "save" / "metrics.jsonl"))) >= 2
    assert (folder / "save" / "global_step2" / "configs" / "merged.yml").exists()
    assert list((folder / "logs").iterdir())
    name = read_record(folder / "save" / "global_step2").run
    if find_spec("wandb") is None:
        assert '"has_key": true' in (folder / "wandb.log").read_text()
    else:
        assert list((folder / "wandb").glob("offline-run-*/*.wandb"))
    words = ["train", str(file), "--set", "train_iters=3", "--set", "load=save"]
    assert run(folder, key, *words)[0] == 0
    if find_spec("wandb") is None:
        begun = re.findall(r'"id": "([^"]+)", "resume": "allow"', (folder / "wandb.log").read_text())
        assert begun == [name, name]


def test_the_key_of_weights_and_biases_is_not_in_a_dry_run(job, folder, key):
    status, printed, commands = run(folder, key, "train", str(job(use_wandb=True)), "--dry-run")
    assert status == 0, printed.decode()
    assert b"use_wandb" in printed
    assert commands
    assert not [command for command in commands if key.encode() in command]
    assert files_with(folder, key) == []


def test_a_full_disk_at_a_log_line_is_a_warning(folder):
    """/dev/full is a disk without room."""
    tracker = Tolerant("metrics_file", lambda: JsonLinesTracker(folder / "metrics.jsonl", "run", 0))
    (folder / "metrics.jsonl").unlink(missing_ok=True)
    (folder / "metrics.jsonl").symlink_to("/dev/full")
    tracker.log(1, {"train/lm_loss": 2.0})
    assert tracker.has_failed


def test_a_row_that_was_cut_off_is_dropped_and_later_rows_stay_readable(tmp_path):
    file = tmp_path / "metrics.jsonl"
    for iteration in (1, 2, 3):
        JsonLinesTracker(file, "run", iteration - 1).log(iteration, {"train/lm_loss": 2.0})
    file.write_bytes(file.read_bytes()[:-9])
    JsonLinesTracker(file, "run", 3).log(4, {"train/lm_loss": 1.5})
    assert [row["iteration"] for row in read_json_lines(file)] == [1, 2, 4]
    JsonLinesTracker(file, "run", 4)


def test_a_damaged_metrics_file_is_a_warning_and_stays_as_it_is(tmp_path, capfd):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"run": \n{"run": "run", "iteration": 2}\n')
    tracker = Tolerant("metrics_file", lambda: JsonLinesTracker(file, "run", 0))
    tracker.log(1, {"train/lm_loss": 2.0})
    assert tracker.has_failed
    assert "metrics.jsonl:1 is not valid JSON" in capfd.readouterr().err
    assert len(file.read_bytes().splitlines()) == 2


def test_folders_that_cannot_be_made_are_warnings(job, folder, key):
    (folder / "file").write_text("not a folder")
    words = {"log_dir": "file/logs", "tensorboard_dir": "file/board", "metrics_file": "file/metrics.jsonl"}
    status, printed, _ = run(folder, key, "train", str(job(**words)))
    assert status == 0, printed.decode()
    assert all(name.encode() in printed for name in words)
    assert printed.count(b"cannot be written") == 3
    assert b"Traceback" not in printed


def test_weights_and_biases_without_a_login_is_left_out(job, folder, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder / "home"))
    assert not has_wandb_login()
    assert build_trackers(NeoXConfig.load([job(use_wandb=True)]), "run", 0) == []
    (folder / "home" / ".netrc").write_text("machine api.wandb.ai login user password 0123\n")
    (folder / "home" / ".netrc").chmod(0o600)
    assert has_wandb_login()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.com")
    assert not has_wandb_login()


class FailingTracker:
    """Fails at some calls, and remembers the others."""

    def __init__(self, failures):
        self.failures, self.rows = set(failures), []

    def log(self, iteration, scalars):
        if iteration in self.failures:
            raise ConnectionError(f"no network at {iteration}")
        self.rows.append(iteration)

    def close(self):
        raise OSError("no network at the end")


def test_a_tracker_that_fails_for_a_while_warns_once_and_is_tried_again(monkeypatch):
    lines = []
    monkeypatch.setattr("neox_code.training.trackers.log.warning", lambda text, *values: lines.append(text % values))
    inner = FailingTracker([2, 3])
    tracker = Tolerant("the tracker", lambda: inner)
    for iteration in range(1, 6):
        tracker.log(iteration, {})
    tracker.close()
    assert inner.rows == [1, 4, 5]
    assert lines == ["the tracker cannot be written (no network at 2); training continues without it"]
