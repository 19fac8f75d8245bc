"""Find secrets: keys and tokens of services, private keys, and passwords in assignments, headers and URLs.

    Secrets().edit(file)         replaces each secret by <KEY>
    NoSecrets().keep(file)       drops a file with a secret
    find_secrets(text)           ["ghp_...", ...]

A secret is recognized by its published form (a prefix and a pattern), or by the name that it is assigned to: `password = "..."`,
`api_key = "..."`. Entropy is not measured, since it would match hashes and escaped text. These are not secrets: placeholders and
examples (`AKIAIOSFODNN7EXAMPLE`, `your-api-key-here`, `xxxx`), words (`password = "password"`), values read from elsewhere
(`os.environ["KEY"]`, `${KEY}`), UUIDs except Heroku's, and identifiers of accounts (Twilio's AC...). A private key is its whole
block, also in one line with `\\n`.
"""

import base64
import binascii
import json
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.filters.runs import RunKind, find_lines_with_runs

PLACEHOLDER = "<KEY>"

TOKEN = RunKind(string.ascii_letters + string.digits + "_-")
BASE64 = RunKind(string.ascii_letters + string.digits + "+/")
SHORTEST_RUN, AWS_RUN = 20, 40
"""A line with a key has at least SHORTEST_RUN consecutive TOKEN characters; with an AWS secret key, AWS_RUN BASE64 characters."""

