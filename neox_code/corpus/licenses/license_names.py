"""Convert license names as packages write them (SPDX expressions, full names, any form of version number) to SPDX expressions.

parse_license_names("Apache License 2.0")               "Apache-2.0"
parse_license_names("MIT/Apache-2.0")                   "MIT OR Apache-2.0"
parse_license_names("GPL (>= 2) | file LICENSE")        "GPL-2.0-or-later"
parse_license_names("https://opensource.org/licenses/MIT")    "MIT"
find_mentioned_licenses("under the Unlicense or MIT")    ("Unlicense", "MIT")
"""

import re
from functools import lru_cache

from neox_code.corpus.licenses.notices import parse_expression

LICENSE = r"(?: software)?(?: foundation)?(?: public)?(?: licen[cs]e)?"
NAMES = (
    ("MIT-0", "mit 0|mit no attribution"),
    ("MIT", rf"(?:mit|expat)(?: x11| expat)?{LICENSE}(?: mit| expat)?"),
    ("Apache-2.0", rf"(?:apache|asl|al)(?: software)?(?: foundation)?(?: licen[cs]e)?(?: version)? ?v? ?2(?:\.0)?{LICENSE}"),
    ("Apache-1.1", r"apache(?: software)? licen[cs]e(?: version)? ?v? ?1\.1|apache 1\.1"),
    ("Apache-2.0", "apache(?: software)?(?: licen[cs]e)?"),
    ("0BSD", rf"0bsd|zero clause bsd{LICENSE}|bsd zero clause{LICENSE}|free public license 1\.0\.0"),
    ("BSD-4-Clause", rf"bsd 4(?: clause)?{LICENSE}|(?:4|four) clause bsd{LICENSE}|(?:original|old) bsd{LICENSE}"),
    ("BSD-2-Clause", rf"bsd[ _]?2(?:[ _]clause)?(?: simplified)?{LICENSE}|(?:2|two) clause bsd{LICENSE}"),
    ("BSD-2-Clause", rf"(?:simplified|freebsd)(?: bsd)?{LICENSE}"),
    ("BSD-3-Clause", rf"bsd[ _]?3(?:[ _]clause)?(?: new or revised| new| revised)?{LICENSE}|(?:3|three) clause bsd{LICENSE}"),
    ("BSD-3-Clause", rf"(?:new|modified|revised) bsd{LICENSE}|bsd new"),
    ("BSD-3-Clause", f"bsd{LICENSE}"),
    ("ISC", f"isc{LICENSE}(?: iscl)?"),
    ("Zlib", rf"zlib(?: libpng)?{LICENSE}"),
    ("BSL-1.0", rf"(?:bsl|boost){LICENSE}(?: version)? ?v? ?(?:1(?:\.0)?)?"),
    ("Unlicense", "unlicense"),
    ("CC0-1.0", r"cc0(?: ?1(?:\.0)?)?(?: universal)?|creative commons (?:cc0|zero)(?: v? ?1\.0)?(?: universal)?"),
    ("PSF-2.0", rf"psf(?: licen[cs]e)?(?: version)?(?: ?2(?:\.0)?)?|python software foundation{LICENSE}(?: version 2)?"),
    ("Artistic-2.0", rf"artistic{LICENSE}(?: version)? ?v? ?2(?:\.0)?"),
    ("MPL-2.0", rf"(?:mpl|mozilla){LICENSE}(?: version)? ?v? ?2(?:\.0)?(?: mpl 2\.0)?"),
    ("MPL-1.1", rf"(?:mpl|mozilla){LICENSE}(?: version)? ?v? ?1\.1(?: mpl 1\.1)?"),
    ("EPL-2.0", rf"(?:epl|eclipse){LICENSE}(?: version)? ?v? ?2(?:\.0)?"),
    ("EPL-1.0", rf"(?:epl|eclipse){LICENSE}(?: version)? ?v? ?1(?:\.0)?"),
    ("PostgreSQL", f"postgresql{LICENSE}"),
    ("W3C", f"w3c{LICENSE}"),
    ("WTFPL", f"wtfpl|do what the fuck you want to{LICENSE}"),
    ("NCSA", rf"(?:university of illinois )?ncsa{LICENSE}(?: open source license)?"),
    ("MS-PL", rf"ms pl|microsoft{LICENSE}"),
    ("UPL-1.0", r"upl(?: 1\.0)?|universal permissive license(?: v? ?1\.0)?"),
    ("Ruby", f"ruby(?: s)?{LICENSE}"),
)  # fmt: skip
GNU = (
    r"(?:gnu )?(?:(?P<kind>lesser |library |affero )?(?:gnu )?general public licen[cs]e|(?P<letter>[la]?)gpl|gnu)"
    r"(?: l?a?gpl)?(?: licen[cs]e)?,?(?: version)?[ v]*(?P<sign>>=|==|)[ v]*(?P<version>[123](?:\.[01])?)?"
    r"(?P<later>\+|,? ?or later| or newer| or any later version| or greater|)(?: l?a?gpl ?v?[0-9.]*\+?)?"
)
FAMILY = {"lesser ": "LGPL", "library ": "LGPL", "affero ": "AGPL", "l": "LGPL", "a": "AGPL"}
ANY_NAME = re.compile("|".join(f"(?P<n{number}>(?:{pattern}))" for number, (_, pattern) in enumerate(NAMES)))
SEPARATOR = re.compile(r"(\(|\)|\bAND\b|\bOR\b|\band\b|\bor\b|&|\||/|;|,)")
OPERATORS = {"AND": " AND ", "and": " AND ", "&": " AND ", "OR": " OR ", "or": " OR ", "|": " OR ", "/": " OR ", ";": " OR "}
"""Written operator -> SPDX operator. A comma between names is AND as well."""
ABBREVIATION = re.compile(r"\s*\([^()]*\)\s*$")
R_FILE = re.compile(r"\s*[+|]\s*file LICEN[CS]E\s*$", re.IGNORECASE)
"""Reference in an R package's DESCRIPTION to a file with the years and copyright holders. It is ignored."""
ADDRESS = re.compile(
    r"https?://(?:www\.)?(?:opensource|spdx|apache|gnu)\.org/licen[cs]es?/([\w.+-]*?)(?:\.(?:html?|php|txt))?/?", re.IGNORECASE
)
"""Address of a license, as old packages state it; Apache's ends with LICENSE-2.0."""


