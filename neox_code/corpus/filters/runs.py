"""Long runs of characters of one kind, found at the speed of memory: what most texts lack and a regular expression finds slowly.

DIGITS = Kind(string.digits)
has_run(encoded, DIGITS, 40)                 # encoded: the text as UTF-8
lines_with_runs(text, DIGITS, 40)            # [(start, end), ...] of the lines of a text
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Kind:
    """A kind of ASCII characters."""

    members: str
    ignored: bytes = b""
    """Bytes that neither belong to a run nor end it."""
    table: bytes = field(init=False, repr=False)
    """For bytes.translate: b"x" for members, b" " for others."""

    def __post_init__(self) -> None:
        members = self.members.encode("ascii")
        object.__setattr__(self, "table", bytes(ord("x") if byte in members else ord(" ") for byte in range(256)))


def has_run(encoded: bytes, kind: Kind, length: int) -> bool:
    """
    >>> has_run(b"a = 12345;", Kind("0123456789"), 5), has_run(b"a = 1234; 5", Kind("0123456789"), 5)
    (True, False)
    """
    return b"x" * length in encoded.translate(kind.table, kind.ignored)


def lines_with_runs(encoded: bytes, kind: Kind, length: int) -> list[tuple[int, int]]:
    """Start and end, in bytes, of the lines that have a run; of a kind that ignores nothing.

    >>> lines_with_runs(b"a\\n123456 = 123456\\nb", Kind("0123456789"), 5)
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