BEFORE, AFTER = rb"(?<!(?<!\\)[A-Za-z0-9])", rb"(?![A-Za-z0-9])"
"""Patterns before and after a key: no letter or digit may touch it, except an escape before it (`\\nghp_...` in a JSON string)."""
Forms = tuple[tuple[tuple[bytes, ...], bytes], ...]
FORMS: dict[int, Forms] = {
    SHORTEST_RUN: (
        ((b"gl",), rb"gl(?:pat|dt|ft|soat|rt|cbt|imt|ptt|agent|oas|ffct)-[\w-]{20,}(?:\.[\w.-]{4,})?"),
        ((b"xox",), rb"xox[a-z](?:\.xox[a-z])?-(?=[A-Za-z0-9-]*[0-9])[A-Za-z0-9-]{16,}"),
        ((b"hooks.slack.com/",), rb"hooks\.slack\.com/(?:services/T[A-Z0-9]+/B[A-Z0-9]+|workflows/[\w/]{20,80})/[A-Za-z0-9]{20,}"),
        ((b"whsec_",), rb"whsec_[0-9A-Za-z+/]{32,}"),
        ((b"AKIA", b"ASIA", b"ABIA", b"ACCA"), rb"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}"),
        ((b"Q~",), rb"[\w~.]{3}[0-9]Q~[\w~.-]{31,34}"),  # Microsoft Entra
        ((b"hvs.",), rb"hvs\.[\w-]{24,}"),
        ((b"ATATT3",), rb"ATATT3[\w=-]{60,}"),
    ),
    27: (
        ((b"GR1348941",), rb"GR1348941[\w-]{20,}"),
        ((b"sk-ant-",), rb"sk-ant-[\w-]{20,}"),
        ((b"sk-",), rb"sk-(?:proj|svcacct|admin|None|or-v1)-[\w-]{20,}|sk-[A-Za-z0-9]{32,64}"),
        ((b"k_live_", b"k_test_"), rb"[rs]k_(?:live|test)_[0-9A-Za-z]{24,255}"),
        ((b"sq0",), rb"sq0(?:csp-[\w-]{43}|(?:atp|idp)-[\w-]{22})"),
        ((b"SK",), rb"SK[0-9a-f]{32}"),  # Twilio
        ((b"NRAK-",), rb"NRAK-[A-Z0-9]{27}"),
        ((b".",), rb"[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,38}(?![\w-])"),  # Discord
    ),
    35: (
        ((b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"), rb"gh[pousr]_[A-Za-z0-9]{36,255}"),
        ((b"github_pat_",), rb"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
        ((b"AIza",), rb"AIza[\w-]{35}(?![\w-])"),
        ((b"GOCSPX-",), rb"GOCSPX-[\w-]{28}"),
        ((b"ya29.",), rb"ya29\.[\w-]{50,}"),
        ((b"hf_",), rb"hf_[A-Za-z0-9]{34,40}"),
        ((b"npm_",), rb"npm_[A-Za-z0-9]{36}"),
        ((b"_authToken=",), rb"(?<=_authToken=)(?:npm_[A-Za-z0-9]{36}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})"),
        ((b"pypi-",), rb"pypi-Ag[\w-]{48,}"),
        ((b"xapp-",), rb"xapp-[0-9]-[A-Z0-9]{8,}-[0-9]{8,}-[0-9a-f]{32,}"),
        ((b"/api/webhooks/",), rb"/api/webhooks/[0-9]{15,21}/[\w-]{60,}"),
        ((b"key-",), rb"(?:pub)?key-[0-9a-f]{32}"),  # Mailgun
        ((b"HRKU-",), rb"HRKU-[\w-]{32,}"),
        ((b"_v1_",), rb"do[opr]_v1_[0-9a-f]{64}"),
        ((b"shp",), rb"shp(?:at|ca|pa|ss|ua|tka)_[0-9a-fA-F]{32}"),
        ((b"dapi",), rb"dapi[0-9a-f]{32}(?:-[0-9])?"),
        ((b"AGE-SECRET-KEY-1",), rb"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
        ((b"SG.",), rb"SG\.[\w-]{22}\.[\w-]{43}"),
        ((b".atlasv1.",), rb"[A-Za-z0-9]{14}\.atlasv1\.[\w-]{60,}"),
        ((b"lin_api_",), rb"lin_api_[A-Za-z0-9]{40}"),
        ((b"PMAK-",), rb"PMAK-[0-9a-f]{24}-[0-9a-f]{34}"),
        ((b"glsa_",), rb"glsa_[A-Za-z0-9]{32}_[0-9a-f]{8}"),
        ((b"dckr_pat_",), rb"dckr_pat_[\w-]{27}"),
        ((b"rubygems_",), rb"rubygems_[0-9a-f]{48}"),
        ((b"r8_", b"gsk_"), rb"r8_[A-Za-z0-9]{37}|gsk_[A-Za-z0-9]{52}"),
        ((b"pplx-", b"xai-"), rb"pplx-[A-Za-z0-9]{48}|xai-[A-Za-z0-9]{80}"),
        ((b"xkeysib-",), rb"xkeysib-[0-9a-f]{64}-[A-Za-z0-9]{16}"),
        ((b"sbp_", b"sqp_", b"squ_", b"pul-"), rb"(?:sbp_|sq[pu]_|pul-)[0-9a-f]{40}"),
        ((b":",), rb"[0-9]{8,10}:[\w-]{35}(?![\w-])"),  # Telegram
        ((b"-",), rb"[0-9a-f]{32}-(?:[0-9a-f]{8}-[0-9a-f]{8}|us[0-9]{1,2})"),  # Mailgun since 2018; Mailchimp
    ),
}
"""Forms of keys: minimum number of consecutive TOKEN characters in a key -> pairs (literals, pattern). A line is searched for the
pattern if it has one of the literals. The patterns are from the services' documentation or GitHub's list of supported secret
scanning patterns."""
OWN_FORMS = {
    run: [(literals, re.compile(BEFORE + rb"(?:" + form + rb")" + AFTER, re.ASCII)) for literals, form in forms]
    for run, forms in FORMS.items()
}

NAME_END = rb"(?:\\{0,3}[\"'`])?\]?(?:\s{0,8}:\s{0,8}[A-Za-z][\w.\[\]]{0,30}\??(?=\s{0,8}=))?\s{0,8}(?:=>|:=|={1,3}|:)\s{0,8}"
QUOTE = rb"\\{0,3}[\"'`]"
QUOTED = re.compile(NAME_END + rb"(?:[bruf@$]{0,2}" + QUOTE + rb")([^\"'`\s\\]{6,200}+)" + QUOTE)
"""Pattern of what follows a name that is assigned a value in quotes."""
PLAIN = re.compile(NAME_END + rb"([\w+/=-]{20,200}+)(?=[\s;,#]|$)", re.ASCII)
"""Pattern of what follows a name that is assigned a long value without quotes, as in shell and INI files."""
PREFIXES = (
    "api",
    "secret",
    "access",
    "auth",
    "encryption",
    "account",
    "sharedaccess",
    "softlayer",
    "cloudant",
    "ibm",
    "app",
    "signing",
)
KEY_NAMES = tuple(f"{prefix}{join}key".encode() for prefix in PREFIXES for join in ("", "_", "-"))
NEXT = rb"(?=[\"'`\] \t:=\\])"
NAMES = tuple(
    re.compile(names + NEXT)
    for names in (rb"p(?:ass(?:word|wd|phrase|wort)|wd|rivate_key_id)", rb"secret", rb"ke(?:y|n(?<=token))")
)
"""Names of secrets in lower case. Names with the same beginning share a pattern, which makes the search fast."""
UUID = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
HEROKU = re.compile(rb"heroku[\w .\[\]\"'-]{0,30}(?:=>|[:=])\s{0,8}(?:" + QUOTE + rb")?(" + UUID.pattern + rb")", re.IGNORECASE)
AWS_SECRET = re.compile(
    rb"(?:aws|secret|access)[\w.-]{0,30}+" + NAME_END + rb"(?:" + QUOTE + rb")?([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])", re.IGNORECASE
)
BASE64_KEY = re.compile(rb"(?:AccountKey|SharedAccessKey|SharedAccessSignature)=([A-Za-z0-9+/%]{40,100}={0,2})", re.IGNORECASE)
HEADER = re.compile(rb"b(?:asic|earer) ")
CREDENTIALS = re.compile(rb"\s{0,4}([A-Za-z0-9+/_.~-]{8,4096}={0,2})")
URL = re.compile(rb"://[^\s/:@\"'`<>|]{0,64}:([^\s/@\"'`<>|]{4,128})@([\w.\[\]:-]{1,253})", re.ASCII)
PRIVATE_KEY = re.compile(
    r"-----BEGIN ((?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?)-----(?:(?!-----(?:BEGIN|END)).){64,}-----END \1-----", re.DOTALL
)
WEB_TOKEN = re.compile(rb"(eyJ[\w-]+\.[\w-]+(?:\.[\w-]+)?)|eyJ[\w-]*", re.ASCII)
"""A web token, or a longer text that begins like one. The latter is matched to skip it: searching in it takes quadratic time."""

EXAMPLES = (
    b"sk_test_4eC39HqLyjWDarjtT1zdp7dc",  # Stripe's documentation
    b"Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",  # Azure's emulator
    b"110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw",  # Telegram's documentation
    b"2YotnFZFEjr1zCsicMWpAA",  # RFC 6749
    b"tGzv3JOkF0XG5Qx2TlKWIA",
    b"SplxlOBeZQQYbYS6WxSbIA",
)
PLACEHOLDER_WORDS = re.compile(
    rb"example|your|change_?me|placeholder|dummy|sample|insert|replace|redacted|fake|xxxx|0123456789|1234567890|123456789"
    rb"|abcdefgh|deadbeef|\*\*\*|\.\.\.|[<>{}]|\$\(|%\(|(?-i:%[sd])(?![A-Za-z0-9])",
    re.IGNORECASE,
)
WEAK_WORDS = re.compile(
    rb"passw|passphrase|secret|test|admin|root|user|demo|default|qwerty|letmein|login|hidden|123456|abc123|string|token|value|field"
    rb"|input|label|guest|none|null|true|false|sha[0-9]|md5|utf-?[0-9]|mock|private|public|required|(?:foo|bar|baz|key)[0-9]*$",
    re.IGNORECASE,
)
"""Words that mark a value as a placeholder or a name, not as a secret password."""
WORD = rb"(?:[A-Z]?[a-z]{2,}|[A-Z]{2,})"
NAME = re.compile(rb"[#.@/$%-]{0,2}(?:[A-Z]?[a-z]{3,}|[A-Z]{3,}|[A-Z][a-z]{2})++[-_.:/!?]{0,2}")
"""A name of words, which can be joined as in `accessToken`."""
JOINED_NAME = re.compile(
    rb"[#.@/$%_-]{0,2}" + WORD + rb"[0-9]{0,3}(?:[-_.:/,+ ]{1,2}(?:" + WORD + rb"|[A-Za-z])?[0-9]{0,9})++"
    rb"|(?:[A-Z][a-z]{2,}[0-9]{0,3}){3,}+|(?:[A-Z][a-z]{2,}[0-9]?){2}"
)
"""A name of words with signs between them or with capitals: `users/edit`, `AES_256`, `Oauth2Client`."""
HEXADECIMAL = re.compile(rb"[0-9a-fA-F]{32,}")
LETTER, DIGIT = re.compile(rb"[A-Za-z]"), re.compile(rb"[0-9]")
LOWER, UPPER = re.compile(rb"[a-z]"), re.compile(rb"[A-Z]")
KEY_VALUE = re.compile(rb"[\w+/=.~-]{20,200}", re.ASCII)


@dataclass(frozen=True)
class Secrets:
    """
    >>> Secrets().edit(Candidate("x.py", "Python", 1, "token = 'ghp_" + "a1B2" * 4 + "c3D4e5F6g7" * 2 + "'"))
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
    >>> NoSecrets().keep(Candidate("x.py", "Python", 1, "token = 'ghp_" + "a1B2" * 4 + "c3D4e5F6g7" * 2 + "'"))
    'a secret'
    """

    name = "no secrets"

    def keep(self, file: Candidate) -> Literal[True] | str:
        return not find_secrets(file.text) or "a secret"


def find_secrets(text: str) -> list[str]:
    """Return the secrets of a text, the longest first.

    >>> find_secrets('db = connect(password="tr0ub4dor&3", key=os.environ["API_KEY"], url="https://me:N5kd8wq@host/")')
    ['tr0ub4dor&3', 'N5kd8wq']
    """
    found = {key[0] for key in PRIVATE_KEY.finditer(text)} if "PRIVATE KEY" in text else set()
    encoded = text.encode("utf-8", "replace")
    lower = encoded.lower()
    with_runs = lines = select_lines(encoded, TOKEN, SHORTEST_RUN)
    secrets = set(find_other_keys(encoded, lower, with_runs))
    for run, forms in OWN_FORMS.items():
        lines = lines if run == SHORTEST_RUN else select_lines(lines, TOKEN, run)
        secrets.update(find_known_key_forms(lines, forms))
    secrets.update(find_assigned_values(encoded, lower))
    secrets.update(find_in_headers_and_urls(encoded, lower))
    found.update(secret.decode("utf-8", "replace") for secret in secrets)
    return sorted(found, key=lambda secret: (-len(secret), secret))


def select_lines(encoded: bytes, kind: RunKind, length: int) -> bytes:
    return b"\n".join(encoded[start:end] for start, end in find_lines_with_runs(encoded, kind, length))


def find_known_key_forms(lines: bytes, forms: list[tuple[tuple[bytes, ...], re.Pattern[bytes]]]) -> Iterator[bytes]:
    for literals, form in forms:
        if any(literal in lines for literal in literals):
            yield from (key[0] for key in form.finditer(lines) if is_key(key[0]))


def find_other_keys(encoded: bytes, lower: bytes, with_runs: bytes) -> Iterator[bytes]:
    if b"eyJ" in with_runs:
        yield from (token[1] for token in WEB_TOKEN.finditer(with_runs) if token[1] and is_web_token(token[1]))
    if b"heroku" in with_runs.lower():
        yield from (key[1] for key in HEROKU.finditer(with_runs) if is_key(key[1]))
    if b"accountkey=" in lower or b"sharedaccess" in lower:
        yield from (key[1] for key in BASE64_KEY.finditer(encoded) if is_key(key[1]))
    if b"aws" in lower or b"access" in lower:
        keys = (key[1] for key in AWS_SECRET.finditer(select_lines(encoded, BASE64, AWS_RUN)))
        yield from (key for key in keys if is_key(key) and has_both_cases(key))


def find_assigned_values(encoded: bytes, lower: bytes) -> Iterator[bytes]:
    """Yield the quoted values that are assigned to names such as `password`; `lower` is `encoded` in lower case."""
    for names in NAMES:
        for name in names.finditer(lower):
            if name[0] == b"key" and not lower.endswith(KEY_NAMES, 0, name.end()):
                continue
            value = QUOTED.match(encoded, name.end())
            if value:
                if (is_password if name[0].startswith((b"pass", b"pwd")) else is_assigned_key)(value[1]):
                    yield value[1]
            else:
                value = PLAIN.match(encoded, name.end())
                if value and is_assigned_key(value[1]):
                    yield value[1]


def find_in_headers_and_urls(encoded: bytes, lower: bytes) -> Iterator[bytes]:
    for scheme in HEADER.finditer(lower):
        found = CREDENTIALS.match(encoded, scheme.end())
        if found and (is_basic_authentication if scheme[0] == b"basic " else is_assigned_key)(found[1]):
            yield found[1]
    if b"://" in encoded and b"@" in encoded:
        for url in URL.finditer(encoded):
            if is_password(url[1]) and not url[2].lower().startswith(b"example."):
                yield url[1]


def is_key(key: bytes) -> bool:
    """Return False for a placeholder or example that has the form of a key."""
    if PLACEHOLDER_WORDS.search(key) or key in EXAMPLES or len(set(key[-16:])) < 6:
        return False
    return DIGIT.search(key) is not None or has_both_cases(key) or key.startswith(b"AKIA")


def has_both_cases(key: bytes) -> bool:
    return LOWER.search(key) is not None and UPPER.search(key) is not None


def is_assigned_key(value: bytes) -> bool:
    """Return True for a value that is long enough for a key and is neither words nor a UUID."""
    if not KEY_VALUE.fullmatch(value) or UUID.fullmatch(value) or (not HEXADECIMAL.fullmatch(value) and is_plain_name(value)):
        return False
    return is_key(value) and len(DIGIT.findall(value)) >= 2 and LETTER.search(value) is not None


def is_plain_name(value: bytes) -> bool:
    return NAME.fullmatch(value) is not None or JOINED_NAME.fullmatch(value) is not None


def is_password(value: bytes) -> bool:
    """Return True if the value mixes letters with digits, signs or capitals in a way that is unusual for a name."""
    if PLACEHOLDER_WORDS.search(value) or WEAK_WORDS.search(value) or is_plain_name(value) or UUID.fullmatch(value):
        return False
    if value.startswith((b"/", b"./", b"$", b"#", b"%", b"&", b"--")) or b"://" in value or b"()" in value or value.endswith(b"("):
        return False
    return LETTER.search(value) is not None and len(set(value)) > 3


def is_basic_authentication(encoded: bytes) -> bool:
    try:
        user, _, password = base64.b64decode(encoded, validate=True).partition(b":")
    except (ValueError, binascii.Error):
        return False
    return password.isascii() and user.isascii() and password.decode("ascii").isprintable() and is_password(password)


def is_web_token(token: bytes) -> bool:
    """Return True for a JSON Web Token: its first part is a header and its second is JSON. Return False for jwt.io's example."""
    try:
        header, payload = (json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))) for part in token.split(b".")[:2])
    except (ValueError, binascii.Error, RecursionError):
        return False
    return isinstance(header, dict) and "alg" in header and isinstance(payload, dict) and payload.get("name") != "John Doe"
