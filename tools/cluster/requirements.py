"""Print the dependencies of the project and of some of its extras, without torch, for machines with their own torch.

python requirements.py pyproject.toml test,wandb > requirements.txt
pip install -r requirements.txt && pip install --no-deps -e .
"""

import re
import sys
import tomllib
from pathlib import Path


def list_requirements(pyproject: str, extras: str) -> list[str]:
    """Return the lines of a requirements file, without the line of torch."""
    project = tomllib.loads(Path(pyproject).read_text(encoding="utf-8"))["project"]
    chosen = [name for name in extras.split(",") if name]
    lines = [*project["dependencies"], *(line for name in chosen for line in project["optional-dependencies"][name])]
    return [line for line in lines if re.split(r"[^\w.-]", line)[0] != "torch"]


if __name__ == "__main__":
    print("\n".join(list_requirements(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")))
