"""Filters for e-mail addresses: an edit that replaces them, and a filter that drops files with an address.

    EmailAddresses().edit(file)         replaces each address by <EMAIL>, as in BigCode's corpora
    NoEmailAddresses().keep(file)       drops a file with an address

An address is a name, an @ and a domain whose last part has two letters or more. Texts of this form that belong to no person are not
changed: example domains (RFC 2606), `git@` in clone addresses, and names of images such as `icon@2x.png`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from neox_code.corpus.filters.protocol import Candidate

PLACEHOLDER = "<EMAIL>"
LONGEST_NAME = 64
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._%+-]*[A-Za-z0-9_%+-])?$")
DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,24}(?![\w(]|-\w|\.\w+\()")
KEPT_DOMAIN = re.compile(
    r"(?:.*\.)?(?:example(?:\.(?:com|org|net))?|test|invalid|localhost|png|jpe?g|gif|svg|webp|css|js|html)", re.IGNORECASE
)
KEPT_NAMES = frozenset({"git", "this", "super", "return", "break", "continue"})  # the last five: labels of Kotlin


@dataclass(frozen=True)
class EmailAddresses:
    """
    >>> EmailAddresses().edit(Candidate("x.py", "Python", 1, "# Ann <ann.lee@lab.org>\\n@wraps\\nx = a@b.dot(c)  # a@example.com"))
    '# Ann <<EMAIL>>\\n@wraps\\nx = a@b.dot(c)  # a@example.com'
    """

    placeholder: str = PLACEHOLDER
    name = "e-mail addresses masked"

    def edit(self, file: Candidate) -> str:
        return replace_spans(file.text, find_addresses(file.text), self.placeholder)


@dataclass(frozen=True)
class NoEmailAddresses:
    """
    >>> NoEmailAddresses().keep(Candidate("x.py", "Python", 1, "# Ann <ann.lee@lab.org>"))
    'an e-mail address'
    """

    name = "no e-mail addresses"

    def keep(self, file: Candidate) -> Literal[True] | str:
        return next(find_addresses(file.text), None) is None or "an e-mail address"


def find_addresses(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each address, in order."""
    done = 0
    at = text.find("@")
    while at >= 0:
        before = text[at - 1 : at] if at > 0 else ""
        if before.isalnum() or before in ("_", "%", "+", "-"):
            first = max(done, at - LONGEST_NAME)
            name = NAME.search(text[first:at])
            domain = DOMAIN.match(text, at + 1)
            if name and domain and name[0] not in KEPT_NAMES and not KEPT_DOMAIN.fullmatch(domain[0]):
                yield first + name.start(), domain.end()
                done = domain.end()
        at = text.find("@", at + 1)


def replace_spans(text: str, spans: Iterator[tuple[int, int]], placeholder: str) -> str:
    """Return the text with each span (start, end) replaced by the placeholder. Spans are in order and do not overlap."""
    kept, pieces = 0, list[str]()
    for start, end in spans:
        pieces += (text[kept:start], placeholder)
        kept = end
    return "".join((*pieces, text[kept:])) if pieces else text