@lru_cache(maxsize=4096)
def parse_license_names(written: str) -> str | None:
    """Return the SPDX expression of license names, with current identifiers; None if a part of the text is not a known name."""
    written = R_FILE.sub("", written.strip())
    if address := ADDRESS.fullmatch(written):
        written = address[1].replace("LICENSE-", "Apache-")
    if (parsed := parse_expression(written)) is not None:
        return parsed.render()
    if (name := find_license(written)) is not None:
        return name
    pieces = [
        piece for piece in SEPARATOR.split(re.sub(r"^dual\b|\blicensed\b", "", written, flags=re.IGNORECASE)) if piece.strip()
    ]
    expression = "".join(
        OPERATORS.get(piece) or (" AND " if piece == "," else piece if piece in "()" else find_license(piece) or piece)
        for piece in pieces
    )
    parsed = parse_expression(expression) if len(pieces) > 1 else None
    return None if parsed is None else parsed.render()


def find_license(written: str) -> str | None:
    """Return the SPDX identifier of a license from one of its names; None if the name is unknown.

    >>> find_license("The MIT License (MIT)"), find_license("New BSD"), find_license("LGPLv2.1+"), find_license("UNLICENSED")
    ('MIT', 'BSD-3-Clause', 'LGPL-2.1-or-later', None)
    >>> find_license("GNU General Public License v3 or later (GPLv3+)"), find_license("License :: OSI Approved :: MIT License")
    ('GPL-3.0-or-later', 'MIT')
    """
    parsed = parse_expression(written.strip())
    if parsed is not None and parsed.isliteral:
        return str(parsed.render())
    if "|" in written:
        return None
    words = normalize_words(written.rpartition("::")[2])
    gnu = re.fullmatch(GNU, words)
    if gnu is not None:
        family = FAMILY.get(gnu["kind"] or gnu["letter"] or "", "GPL")
        version = gnu["version"] or {"GPL": "1.0", "LGPL": "2.0", "AGPL": "3.0"}[family]
        version = version if "." in version else f"{version}.0"
        is_later = gnu["sign"] == ">=" or gnu["later"] or gnu["version"] is None
        return f"{family}-{version}-{'or-later' if is_later else 'only'}"
    found = ANY_NAME.fullmatch(words.replace("== ", "")) or ANY_NAME.fullmatch(normalize_words(ABBREVIATION.sub("", written)))
    return None if found is None else select_matched_name(found)


def select_matched_name(found: re.Match[str]) -> str:
    return next(name for number, (name, _) in enumerate(NAMES) if found[f"n{number}"] is not None)


def find_mentioned_licenses(text: str) -> tuple[str, ...]:
    """Return the licenses that a short text names, each once.

    >>> find_mentioned_licenses("You may use this under the terms of either the Unlicense or the MIT license.")
    ('Unlicense', 'MIT')
    """
    names = [select_matched_name(match) for match in re.finditer(rf"\b(?:{ANY_NAME.pattern})(?=s?\b)", normalize_words(text))]
    for match in re.finditer(r"\b(?:gnu |[la]?gpl)[^.]{0,60}", normalize_words(text)):
        names.append(
            next((name for end in range(len(match[0]), 2, -1) if (name := find_license(match[0][:end]))), "GPL-1.0-or-later")
        )
    return tuple(dict.fromkeys(names))


def normalize_words(written: str) -> str:
    """Return the text in lower case with single spaces. Keep only letters, digits and signs of versions; remove articles.

    >>> normalize_words("The Apache License, Version 2.0")
    'apache license version 2.0'
    """
    words = re.sub(r"[^a-z0-9.+>=_]+", " ", written.lower())
    return " ".join(word.rstrip(".") for word in words.split() if word not in ("the", "a", "v"))
