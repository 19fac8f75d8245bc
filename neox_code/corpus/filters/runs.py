"""Find long runs of characters of one kind, such as digits. Texts without a run are scanned faster than by a regular expression.

DIGITS = RunKind(string.digits)
has_run(encoded, DIGITS, 40)                 # encoded: the text as UTF-8
find_lines_with_runs(text, DIGITS, 40)            # [(start, end), ...] of the lines of a text
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class RunKind:
    members: str
    """The ASCII characters of a run."""
    ignored: bytes = b""
    """Bytes that are neither part of a run nor end it."""
    table: bytes = field(init=False, repr=False)
    """Table for bytes.translate: b"x" for `members`, b" " for other bytes."""

    def __post_init__(self) -> None:
        members = self.members.encode("ascii")
        object.__setattr__(self, "table", bytes(ord("x") if byte in members else ord(" ") for byte in range(256)))


def has_run(encoded: bytes, kind: RunKind, length: int) -> bool:
    """Return True if the text (UTF-8) has a run of at least `length` characters.

    >>> has_run(b"a = 12345;", RunKind("0123456789"), 5), has_run(b"a = 1234; 5", RunKind("0123456789"), 5)
    (True, False)
    """
    return b"x" * length in encoded.translate(kind.table, kind.ignored)


def find_lines_with_runs(encoded: bytes, kind: RunKind, length: int) -> list[tuple[int, int]]:
    """Return start and end, in bytes, of the lines that have a run. `kind.ignored` must be empty.

    >>> find_lines_with_runs(b"a\\n123456 = 123456\\nb", RunKind("0123456789"), 5)
    [(2, 17)]
    """
    kinds, run = encoded.translate(kind.table), b"x" * length
    lines = []
    found = kinds.find(run)
    while found >= 0:
        start = encoded.rfind(b"\n", 0, found) + 1
        end = encoded.find(b"\n", found)
        end = len(encoded) if end < 0 else end
        lines.append((start, end))
        found = kinds.find(run, end)
    return lines
