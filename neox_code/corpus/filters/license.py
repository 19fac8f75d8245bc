"""Licenses as SPDX expressions: what a source file says, which one a license file is, and which of them a corpus takes.

    file_license("src/main.rs", text)          "MIT OR Apache-2.0", by its tag or the sentences of its notice
    license_of_text(text)                      "MIT": which license a LICENSE or COPYING file is
    AllowedLicenses().reason("GPL-3.0-only OR MIT")     None: one of them suffices, and MIT is permissive

Texts of licenses are choosealicense.com's, in the library `identify`; expressions are read by `license-expression`.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from identify.vendor.licenses import LICENSES
from license_expression import LicenseWithExceptionSymbol

from neox_code.corpus.filters.license_headers import parse_expression, stated_license
from neox_code.corpus.filters.permissive import PERMISSIVE
from neox_code.errors import DataError

SAME_LICENSE = 0.92
"""Share of words in common (Dice's coefficient of the multisets) from which a text is a license: names and years differ."""

RESTRICTION = re.compile(r"commons clause|good, not evil|advertising materials", re.IGNORECASE)
"""What makes another license of the text of a known one."""

COPYRIGHT_LINE = re.compile(r"^[^\w\n]*(?:copyright\b|\(c\)|©).*$", re.IGNORECASE | re.MULTILINE)
LICENSE_FILE = re.compile(r"(?:[\w-]+[-_.])?(?:(?:un)?licen[cs]es?|copying|copyright)(?:[-_.][\w.-]+)?", re.IGNORECASE)
CODE_SUFFIX = re.compile(r"\.(?!txt$|md$|rst$|markdown$|html$|adoc$|lesser$|lib$|mit$|bsd$|apache)[A-Za-z]+$", re.IGNORECASE)


@dataclass(frozen=True)
class AllowedLicenses:
    """Takes what can be had under allowed licenses alone: of A OR B one suffices, A AND B needs both.

    A WITH an exception is allowed where A is, since exceptions add permissions, or where it is listed as a whole.

    >>> allowed = AllowedLicenses()
    >>> allowed.reason("MIT OR GPL-2.0-only"), allowed.reason("MIT AND GPL-2.0-only"), allowed.reason(None)
    (None, 'license not allowed', 'no license')
    """

    allowed: tuple[str, ...] = PERMISSIVE
    unlicensed: bool = False
    """Whether to take, as The Stack v2 does, what states no license that is known."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.allowed if parse_expression(name) is None] if self.allowed is not PERMISSIVE else []
        if unknown:
            raise DataError(f"allowed license {unknown[0]!r} is no SPDX identifier. They are listed at https://spdx.org/licenses.")

    def reason(self, expression: str | None) -> str | None:
        """Why a document under this expression is not taken; None if it is."""
        if expression is None:
            return None if self.unlicensed else "no license"
        parsed = parse_expression(expression)
        return None if parsed is not None and is_allowed(parsed, current_names(self.allowed)) else "license not allowed"


def is_allowed(parsed: Any, allowed: frozenset[str]) -> bool:
    if isinstance(parsed, LicenseWithExceptionSymbol):
        return parsed.license_symbol.key in allowed or parsed.render() in allowed
    if parsed.isliteral:
        return parsed.key in allowed
    verdicts = (is_allowed(operand, allowed) for operand in parsed.args)
    return any(verdicts) if parsed.operator.strip() == "OR" else all(verdicts)


@cache
def current_names(names: tuple[str, ...]) -> frozenset[str]:
    """
    >>> current_names(("GPL-2.0", "mit")) == {"GPL-2.0-only", "MIT"}
    True
    """
    return frozenset(parsed.render() for name in names if (parsed := parse_expression(name)) is not None)


def is_license_file(path: str) -> bool:
    """
    >>> [is_license_file(path) for path in ("LICENSE", "lib/COPYING.LESSER", "LICENSE-MIT.txt", "license.py")]
    [True, True, True, False]
    """
    name = path.rsplit("/", 1)[-1]
    return LICENSE_FILE.fullmatch(name) is not None and not CODE_SUFFIX.search(name)


def file_license(path: str, text: str) -> str | None:
    """The SPDX expression that a source file states for itself; None where it states none that is known."""
    return None if is_license_file(path) else stated_license(text)


def license_of_text(text: str) -> str | None:
    """The SPDX identifier of the license that a text is; None if it is none of the known ones.

    >>> license_of_text("Everything is permitted."), license_of_text("")
    (None, None)
    """
    words = license_words(text)
    if not words or RESTRICTION.search(text):
        return None
    best, name = max((dice(words, known), name) for name, known in known_licenses())
    return name if best >= SAME_LICENSE else None


def license_words(text: str) -> dict[str, int]:
    """How often each word stands in a text, lines of copyright left out."""
    counts: dict[str, int] = {}
    for word in re.findall(r"[a-z0-9]+", COPYRIGHT_LINE.sub("", text).lower()):
        counts[word] = counts.get(word, 0) + 1
    return counts


def dice(ours: dict[str, int], theirs: dict[str, int]) -> float:
    """
    >>> dice({"a": 2, "b": 1}, {"a": 1, "c": 1}), dice({"a": 1}, {"a": 1})
    (0.4, 1.0)
    """
    shared = sum(min(count, theirs.get(word, 0)) for word, count in ours.items())
    return 2 * shared / (sum(ours.values()) + sum(theirs.values()))


@cache
def known_licenses() -> list[tuple[str, dict[str, int]]]:
    known = [(parse_expression(name).render(), license_words(text)) for name, text in LICENSES]  # type: ignore[union-attr]
    apache = next(text for name, text in LICENSES if name == "Apache-2.0")
    return [*known, ("Apache-2.0", license_words(apache.partition("APPENDIX")[0]))]  # often without its appendix
