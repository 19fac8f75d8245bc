"""Find the SPDX expression of a source file or license file, and test if a corpus allows it.

find_source_license("src/main.rs", text)                   "MIT OR Apache-2.0", by its tag or the sentences of its notice
read_license_file("LICENSE", text)                    "MIT AND Zlib": the texts in a license file; UNKNOWN if it has none
AllowedLicenses().find_drop_reason("GPL-3.0-only OR MIT")     None (allowed): one side of OR suffices, and MIT is permissive
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from license_expression import LicenseWithExceptionSymbol

from neox_code.corpus.licenses.license_names import find_mentioned_licenses, parse_license_names
from neox_code.corpus.licenses.notices import (
    HEADER_CHARACTERS,
    UNKNOWN,
    find_header_license,
    find_notice_licenses,
    join_expressions,
    parse_expression,
)
from neox_code.corpus.licenses.permissive import PERMISSIVE
from neox_code.corpus.licenses.texts import COPYRIGHT_LINE, find_license_texts, strip_comment_marks
from neox_code.corpus.linguist.detect import find_by_extension
from neox_code.errors import DataError

UNLICENSED = "no license"
UNKNOWN_LICENSE = "unknown license"
NOT_ALLOWED = "license not allowed"

LICENSE_FILE = re.compile(
    r"(?:[\w-]+[-_.])?(?:(?:un)?licen[cs]es?|copying|copyright|eula)(?:[-_.][\w.-]+)?|licen[cs]e \([\w. -]+\)", re.IGNORECASE
)
OF_OTHER_CODE = re.compile(r"3rd|third|dependenc|vendor|bundle|header|template|boilerplate|check|report|notice", re.IGNORECASE)
"""Pattern in the name of a file that is not the project's license: it checks licenses, or lists licenses of other projects."""
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
"""Pattern of words that restrict the permissions, if they occur outside of the known license texts."""
OTHER_TERMS, OTHER_TERMS_WORDS = 12, 300
"""Limits for the words outside of known license texts. They are an unknown license if they mention a license at least
OTHER_TERMS times and there are at least OTHER_TERMS_WORDS of them."""
ADVERTISING = re.compile(r"all advertising materials mentioning")
EXCEPT_WHERE_NOTED = re.compile(
    r"unless (?:otherwise|explicitly|noted|stated)|except (?:where|as|when) (?:otherwise )?(?:noted|stated|indicated)|"
    r"notices at the top of"
)
"""Pattern of a sentence that makes the first license text apply to every file whose header names no other license."""
INTRODUCTION_WORDS = 60
"""Maximum number of words before the first license text, for EXCEPT_WHERE_NOTED to apply."""
PYTHON = "python software foundation license version 2"
"""Title of a part of Python's license; its text is not one of the known texts."""
LLVM_EXCEPTIONS = "llvm exceptions to the apache 2.0 license"
ALTERNATIVES = re.compile(
    r"alternatively|dual[ -]?licen[cs]|either (?:of|one)|under either|your (?:option|choice)|you may choose|"
    r"or the (?:mit|apache|bsd)"
)
FILE = "file:"
"""Prefix of a reference: "file:PATH" stands for the license of the file at PATH, relative to the folder of the reference."""
NEAREST = "nearest file:"
"""Prefix of a reference: "nearest file:NAME" stands for the license of the file NAME in the same folder or the nearest above."""
CHOICE = re.compile(r"under both (?:of )?(?:the )?(.{10,400}?)one of the above")
LATER_VERSION = re.compile(r"(?:either version|at your option)(?: \w+){0,8} any later version|either version [\d.]+")
REFERENCE = re.compile(r"year:? .{1,40} copyright holder.*|.{0,400}can be found in (?:the )?licen[cs]e.{0,80}")
"""Pattern of the whole text of a license file that only refers to another file, as in packages of R."""
FILE_NAME = re.compile(r"[\w./-]*\w")
POINTER_CHARACTERS = 500
"""Maximum number of characters of a text that only refers to a license file, such as `See LICENSE.txt in the root`."""
MENTION_WORDS = 120
"""Maximum number of words of a text that only names a license, such as `Released under the MIT license`."""
NOTICE_WORDS = 600


