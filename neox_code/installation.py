"""Paths and command of this installation, which is a checkout with ./deepy.py, or a wheel with the console command neox-code.

./deepy.py and tools/ import this module before all packages, with any version of Python: nothing in it is newer than f-strings.
"""

import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent

CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "deepy.py").is_file() else None
"""The folder with deepy.py, configs/ and tools/; None if the package was installed from a wheel."""

PACKAGED_CONFIGS = (PACKAGE / "configs").resolve()
"""The project's configuration files: a link to configs/ in a checkout, package data in a wheel."""

LAUNCHER = "./deepy.py" if CHECKOUT else "neox-code"
"""The first word of a command line in help, messages and reports."""


def find_launcher() -> str:
    """Return the first word of a command line that runs in the current folder."""
    return LAUNCHER if CHECKOUT in (None, Path.cwd()) else str(CHECKOUT / "deepy.py")


SET_UP = "Activate the virtual environment of the set-up (. .venv/bin/activate), or make one: see the first command of README.md."


def report_missing_set_up() -> None:
    """If the Python version is wrong, end with one sentence and status 2. From now on, end so for a missing package too."""
    if not (3, 11) <= sys.version_info < (3, 13):
        version = sys.version.split()[0]
        print(f"error: neox-code runs on Python 3.11 and 3.12, not on {version} ({sys.executable}). {SET_UP}", file=sys.stderr)
        sys.exit(2)
    sys.excepthook = report_exception


def report_exception(kind, error, trace):  # type: ignore[no-untyped-def]
    """Print an uncaught exception. If a package is not installed, print one sentence and end with status 2."""
    if kind is not ModuleNotFoundError or (error.name or "").startswith("neox_code"):
        sys.__excepthook__(kind, error, trace)
        return
    print(f"error: The package {error.name} is not installed for {sys.executable}. {SET_UP}", file=sys.stderr)
    sys.exit(2)
