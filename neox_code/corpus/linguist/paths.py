"""What a path says of its file: that it came from elsewhere, or that it documents.

    is_vendored("node_modules/left-pad/index.js")       True
    is_documentation("docs/tutorial.py")                True

One expression of all of linguist's is tried at every character. Nearly all begin with `(^|/)`; behind a slash only, they take a
hundredth of the time.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from neox_code.corpus.linguist.data import PATHS

SEGMENT = re.compile(r"\(\^\|\\?/\)")
IDLE = re.compile(r"\((?:\[\^\\s\]\*|\.\*\?)\)")
"""The beginning of some expressions, which matches anything, also nothing."""


def any_of(patterns: Iterable[str]) -> str:
    return "|".join(f"(?:{pattern})" for pattern in patterns) or r"(?!)"


@dataclass(frozen=True)
class Paths:
    """Paths that one of linguist's expressions is found in."""

    patterns: tuple[str, ...]
    at_root: re.Pattern[str] = field(init=False)
    at_segment: re.Pattern[str] = field(init=False)
    anywhere: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        segment = [pattern for pattern in self.patterns if SEGMENT.match(pattern)]
        root = [pattern for pattern in self.patterns if pattern.startswith("^")]
        others = [pattern for pattern in self.patterns if pattern not in segment and pattern not in root]
        for name, expression in (
            ("at_root", any_of(root)),
            ("at_segment", "/(?:" + any_of(SEGMENT.sub("", pattern, count=1) for pattern in segment) + ")"),
            ("anywhere", any_of(IDLE.sub("", pattern, count=1) for pattern in others)),
        ):
            object.__setattr__(self, name, re.compile(expression, re.ASCII))

    def has(self, path: str) -> bool:
        return bool(self.at_segment.search(f"/{path}") or self.at_root.match(path) or self.anywhere.search(path))


VENDORED = Paths(tuple(PATHS["vendored"]))
DOCUMENTATION = Paths(tuple(PATHS["documentation"]))


def is_vendored(path: str) -> bool:
    """Whether linguist leaves the file out of a repository's statistics, as code of others.

    >>> is_vendored("src/third_party/zlib.c"), is_vendored("web/jquery-3.1.js"), is_vendored("src/main.c")
    (True, True, False)
    """
    return VENDORED.has(path)


def is_documentation(path: str) -> bool:
    """Whether linguist leaves the file out of a repository's statistics, as documentation.

    >>> is_documentation("examples/hello.go"), is_documentation("README.md"), is_documentation("src/examples/hello.go")
    (True, True, False)
    """
    return DOCUMENTATION.has(path)