@dataclass(frozen=True)
class AllowedLicenses:
    """The allowed licenses. A OR B is allowed if one of them is, A AND B if both are.

    A WITH an exception is allowed if A is, since exceptions add permissions, or if the whole expression is listed.

    >>> find_drop_reason = AllowedLicenses().find_drop_reason
    >>> find_drop_reason("MIT OR GPL-2.0-only"), find_drop_reason("MIT AND GPL-2.0-only"), find_drop_reason(None)
    (None, 'license not allowed', 'no license')
    """

    allowed: tuple[str, ...] = PERMISSIVE
    unlicensed: bool = False
    """True: keep files without a license, as The Stack v2 does. Files with an unknown license text are still dropped."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.allowed if parse_expression(name) is None] if self.allowed is not PERMISSIVE else []
        if unknown:
            raise DataError(f"allowed license {unknown[0]!r} is not an SPDX identifier. Use one of https://spdx.org/licenses.")

    def find_drop_reason(self, expression: str | None) -> str | None:
        """Return the reason why a document under this expression is dropped; None if it is kept."""
        if expression is None:
            return None if self.unlicensed else UNLICENSED
        known = parse_license_names(expression)
        if known is not None and is_allowed(parse_expression(known), replace_old_names(self.allowed)):
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
def replace_old_names(names: tuple[str, ...]) -> frozenset[str]:
    """
    >>> replace_old_names(("GPL-2.0", "mit")) == {"GPL-2.0-only", "MIT"}
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
    languages = find_by_extension(name)
    return not languages or not PROSE_OR_NONE.isdisjoint(languages)


def find_source_license(path: str, text: str) -> str | None:
    """Return the SPDX expression of the license in a source file's header; None if the header states no known license."""
    return None if is_license_file(path) else find_header_license(text) or find_license_choice(text[:HEADER_CHARACTERS])


def find_license_choice(header: str) -> str | None:
    """Return the SPDX expression A OR B if a file's header names several licenses and lets the user choose one; else None.

    >>> find_license_choice("// under both the BSD license and the GPLv2. You may select one of the\\n// above-listed licenses.")
    'BSD-3-Clause OR GPL-2.0-only'
    """
    if "you may select" not in header and "You may select" not in header:
        return None
    found = CHOICE.search(strip_comment_marks(header.lower()))
    names = find_mentioned_licenses(found[1]) if found else ()
    return join_expressions(set(names), "OR") if len(names) > 1 else None


def read_license_file(path: str, text: str) -> str | None:
    """Return the SPDX expression of a license file's text, UNKNOWN for an unrecognized text; None if it states no license.

    >>> read_license_file("LICENSE", "Everything is permitted."), read_license_file("LICENSE", "../../LICENSE")
    ('LicenseRef-unknown', 'file:../../LICENSE')
    >>> read_license_file("LICENSE", "Please see COPYING for the terms."), read_license_file("LICENSE", "COPYING")
    ('nearest file:COPYING', 'file:COPYING')
    """
    if text.startswith("#!"):
        return None
    link = text.strip().replace("\\", "/")  # a link that was checked out as text, if it is one path
    is_path = len(link.split()) == 1 and "://" not in link
    if is_path and (link.startswith(("./", "../", "/")) or is_license_file(link)):
        return f"{FILE}{link}"
    if (known := identify_license_text(text)) is not None:
        return known
    stated = COPYRIGHT_LINE.sub("", text)
    words = extract_words(text)
    if re.search(r"\w", text) is None or not stated.strip():
        return None
    is_copyright_notice = "copyright" in path.rpartition("/")[2].lower()
    if RESTRICTION.search(words) is not None:
        return UNKNOWN
    if not is_copyright_notice and (name := find_file_name(stated)) is not None:
        return f"{FILE if '/' in name else NEAREST}{name}"
    return None if is_copyright_notice or REFERENCE.fullmatch(" ".join(text.lower().split())) else UNKNOWN


