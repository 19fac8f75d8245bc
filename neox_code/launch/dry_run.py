"""What `--dry-run` prints: every value with its origin, what is ignored and why, and the command that would run.

print(described(config, launch_command(module, arguments, config)))
"""

import shlex
from collections.abc import Iterable, Sequence

from neox_code.config.assembly import DEFAULT, written
from neox_code.config.fields import SECTIONS, fields_of
from neox_code.config.neox import NeoXConfig

WIDEST = 60
"""Characters of a column; longer entries push the next column aside."""


def described(config: NeoXConfig, command: Sequence[str]) -> str:
    """The merged configuration, a line per key: key, value, `default` or `changed`, origin; and the command."""
    values = config.values()
    rows = []
    for section in SECTIONS:
        rows.append((f"# {section}", "", "", ""))
        for known in fields_of(section):
            value = values[known.name]
            state = DEFAULT if not known.required and value == known.default else "changed"
            origin = config.origins[known.name]
            rows.append((known.name, written(value), state, "" if origin == DEFAULT else origin))
    ignored = [(entry.key, written(entry.value), entry.place, entry.because) for entry in config.ignored]
    if ignored:
        ignored.insert(0, ("# ignored", "", "", ""))
    return "\n".join([*aligned(rows), *aligned(ignored), "# command", shlex.join(command)])


def aligned(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Rows as lines whose columns begin at the same places."""
    rows = list(rows)
    widths = [min(WIDEST, max(map(len, column))) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
