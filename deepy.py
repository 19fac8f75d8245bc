#!/usr/bin/env python3
"""Run a command of neox_code/commands: ./deepy.py COMMAND CONFIG... is the console command `neox-code` in a checkout."""

import sys

SET_UP = "Activate the virtual environment of the set-up (. .venv/bin/activate), or make one: see the first command of README.md."

if not (3, 11) <= sys.version_info < (3, 13):  # an older Python reads this file too: nothing newer than f-strings
    print(
        f"error: neox-code runs on Python 3.11 and 3.12, not on {sys.version.split()[0]} ({sys.executable}). {SET_UP}",
        file=sys.stderr,
    )
    sys.exit(2)
try:
    from neox_code.commands.__main__ import start
except ModuleNotFoundError as error:
    if (error.name or "").startswith("neox_code"):
        raise
    print(f"error: The package {error.name} is not installed for {sys.executable}. {SET_UP}", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(start())