def find_file_name(text: str) -> str | None:
    """Return the path of the license file that a short text names; None if it names none or several.

    A name without a suffix or folder must be in capitals: "license" is a word, "LICENSE" is a file.

    >>> find_file_name("See LICENSE.txt in the root."), find_file_name("See ../COPYING"), find_file_name("The license")
    ('LICENSE.txt', '../COPYING', None)
    """
    if len(text) > POINTER_CHARACTERS or "://" in text:
        return None
    names = {name for name in FILE_NAME.findall(text) if is_license_file(name) and (not name.isalpha() or name.isupper())}
    return names.pop() if len(names) == 1 else None


@lru_cache(maxsize=256)
def identify_license_text(text: str) -> str | None:
    """Return the SPDX expression of all licenses whose texts or names are in a text; None if it has no known license.

    >>> identify_license_text("Everything is permitted."), identify_license_text("Licensed under the MIT license.")
    (None, 'MIT')
    """
    found = find_license_texts(text)
    names, rest = found.names, found.rest
    if PYTHON in rest:
        names = (*names, "Python-2.0" if "beopen" in rest else "PSF-2.0")
    if not names:
        return identify_short_text(text)
    if len(names) > 1 and found.first_word <= INTRODUCTION_WORDS and EXCEPT_WHERE_NOTED.search(rest):
        names, rest = names[:1], found.before
    if ADVERTISING.search(rest):
        names = tuple("BSD-4-Clause" if name.startswith("BSD-") else name for name in names)
    if LLVM_EXCEPTIONS in rest:
        names = tuple(f"{name} WITH LLVM-exception" if name == "Apache-2.0" else name for name in names)
    noticed = find_notice_licenses.__wrapped__(rest)
    every = drop_base_licenses({*names, *([noticed] if noticed else [])})
    is_choice = ALTERNATIVES.search(LATER_VERSION.sub(" ", found.before)) is not None
    words = extract_words(rest)
    is_long = words.count("licen") >= OTHER_TERMS and words.count(" ") >= OTHER_TERMS_WORDS and PYTHON not in rest
    others = {UNKNOWN} if is_long or RESTRICTION.search(words) is not None else set()
    return simplify_expression(join_expressions({join_expressions(every, "OR" if is_choice else "AND"), *others}, "AND"))


def simplify_expression(expression: str) -> str:
    """
    >>> simplify_expression("MIT AND (MIT AND Apache-2.0)"), simplify_expression("MIT OR MIT")
    ('Apache-2.0 AND MIT', 'MIT')
    """
    return str(parse_expression(expression).simplify().render())  # type: ignore[union-attr]


def identify_short_text(text: str) -> str | None:
    words = extract_words(text)
    num_words = words.count(" ") + 1
    if not words or num_words > NOTICE_WORDS or RESTRICTION.search(words):
        return None
    if (stated := find_header_license(text)) is not None:
        return stated
    names = set(find_mentioned_licenses(text)) if num_words <= MENTION_WORDS else set()
    return join_expressions(names, "OR" if ALTERNATIVES.search(words) else "AND") if names else None


def extract_words(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def drop_base_licenses(names: set[str]) -> set[str]:
    """Remove licenses that are only the base of another one in the set: LGPL 3 adds permissions to GPL 3.

    >>> drop_base_licenses({"GPL-3.0-only", "LGPL-3.0-only"})
    {'LGPL-3.0-only'}
    """
    return names - {"GPL-3.0-only", "GPL-3.0-or-later"} if any(name.startswith("LGPL-3.0") for name in names) else names


def list_license_keys(expression: str) -> frozenset[str]:
    """Return the identifiers in an expression, without exceptions and the endings -only and -or-later.

    >>> sorted(list_license_keys("(MIT OR GPL-2.0-or-later) AND ISC"))
    ['GPL-2.0', 'ISC', 'MIT']
    """
    parsed = parse_expression(expression)
    symbols: Iterable[Any] = () if parsed is None else parsed.symbols
    keys = (symbol.license_symbol.key if isinstance(symbol, LicenseWithExceptionSymbol) else symbol.key for symbol in symbols)
    return frozenset(re.sub(r"-(?:only|or-later)$", "", key) for key in keys)
