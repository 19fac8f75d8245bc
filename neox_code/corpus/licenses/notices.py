"""Find the license in the header of a source file: by an SPDX tag, or by the sentences of its license notice.

find_header_license("// SPDX-License-Identifier: MIT\\n")                        "MIT"
find_header_license("# Licensed under the Apache License, Version 2.0 (the")    "Apache-2.0"
"""

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from license_expression import get_spdx_licensing

HEADER_CHARACTERS = 4_000
"""Number of characters at the start of a file that are searched for a license. A license after them concerns other files."""

TAG = re.compile(r"SPDX-License-Identifier:[ \t]*([^\r\n]+)")
LEADING_COMMENT = re.compile(r"(?:<\?php\b)?(?:\s+|//.*|#(?!\s*(?:include|define|if)).*|/\*(?s:.*?)\*/)*")
HINTS = ("licen", "permission", "redistribution", "unauthorized", "proprietary")
UNKNOWN = "LicenseRef-unknown"
"""SPDX expression for license terms that match no known license."""
MARKS_OF_COMMENTS = str.maketrans(dict.fromkeys("*#/;|\"'%-", " "))


@dataclass(frozen=True)
class Notice:
    """A license notice, recognized in a header in lower case, with single spaces and without comment marks."""

    expression: str
    phrase: str
    """Words that the notice must contain."""
    pattern: str = ""
    """A regular expression that the notice must also match; empty: the phrase suffices."""
    without: str = ""

    def is_in(self, words: str) -> bool:
        return (
            self.phrase in words
            and (not self.pattern or re.search(self.pattern, words) is not None)
            and (not self.without or re.search(self.without, words) is None)
        )


NOT_ENDORSED = r"neither the name|names? of .{0,80}may not be used|may not be used to endorse"
NOTICES = (
    Notice("Apache-2.0 WITH LLVM-exception", "under the apache license v2.0 with llvm exceptions"),
    Notice(
        "Apache-2.0",
        "apache license",
        r"under the (?:terms of the )?apache license,? (?:version |v)?2(?:\.0)?",
        "with llvm exceptions",
    ),
    Notice("MIT", "permission is hereby granted, free of charge, to any person obtaining a copy of this software"),
    Notice("MIT", "mit licen", r"(?:under|or) the (?:terms of the )?mit licen"),
    Notice("MIT", "expat licen", r"(?:under|or) the (?:terms of the )?expat licen"),
    Notice(
        "ISC", "permission to use, copy, modify, and", r"and(?: or)? distribute this software for any purpose with or without fee"
    ),
    Notice("BSD-2-Clause", "redistribution and use in source and binary forms", without=NOT_ENDORSED),
    Notice("BSD-3-Clause", "redistribution and use in source and binary forms", NOT_ENDORSED, "advertising materials"),
    Notice("BSD-4-Clause", "redistribution and use in source and binary forms", "advertising materials"),
    Notice("BSL-1.0", "boost software license"),
    Notice("MPL-2.0", "mozilla public license", r"mozilla public license,? v(?:ersion|\.)? ?2\.0"),
    Notice("MPL-1.1", "mozilla public license", r"mozilla public license,? v(?:ersion|\.)? ?1\.1"),
    Notice("EPL-1.0", "eclipse public license", r"eclipse public license,? v(?:ersion|\.)? ?1\.0"),
    Notice("EPL-2.0", "eclipse public license", r"eclipse public license,? (?:v(?:ersion|\.)? ?)?2\.0"),
    Notice("CC0-1.0", "publicdomain zero 1.0"),
    Notice("Elastic-2.0", "elastic license"),
    Notice("SSPL-1.0", "server side public license"),
    Notice("BUSL-1.1", "business source license"),
    Notice(UNKNOWN, "proprietary", r"proprietary (?:and confidential|licen|software|source)|confidential and proprietary"),
    Notice(UNKNOWN, "unauthorized", r"unauthorized (?:copying|reproduction|use|distribution)"),
    Notice(UNKNOWN, "licen", r"under (?:the|an?) (?:[\w.]+ ){0,3}(?:nvidia|enterprise|commercial)(?: [\w.]+){0,3} licen[cs]e"),
    Notice("Unlicense", "free and unencumbered software released into the public domain"),
)
ALTERNATIVES = re.compile(r"alternatively|dual licensed|either of the|or the mit")
GNU = re.compile(r"gnu (lesser |library |affero |)general public licen[cs]e.{0,100}?version (\d(?:\.\d)?)")
VERSION_OF_GNU = re.compile(r"version (\d(?:\.\d)?) of the gnu (lesser |library |affero |)general public licen[cs]e")
GNU_NAMES = {"": "GPL", "lesser ": "LGPL", "library ": "LGPL", "affero ": "AGPL"}


