"""The key of Weights & Biases in a real run: it reaches the rank by environment, and nothing written, printed or started."""

import os
import secrets
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from neox_code.files import read_json_lines

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


def test_the_key_of_weights_and_biases_is_written_printed_and_handed_on_nowhere(job, folder, key):
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
    if find_spec("wandb") is None:
        assert '"has_key": true' in (folder / "wandb.log").read_text()
    else:
        assert list((folder / "wandb").glob("offline-run-*/*.wandb"))


def test_the_key_of_weights_and_biases_is_not_in_a_dry_run(job, folder, key):
    status, printed, commands = run(folder, key, "train", str(job(use_wandb=True)), "--dry-run")
    assert status == 0, printed.decode()
    assert b"use_wandb" in printed
    assert commands
    assert not [command for command in commands if key.encode() in command]
    assert files_with(folder, key) == []
