"""Filters for IPv4 addresses and telephone numbers. No recipe of the package uses them; add them to your own recipe.

    IPv4Addresses().edit(file)        each replaced by <IP_ADDRESS>, as in BigCode's corpora
    TelephoneNumbers().edit(file)     each replaced by <PHONE>

These addresses are not replaced: addresses of no internet host (private, loopback, documentation, multicast and others of IANA's
special registry, RFC 6890), public name servers, and version numbers (four parts of one digit each, or after `v`, `version` or
`==`). A telephone number begins with a country code (`+49 ...`) or is of North America (`(415) 867-2600`, `415-867-2600`). Numbers
reserved for fiction (555-01xx) are not replaced.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from neox_code.corpus.filters.email_addresses import replace_spans
from neox_code.corpus.filters.protocol import Candidate

IP_PLACEHOLDER, PHONE_PLACEHOLDER = "<IP_ADDRESS>", "<PHONE>"
PART = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
IPV4 = re.compile(rf"(?<![\w.-]){PART}(?:\.{PART}){{3}}(?![\w-]|\.\d)", re.ASCII)
BEFORE_VERSION = re.compile(r"(?:\bv|version\w*|release|==|~=|>=|<=|\^)[\s\"':=(]{0,4}$", re.IGNORECASE)
NAME_SERVERS = frozenset({"8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "208.67.222.222", "208.67.220.220"})
PHONE = re.compile(
    r"(?<![\w.+/=-])(?:\+[1-9]\d{0,2}(?:[ .-]?\(?\d{1,4}\)?){2,6}"
    r"|(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[.-])[2-9]\d\d[.-]\d{4})(?![\w.-]{0,8}\d)",
    re.ASCII,
)
FEWEST_DIGITS, MOST_DIGITS = 8, 15
"""Minimum and maximum number of digits of an international telephone number. ITU-T E.164 sets the maximum."""
FICTION = re.compile(r"55501\d\d$")


@dataclass(frozen=True)
class IPv4Addresses:
    """
    >>> IPv4Addresses().edit(Candidate("x.py", "Python", 1, "HOSTS = ['81.92.203.17', '192.168.0.1'], version = '1.2.3.4'"))
    "HOSTS = ['<IP_ADDRESS>', '192.168.0.1'], version = '1.2.3.4'"
    """

    placeholder: str = IP_PLACEHOLDER
    name = "IPv4 addresses masked"

    def edit(self, file: Candidate) -> str:
        return replace_spans(file.text, find_ipv4_addresses(file.text), self.placeholder)


@dataclass(frozen=True)
class TelephoneNumbers:
    """
    >>> TelephoneNumbers().edit(Candidate("x.py", "Python", 1, "# call +49 30 9018 2033 or 415-867-2600, never 212-555-0142"))
    '# call <PHONE> or <PHONE>, never 212-555-0142'
    """

    placeholder: str = PHONE_PLACEHOLDER
    name = "telephone numbers masked"

    def edit(self, file: Candidate) -> str:
        return replace_spans(file.text, find_telephone_numbers(file.text), self.placeholder)


@dataclass(frozen=True)
class NoPersonalNumbers:
    """
    >>> NoPersonalNumbers().keep(Candidate("x.py", "Python", 1, "HOST = '81.92.203.17'"))
    'an IPv4 address'
    """

    name = "no IPv4 addresses or telephone numbers"

    def keep(self, file: Candidate) -> Literal[True] | str:
        if next(find_ipv4_addresses(file.text), None):
            return "an IPv4 address"
        return next(find_telephone_numbers(file.text), None) is None or "a telephone number"


def find_ipv4_addresses(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each address that is replaced, in order."""
    for found in IPV4.finditer(text):
        is_version = all(len(part) == 1 for part in found[0].split(".")) or BEFORE_VERSION.search(
            text, max(0, found.start() - 24), found.start()
        )
        address = ipaddress.IPv4Address(found[0])
        if not is_version and address.is_global and not address.is_multicast and found[0] not in NAME_SERVERS:
            yield found.span()


def find_telephone_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each telephone number that is replaced, in order."""
    for found in PHONE.finditer(text):
        digits = re.sub(r"\D", "", found[0])
        if FEWEST_DIGITS <= len(digits) <= MOST_DIGITS and not FICTION.search(digits):
            yield found.span()
