"""Secrets: keys and tokens of services, and private keys.

    Secrets().edit(file)         each replaced by <KEY>
    NoSecrets().keep(file)       a file with one is dropped
    find_secrets(text)           ["ghp_...", ...]

Found by plugins of the library `detect-secrets` that know a secret by its form: those of BigCode's choice (bigcode-dataset,
pii/utils/keys_detection.py) and GitLab's, OpenAI's, PyPI's and Square's. Left out of that choice are Artifactory's, which takes
constants that begin with AP, and the two that judge by entropy, which found hashes and escaped Japanese in 1,950 files of Python
and Java. Of a private key the whole block is taken; the library marks the line that begins one, which programs that read keys
have, too. As there, UUIDs, sequences and templates are no secrets; nor is what says EXAMPLE or has no digit.
"""

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from detect_secrets.filters.heuristic import is_potential_uuid, is_sequential_string, is_templated_secret
from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.cloudant import CloudantDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.ibm_cloud_iam import IbmCloudIamDetector
from detect_secrets.plugins.ibm_cos_hmac import IbmCosHmacDetector
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.npm import NpmDetector
from detect_secrets.plugins.openai import OpenAIDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.softlayer import SoftlayerDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector
from detect_secrets.plugins.twilio import TwilioKeyDetector

from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.filters.runs import Kind, has_run, lines_with_runs

PLACEHOLDER = "<KEY>"

ALPHANUMERIC = Kind(string.ascii_letters + string.digits)
TOKEN = Kind(ALPHANUMERIC.members + "_-")
AWS = AWSKeyDetector()
SLACK = SlackDetector()
SHORTEST_RUN = 20
WITH_RUN: tuple[tuple[RegexBasedDetector, Kind, int, tuple[bytes, ...]], ...] = (
    (AWS, ALPHANUMERIC, 20, (b"AKIA", b"ASIA", b"ABIA", b"ACCA", b"A3T")),
    (CloudantDetector(), ALPHANUMERIC, 24, (b"",)),
    (StripeDetector(), ALPHANUMERIC, 24, (b"k_live_",)),
    (MailchimpDetector(), ALPHANUMERIC, 32, (b"-us",)),
    (TwilioKeyDetector(), ALPHANUMERIC, 34, (b"AC", b"SK")),
    (IbmCosHmacDetector(), ALPHANUMERIC, 48, (b"",)),
    (OpenAIDetector(), ALPHANUMERIC, 48, (b"T3BlbkFJ",)),
    (SoftlayerDetector(), ALPHANUMERIC, 64, (b"",)),
    (GitLabTokenDetector(), TOKEN, 26, (b"gl", b"GR1348941")),
    (DiscordBotTokenDetector(), TOKEN, 27, (b"",)),
    (GitHubTokenDetector(), TOKEN, 40, (b"gh",)),
    (SendGridDetector(), TOKEN, 43, (b"SG.",)),
    (IbmCloudIamDetector(), TOKEN, 44, (b"",)),
    (PypiTokenDetector(), TOKEN, 70, (b"pypi-Ag",)),
)
"""Plugins; a run of characters that a line must have to hold one of their secrets; words of which it must have one."""
WITH_WORD: tuple[tuple[RegexBasedDetector, bytes, Kind, int], ...] = (
    (AWS, b"aws", Kind(ALPHANUMERIC.members + "/+"), 40),
    (AzureStorageKeyDetector(), b"accountkey=", Kind(ALPHANUMERIC.members + "/+="), 88),
    (JwtTokenDetector(), b"eyj", TOKEN, 4),
    (NpmDetector(), b":_authtoken=", TOKEN, 4),
    (SLACK, b"xox", TOKEN, 4),
    (SLACK, b"hooks.slack", TOKEN, 4),
    (SquareOAuthDetector(), b"sq0csp-", TOKEN, 4),
)
"""Plugins; a word, in small letters, that the line must have; a run that it must have."""

PRIVATE_KEY = re.compile(
    r"-----BEGIN ((?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?)-----(?:(?!-----(?:BEGIN|END)).){64,}-----END \1-----", re.DOTALL
)
WEB_TOKEN = re.compile(r"(eyJ[\w-]+\.[\w-]+(?:\.[\w-]+)?)|eyJ[\w-]*")
"""A token, or the beginning of none, in which no other is looked for: that would take the square of its length."""


@dataclass(frozen=True)
class Secrets:
    """
    >>> Secrets().edit(Candidate("x.py", "Python", 1, "token = 'ghp_" + "a1B2" * 9 + "'"))
    "token = '<KEY>'"
    """

    placeholder: str = PLACEHOLDER
    name = "secrets masked"

    def edit(self, file: Candidate) -> str:
        text = file.text
        for secret in find_secrets(text):
            text = text.replace(secret, self.placeholder)
        return text


@dataclass(frozen=True)
class NoSecrets:
    """
    >>> NoSecrets().keep(Candidate("x.py", "Python", 1, "token = 'ghp_" + "a1B2" * 9 + "'"))
    'a secret'
    """

    name = "no secrets"

    def keep(self, file: Candidate) -> Literal[True] | str:
        return not find_secrets(file.text) or "a secret"


def find_secrets(text: str) -> list[str]:
    """The secrets of a text, the longest first."""
    found = {key[0] for key in PRIVATE_KEY.finditer(text)} if "PRIVATE KEY" in text else set()
    encoded = text.encode("utf-8", "replace")
    with_runs = b"\n".join(encoded[start:end] for start, end in lines_with_runs(encoded, TOKEN, SHORTEST_RUN))
    for plugin, kind, length, words in WITH_RUN:
        if any(word in with_runs for word in words):
            for start, end in lines_with_runs(with_runs, kind, length):
                found.update(secrets_of_line(with_runs[start:end].decode("utf-8"), plugin))
    small = encoded.lower()
    for plugin, word, kind, length in WITH_WORD:
        for start, end in lines_with_word(small, word):
            if has_run(encoded[start:end], kind, length):
                found.update(secrets_of_line(encoded[start:end].decode("utf-8"), plugin))
    return sorted(found, key=lambda secret: (-len(secret), secret))


def lines_with_word(small: bytes, word: bytes) -> Iterator[tuple[int, int]]:
    found = small.find(word)
    while found >= 0:
        end = small.find(b"\n", found)
        end = len(small) if end < 0 else end
        yield small.rfind(b"\n", 0, found) + 1, end
        found = small.find(word, end)


def secrets_of_line(line: str, plugin: RegexBasedDetector) -> Iterator[str]:
    if isinstance(plugin, JwtTokenDetector):
        yield from (token[1] for token in WEB_TOKEN.finditer(line) if token[1] and plugin.is_formally_valid(token[1]))
        return
    for pattern in plugin.denylist:
        for match in pattern.finditer(line):
            part = max((group for group in match.groups() if group), key=len, default="")
            # a group is the secret itself, or only the kind of token: "ghp"
            secret = part if len(part) >= SHORTEST_RUN else match[0]
            if is_secret(secret):
                yield secret


def is_secret(text: str) -> bool:
    if "EXAMPLE" in text.upper() or not any(map(str.isdigit, text)):
        return False
    return not (is_potential_uuid(text) or is_sequential_string(text) or is_templated_secret(text))
