"""Licenses as SPDX expressions: those of source files and license files, and the ones that a corpus allows.

file_license("src/main.rs", text)                   "MIT OR Apache-2.0", by its tag or the sentences of its notice
license_of_file("LICENSE", text)                    "MIT AND Zlib": the texts in a license file; UNKNOWN if it has none
AllowedLicenses().reason("GPL-3.0-only OR MIT")     None: one of them suffices, and MIT is permissive
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from license_expression import LicenseWithExceptionSymbol

from neox_code.corpus.licenses.license_names import mentioned_licenses, spdx_expression
from neox_code.corpus.licenses.notices import (
    HEADER_CHARACTERS,
    UNKNOWN,
    join_expressions,
    noticed_license,
    parse_expression,
    stated_license,
)
from neox_code.corpus.licenses.permissive import PERMISSIVE
from neox_code.corpus.licenses.texts import COPYRIGHT_LINE, find_license_texts, strip_comment_marks
from neox_code.corpus.linguist.detect import by_extension
from neox_code.errors import DataError

UNLICENSED = "no license"
UNKNOWN_LICENSE = "unknown license"
NOT_ALLOWED = "license not allowed"

LICENSE_FILE = re.compile(
    r"(?:[\w-]+[-_.])?(?:(?:un)?licen[cs]es?|copying|copyright|eula)(?:[-_.][\w.-]+)?|licen[cs]e \([\w. -]+\)", re.IGNORECASE
)
OF_OTHER_CODE = re.compile(r"3rd|third|dependenc|vendor|bundle|header|template|boilerplate|check|report|notice", re.IGNORECASE)
"""In the name of a file that lists the licenses of other projects, or is about licenses."""
PROSE_OR_NONE = frozenset(
    {
        "Text",
        "Markdown",
        "GCC Machine Description",
        "HTML",
        "AsciiDoc",
        "reStructuredText",
        "Rich Text Format",
        "Adblock Filter List",
    }
)
DOCUMENTS = (".pdf", ".doc", ".docx", ".odt")
IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".ico", ".webp", ".license")

RESTRICTION = re.compile(
    r"commons clause|good not evil|non ?commercial|personal use|commercial (?:licen|agreement)|"
    r"(?:no|not|without) (?:\w+ ){0,4}commercial (?:use|purpose)|proprietary|"
    r"confidential|trade secret|unauthorized|evaluation|internal use|research purposes|academic use|educational use|prohibited|"
    r"forbidden|(?<!changing it is )not (?:permitted|allowed|granted)|without (?:\w+ ){0,3}(?:consent|agreement)|subscription|"
    r"business source|source available|(?<!may or )may not (?!be used to endorse|use this file except)\w|"
    r"shall not (?!be used in advertising|be liable|be held)\w|must not (?!be misrepresented|claim)\w|you (?:can|could) not \w|"
    r"additional (?:terms|conditions|restrictions)|machine learning|reverse engineer|military|(?:may|can|must) only|only be used|"
    r"(?:use|purposes|only) only\b|no (?:copying|redistribution|derivative|commercial)|compet(?:e|ing)\b|"
    r"as a (?:managed |hosted )?service"
)
"""Words outside of the known texts that restrict their permissions."""
OTHER_TERMS, OTHER_TERMS_WORDS = 12, 300
"""The words outside of known texts are an unknown license if they are that many and mention licenses that often."""
ADVERTISING = re.compile(r"all advertising materials mentioning")
EXCEPT_WHERE_NOTED = re.compile(
    r"unless (?:otherwise|explicitly|noted|stated)|except (?:where|as|when) (?:otherwise )?(?:noted|stated|indicated)|"
    r"notices at the top of"
)
"""Makes the first text the license of all files but those whose own heads name another."""
INTRODUCTION_WORDS = 60
"""A text that begins later is not the first one: another, which is not known, stands before it."""
PYTHON = "python software foundation license version 2"
"""The title of a part of Python's license, whose text is not among the known ones."""
LLVM_EXCEPTIONS = "llvm exceptions to the apache 2.0 license"
ALTERNATIVES = re.compile(
    r"alternatively|dual[ -]?licen[cs]|either (?:of|one)|under either|your (?:option|choice)|you may choose|"
    r"or the (?:mit|apache|bsd)"
)
FILE = "file:"
"""Before a path relative to the file that holds it: the license is that of this other file."""
NEAREST = "nearest file:"
"""Prefix of a file name: the license is in the file of that name, in the same folder or else in the nearest folder above."""
CHOICE = re.compile(r"under both (?:of )?(?:the )?(.{10,400}?)one of the above")
LATER_VERSION = re.compile(r"(?:either version|at your option)(?: \w+){0,8} any later version|either version [\d.]+")
REFERENCE = re.compile(r"year:? .{1,40} copyright holder.*|.{0,400}can be found in (?:the )?licen[cs]e.{0,80}")
"""Pattern of the whole text of a license file that only refers to another file, as in packages of R."""
FILE_NAME = re.compile(r"[\w./-]*\w")
POINTER_CHARACTERS = 500
"""A text up to so long, with the name of one license file and of no license, refers to that file."""
MENTION_WORDS = 120
"""A text up to so long may be a license by its name alone: "Released under the MIT license."""
NOTICE_WORDS = 600


