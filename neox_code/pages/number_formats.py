"""Format numbers and names for the console and for HTML pages.

format_value(0.1234, "share"), format_size(345_678), format_name("a\\x1b[2J.py")          # "12.3%", "345.7 kB", "a\\\\x1b[2J.py"
"""

from collections.abc import Callable
from typing import Any, Literal

Kind = Literal["name", "count", "bytes", "share", "ratio"]

NOTHING = "-"
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
LONGEST_NAME = 160


def format_value(value: Any, kind: Kind) -> str:
    """Return a value in the format of its kind (count, share, ...). None is formatted as "-".

    >>> [format_value(value, kind) for value, kind in ((None, "count"), (1234, "count"), (0.1234, "share"), (3.4567, "ratio"))]
    ['-', '1,234', '12.3%', '3.46']
    """
    return NOTHING if value is None else FORMATS[kind](value)


def format_size(num_bytes: float) -> str:
    """Return a number of bytes in decimal units.

    >>> format_size(12_345_678_901), format_size(345_678), format_size(4_321), format_size(432), format_size(999_999)
    ('12.3 GB', '345.7 kB', '4.3 kB', '432 B', '1.0 MB')
    """
    unit = 0
    while round(num_bytes, 1 if unit else 0) >= 1000 and unit < len(UNITS) - 1:
        num_bytes, unit = num_bytes / 1000, unit + 1
    return f"{num_bytes:,.{1 if unit else 0}f} {UNITS[unit]}"


def format_millions(count: int) -> str:
    """Return a count with three significant digits, in millions (M) or billions (G) if it is large.

    >>> [format_millions(count) for count in (12_345, 1_450_000, 12_345_678, 999_999_999, 12_345_678_901_234)]
    ['12,345', '1.45 M', '12.3 M', '1 G', '12,300 G']
    """
    rounded = float(f"{count:.3g}")
    if rounded < 1e6:
        return f"{count:,}"
    return f"{rounded / 1e6:g} M" if rounded < 1e9 else f"{rounded / 1e9:,g} G"


def format_percent(share: float) -> str:
    """Return a share between 0 and 1 as a percentage.

    >>> format_percent(1), format_percent(0.5), format_percent(0.0001), format_percent(0)
    ('100%', '50.0%', 'under 0.1%', '0%')
    """
    if share in (0, 1):
        return f"{share:.0%}"
    return f"{share:.1%}" if share >= 0.0005 else "under 0.1%"


def format_name(text: str) -> str:
    """Return a name from an untrusted source as printable text. The middle of a long name is replaced.

    >>> len(format_name("x" * 5000)), len(format_name("\\u202e" * 5000))
    (160, 161)
    """
    if len(text) > LONGEST_NAME:
        half = LONGEST_NAME // 2
        text = f"{text[: half - 1]}…{text[-half:]}"
    escaped = escape_invisible(text)
    return escaped if len(escaped) <= 2 * LONGEST_NAME else f"{escaped[:LONGEST_NAME]}…"


def escape_invisible(text: str) -> str:
    """Return the text with escape sequences in place of characters that control a terminal or the writing direction.

    >>> escape_invisible("a\\x1b[2J\\u202eb.py"), escape_invisible("caf\\u00e9")
    ('a\\\\x1b[2J\\\\u202eb.py', 'café')
    """
    return "".join(character if character.isprintable() else character.encode("unicode_escape").decode() for character in text)


FORMATS: dict[Kind, Callable[[Any], str]] = {
    "name": format_name,
    "count": "{:,}".format,
    "bytes": format_size,
    "share": format_percent,
    "ratio": "{:.2f}".format,
}
