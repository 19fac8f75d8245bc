"""Write configs/README.md and configs/schema.json from the fields; with --check, only test that both are current.

python tools/describe_config.py
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import set_up  # noqa: F401

from neox_code.config.command_line import Parser
from neox_code.config.reference import MADE_BY, make_readme, make_schema_text
from neox_code.errors import ConfigError, run_command

CONFIGS = Path(__file__).parents[1] / "configs"


def main(argv: Sequence[str]) -> int:
    """Write the files that are not current and print their paths; return 0. With --check, raise ConfigError instead."""
    parser = Parser(__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not current")
    check = parser.parse_args(argv).check
    for path, text in {CONFIGS / "README.md": make_readme(), CONFIGS / "schema.json": make_schema_text()}.items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            print(f"{path} is current")
        elif not check:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")
        else:
            raise ConfigError(f"configs/{path.name} is not current. Run: {MADE_BY}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
