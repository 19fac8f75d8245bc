"""How figures and names are written, on the console and on the page.

written(0.1234, "share"), size(345_678), name("a\\x1b[2J.py")          # "12.3%", "345.7 kB", "a\\\\x1b[2J.py"
"""

from collections.abc import Callable
from typing import Any, Literal

Kind = Literal["name", "count", "bytes", "share", "ratio"]

NOTHING = "-"
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
LONGEST_NAME = 160


def written(value: Any, kind: Kind) -> str:
    """
    >>> [written(value, kind) for value, kind in ((None, "count"), (1234, "count"), (0.1234, "share"), (3.4567, "ratio"))]
    ['-', '1,234', '12.3%', '3.46']
    """
    return NOTHING if value is None else WRITTEN[kind](value)


def size(num_bytes: float) -> str:
    """
    >>> size(12_345_678_901), size(345_678), size(4_321), size(432), size(999_999)
    ('12.3 GB', '345.7 kB', '4.3 kB', '432 B', '1.0 MB')
    """
    unit = 0
    while round(num_bytes, 1 if unit else 0) >= 1000 and unit < len(UNITS) - 1:
        num_bytes, unit = num_bytes / 1000, unit + 1
    return f"{num_bytes:,.{1 if unit else 0}f} {UNITS[unit]}"


def millions(count: int) -> str:
    """In three digits.

    >>> millions(12_345), millions(1_450_000), millions(12_345_678), millions(999_999_999), millions(12_345_678_901_234)
    ('12,345', '1.45 M', '12.3 M', '1 G', '12,300 G')
    """
    rounded = float(f"{count:.3g}")
    if rounded < 1e6:
        return f"{count:,}"
    return f"{rounded / 1e6:g} M" if rounded < 1e9 else f"{rounded / 1e9:,g} G"


def percent(share: float) -> str:
    """
    >>> percent(1), percent(0.5), percent(0.0001), percent(0)
    ('100%', '50.0%', 'under 0.1%', '0%')
    """
    if share in (0, 1):
        return f"{share:.0%}"
    return f"{share:.1%}" if share >= 0.0005 else "under 0.1%"


def name(text: str) -> str:
    """A name that anybody gave, printable, and without its middle where it is long.

    >>> len(name("x" * 5000)), len(name("\\u202e" * 5000))
    (160, 161)
    """
    if len(text) > LONGEST_NAME:
        half = LONGEST_NAME // 2
        text = f"{text[: half - 1]}…{text[-half:]}"
    shown = visible(text)
    return shown if len(shown) <= 2 * LONGEST_NAME else f"{shown[:LONGEST_NAME]}…"


def visible(text: str) -> str:
    """Signs that act on a terminal, or turn the direction of writing, as escapes.

    >>> visible("a\\x1b[2J\\u202eb.py"), visible("caf\\u00e9")
    ('a\\\\x1b[2J\\\\u202eb.py', 'café')
    """
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


WRITTEN: dict[Kind, Callable[[Any], str]] = {
    "name": name,
    "count": "{:,}".format,
    "bytes": size,
    "share": percent,
    "ratio": "{:.2f}".format,
}