@dataclass(frozen=True)
class AllowedLicenses:
    """Allow expressions of allowed licenses: for A OR B one suffices, A AND B needs both.

    A WITH an exception is allowed where A is, since exceptions add permissions, or where it is listed as a whole.

    >>> allowed = AllowedLicenses()
    >>> allowed.reason("MIT OR GPL-2.0-only"), allowed.reason("MIT AND GPL-2.0-only"), allowed.reason(None)
    (None, 'license not allowed', 'no license')
    """

    allowed: tuple[str, ...] = PERMISSIVE
    unlicensed: bool = False
    """True: keep files without any stated license, as The Stack v2 does. An unknown text is a license."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.allowed if parse_expression(name) is None] if self.allowed is not PERMISSIVE else []
        if unknown:
            raise DataError(f"allowed license {unknown[0]!r} is no SPDX identifier. They are listed at https://spdx.org/licenses.")

    def reason(self, expression: str | None) -> str | None:
        """Return the reason why a document under this expression is dropped; None if it is kept."""
        if expression is None:
            return None if self.unlicensed else UNLICENSED
        known = spdx_expression(expression)
        if known is not None and is_allowed(parse_expression(known), current_names(self.allowed)):
            return None
        return UNKNOWN_LICENSE if UNKNOWN in expression else NOT_ALLOWED


def is_allowed(parsed: Any, allowed: frozenset[str]) -> bool:
    if isinstance(parsed, LicenseWithExceptionSymbol):
        return parsed.license_symbol.key in allowed or parsed.render() in allowed
    if parsed.isliteral:
        return parsed.key in allowed
    decisions = (is_allowed(operand, allowed) for operand in parsed.args)
    return any(decisions) if parsed.operator.strip() == "OR" else all(decisions)


@cache
def current_names(names: tuple[str, ...]) -> frozenset[str]:
    """
    >>> current_names(("GPL-2.0", "mit")) == {"GPL-2.0-only", "MIT"}
    True
    """
    return frozenset(parsed.render() for name in names if (parsed := parse_expression(name)) is not None)


def is_license_file(path: str) -> bool:
    """
    >>> [is_license_file(path) for path in ("LICENSE", "lib/COPYING.LESSER", "LICENSE-MIT.txt", "LICENSE.GPL", "license.py")]
    [True, True, True, True, False]
    >>> is_license_file("THIRD-PARTY-LICENSES.txt"), is_license_file("LICENSES/MIT.txt")
    (False, True)
    """
    folder, _, name = path.rpartition("/")
    if folder.rpartition("/")[2] == "LICENSES":
        return name.endswith(".txt") and parse_expression(name.removesuffix(".txt")) is not None
    if LICENSE_FILE.fullmatch(name) is None or OF_OTHER_CODE.search(name) or name.lower().endswith(IMAGES):
        return False
    languages = by_extension(name)
    return not languages or not PROSE_OR_NONE.isdisjoint(languages)


def file_license(path: str, text: str) -> str | None:
    """Return the SPDX expression that a source file states for itself; None where it states none that is known."""
    return None if is_license_file(path) else stated_license(text) or chosen_license(text[:HEADER_CHARACTERS])


def chosen_license(header: str) -> str | None:
    """Return the licenses among which the head of a file lets choose by their names.

    >>> chosen_license("// under both the BSD license and the GPLv2. You may select one of the\\n// above-listed licenses.")
    'BSD-3-Clause OR GPL-2.0-only'
    """
    if "you may select" not in header and "You may select" not in header:
        return None
    found = CHOICE.search(strip_comment_marks(header.lower()))
    names = mentioned_licenses(found[1]) if found else ()
    return join_expressions(set(names), "OR") if len(names) > 1 else None


def license_of_file(path: str, text: str) -> str | None:
    """Return the SPDX expression of a license file's text, UNKNOWN for one that is not recognized; None if it states nothing.

    >>> license_of_file("LICENSE", "Everything is permitted."), license_of_file("LICENSE", "../../LICENSE")
    ('LicenseRef-unknown', 'file:../../LICENSE')
    >>> license_of_file("LICENSE", "Please see COPYING for the terms."), license_of_file("LICENSE", "COPYING")
    ('nearest file:COPYING', 'file:COPYING')
    """
    if text.startswith("#!"):
        return None
    link = text.strip().replace("\\", "/")  # a link that was checked out as text, if it is one path
    is_path = len(link.split()) == 1 and "://" not in link
    if is_path and (link.startswith(("./", "../", "/")) or is_license_file(link)):
        return f"{FILE}{link}"
    if (known := license_of_text(text)) is not None:
        return known
    stated = COPYRIGHT_LINE.sub("", text)
    words = plain_words(text)
    if re.search(r"\w", text) is None or not stated.strip():
        return None
    is_copyright_notice = "copyright" in path.rpartition("/")[2].lower()
    if RESTRICTION.search(words) is not None:
        return UNKNOWN
    if not is_copyright_notice and (name := named_license_file(stated)) is not None:
        return f"{FILE if '/' in name else NEAREST}{name}"
    return None if is_copyright_notice or REFERENCE.fullmatch(" ".join(text.lower().split())) else UNKNOWN


def named_license_file(text: str) -> str | None:
    """Return the path of the one license file that a short text names; None without one.

    A name without a suffix or folder is one in capitals: "license" is a word.

    >>> named_license_file("See LICENSE.txt in the root."), named_license_file("See ../COPYING"), named_license_file("The license")
    ('LICENSE.txt', '../COPYING', None)
    """
    if len(text) > POINTER_CHARACTERS or "://" in text:
        return None
    names = {name for name in FILE_NAME.findall(text) if is_license_file(name) and (not name.isalpha() or name.isupper())}
    return names.pop() if len(names) == 1 else None


@lru_cache(maxsize=256)
def license_of_text(text: str) -> str | None:
    """Return the SPDX expression of the license that a text is, or of those that stand in it; None if it is none of the known ones.

    >>> license_of_text("Everything is permitted."), license_of_text("Licensed under the MIT license.")
    (None, 'MIT')
    """
    found = find_license_texts(text)
    names, rest = found.names, found.rest
    if PYTHON in rest:
        names = (*names, "Python-2.0" if "beopen" in rest else "PSF-2.0")
    if not names:
        return license_of_short_text(text)
    if len(names) > 1 and found.first_word <= INTRODUCTION_WORDS and EXCEPT_WHERE_NOTED.search(rest):
        names, rest = names[:1], found.before
    if ADVERTISING.search(rest):
        names = tuple("BSD-4-Clause" if name.startswith("BSD-") else name for name in names)
    if LLVM_EXCEPTIONS in rest:
        names = tuple(f"{name} WITH LLVM-exception" if name == "Apache-2.0" else name for name in names)
    noticed = noticed_license.__wrapped__(rest)
    every = drop_base_licenses({*names, *([noticed] if noticed else [])})
    is_choice = ALTERNATIVES.search(LATER_VERSION.sub(" ", found.before)) is not None
    words = plain_words(rest)
    is_long = words.count("licen") >= OTHER_TERMS and words.count(" ") >= OTHER_TERMS_WORDS and PYTHON not in rest
    others = {UNKNOWN} if is_long or RESTRICTION.search(words) is not None else set()
    return simplify_expression(join_expressions({join_expressions(every, "OR" if is_choice else "AND"), *others}, "AND"))


def simplify_expression(expression: str) -> str:
    """
    >>> simplify_expression("MIT AND (MIT AND Apache-2.0)"), simplify_expression("MIT OR MIT")
    ('Apache-2.0 AND MIT', 'MIT')
    """
    return str(parse_expression(expression).simplify().render())  # type: ignore[union-attr]


def license_of_short_text(text: str) -> str | None:
    words = plain_words(text)
    num_words = words.count(" ") + 1
    if not words or num_words > NOTICE_WORDS or RESTRICTION.search(words):
        return None
    if (stated := stated_license(text)) is not None:
        return stated
    names = set(mentioned_licenses(text)) if num_words <= MENTION_WORDS else set()
    return join_expressions(names, "OR" if ALTERNATIVES.search(words) else "AND") if names else None


def plain_words(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def drop_base_licenses(names: set[str]) -> set[str]:
    """Return the licenses without those that stand there as a base of another: LGPL 3 adds permissions to GPL 3.

    >>> drop_base_licenses({"GPL-3.0-only", "LGPL-3.0-only"})
    {'LGPL-3.0-only'}
    """
    return names - {"GPL-3.0-only", "GPL-3.0-or-later"} if any(name.startswith("LGPL-3.0") for name in names) else names


def license_keys(expression: str) -> frozenset[str]:
    """Return the identifiers in an expression, with -only, -or-later and exceptions left out.

    >>> sorted(license_keys("(MIT OR GPL-2.0-or-later) AND ISC"))
    ['GPL-2.0', 'ISC', 'MIT']
    """
    parsed = parse_expression(expression)
    symbols: Iterable[Any] = () if parsed is None else parsed.symbols
    keys = (symbol.license_symbol.key if isinstance(symbol, LicenseWithExceptionSymbol) else symbol.key for symbol in symbols)
    return frozenset(re.sub(r"-(?:only|or-later)$", "", key) for key in keys)