def find_header_license(text: str) -> str | None:
    """Return the SPDX expression of the license that a file's header states; None if it states no known license."""
    header = text[:HEADER_CHARACTERS]
    if "SPDX-License-Identifier" in header:
        tags = {expression for tag in TAG.findall(header) if (expression := parse_tag(tag)) is not None}
        if tags:
            return join_expressions(tags, "AND")
    header = header.lower()
    if not any(hint in header for hint in HINTS):
        return None
    comment = LEADING_COMMENT.match(header)[0]  # type: ignore[index]  # the match can be empty
    if any(hint in header[len(comment) :] for hint in HINTS):
        return find_notice_licenses.__wrapped__(header)
    return find_notice_licenses(comment)


@lru_cache(maxsize=1024)
def find_notice_licenses(header: str) -> str | None:
    """Return the licenses of the notices in a header (lower case). Cached, as most files of a project have the same header."""
    words = " ".join(header.translate(MARKS_OF_COMMENTS).split())
    found = {notice.expression for notice in NOTICES if notice.is_in(words)}
    gnu = find_gnu_license(words)
    if gnu is not None:
        found.add(gnu)
    if not found:
        return None
    return join_expressions(found, "OR" if len(found) > 1 and ALTERNATIVES.search(words) else "AND")


def find_gnu_license(words: str) -> str | None:
    """
    >>> find_gnu_license("the gnu lesser general public license; either version 2.1 of the license, or any later version")
    'LGPL-2.1-or-later'
    >>> find_gnu_license("the gnu general public license version 2 only, subject to the classpath exception")
    'GPL-2.0-only WITH Classpath-exception-2.0'
    """
    if "general public licen" not in words:
        return None
    if found := GNU.search(words):
        kind, version = found[1], found[2]
    elif found := VERSION_OF_GNU.search(words):
        version, kind = found[1], found[2]
    else:
        return None
    version = version if "." in version else f"{version}.0"
    exception = " WITH Classpath-exception-2.0" if "classpath exception" in words else ""
    return f"{GNU_NAMES[kind]}-{version}-{'or-later' if 'later version' in words else 'only'}{exception}"


def join_expressions(expressions: set[str], operator: str) -> str:
    """
    >>> join_expressions({"MIT"}, "AND"), join_expressions({"MIT OR ISC", "Zlib"}, "AND")
    ('MIT', '(MIT OR ISC) AND Zlib')
    """
    if len(expressions) == 1:
        return next(iter(expressions))
    return f" {operator} ".join(f"({one})" if " OR " in one or " AND " in one else one for one in sorted(expressions))


def parse_tag(tag: str) -> str | None:
    """Return the SPDX expression of a tag, without the mark that ends its comment; None if it is invalid.

    >>> parse_tag("GPL-2.0 WITH Linux-syscall-note */"), parse_tag("apache-2.0 OR mit   *|")
    ('GPL-2.0-only WITH Linux-syscall-note', 'Apache-2.0 OR MIT')
    >>> parse_tag("${license}"), parse_tag("the license of the file")
    (None, None)
    """
    written = re.match(r"[\w.+() -]+", tag)
    parsed = parse_expression(written[0].strip(" -")) if written else None
    return None if parsed is None else parsed.render()


@lru_cache(maxsize=4096)
def parse_expression(expression: str) -> Any | None:
    """Return the tree of an SPDX expression with current names; None if it is invalid or has unknown names."""
    try:
        parsed = spdx().parse(expression)
    except Exception:  # an invalid expression raises many kinds: IndexError for "MIT AND ("
        return None
    if parsed is None:
        return None
    return parsed if all(name.startswith("LicenseRef-") for name in spdx().unknown_license_keys(parsed)) else None


spdx = cache(get_spdx_licensing)
