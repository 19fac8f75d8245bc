"""Prints the project's dependencies and those of some extras without torch: for machines that have their own.

python requirements.py pyproject.toml test,wandb > requirements.txt
pip install -r requirements.txt && pip install --no-deps -e .
"""

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: str, extras: str) -> list[str]:
    """The requirement lines, torch's left out."""
    project = tomllib.loads(Path(pyproject).read_text(encoding="utf-8"))["project"]
    chosen = [name for name in extras.split(",") if name]
    lines = [*project["dependencies"], *(line for name in chosen for line in project["optional-dependencies"][name])]
    return [line for line in lines if not line.startswith("torch=")]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")))
