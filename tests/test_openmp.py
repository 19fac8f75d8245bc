"""Idle OpenMP threads sleep soon in every process of the package, whichever way it starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRINT = "import os, {0}; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"


def spin_settings(module: str, **variables: str) -> list[str]:
    """GOMP_SPINCOUNT and OMP_WAIT_POLICY in a new process after the import of `module`."""
    clean = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment = clean | {"PYTHONPATH": str(ROOT)} | variables
    done = subprocess.run(
        [sys.executable, "-c", PRINT.format(module)], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize("module", ["neox_code.errors", "deepy"])
def test_spinning_is_short_by_default(module: str) -> None:
    assert spin_settings(module) == ["20000", "None"]


def test_the_users_own_settings_stay() -> None:
    assert spin_settings("neox_code.errors", GOMP_SPINCOUNT="7") == ["7", "None"]
    assert spin_settings("neox_code.errors", OMP_WAIT_POLICY="active") == ["None", "active"]


def test_libgomp_reads_the_setting_when_a_command_loads_torch() -> None:
    """OMP_DISPLAY_ENV makes libgomp print what it read."""
    variables = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", "import neox_code.commands.generate"],
        env=variables | {"PYTHONPATH": str(ROOT), "OMP_DISPLAY_ENV": "verbose"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("this torch does not use libgomp")
    assert "GOMP_SPINCOUNT = '20000'" in done.stderr
