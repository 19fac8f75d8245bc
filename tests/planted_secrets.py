"""Seeded random secrets of every form that the secrets filter detects, and texts that only look like secrets.

    secret, text = FORMS["GitHub token"](Random(1))        the secret, and a line of code, settings or data with it
    text = LOOK_ALIKES["hash"](Random(1))

The formats are from the services' documentation. If a service has none, they are from GitHub's list of secret scanning patterns,
gitleaks's rules (MIT) or detect-secrets (Apache-2.0). In a template `<x36>` means 36 characters of the class x in CLASSES, and
`<at|ca>` means one of the two.
"""

import base64
import json
import re
import string
from collections.abc import Callable, Iterable, Mapping
from random import Random

LETTERS, DIGITS, UPPER = string.ascii_letters, string.digits, string.ascii_uppercase
ALPHANUMERIC = LETTERS + DIGITS
CLASSES = {"x": ALPHANUMERIC, "a": LETTERS, "d": DIGITS, "l": string.ascii_lowercase, "u": UPPER + DIGITS, "k": UPPER + "234567"}
CLASSES |= {"h": "0123456789abcdef", "b": ALPHANUMERIC + "+/", "w": ALPHANUMERIC + "-_", "p": ALPHANUMERIC + "-_.~!"}
CLASSES |= {"s": ALPHANUMERIC + "!@#%^&*+-_=?~", "q": "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"}
FIELD = re.compile(r"<([a-z])(\d+)>|<([^<>]*)>")

Planted = tuple[str, str]
"""A secret, and the text that contains it."""
Make = Callable[[Random], str]

IN_CODE = (
    'token = "SECRET"',
    "TOKEN='SECRET'",
    "export SERVICE_TOKEN=SECRET",
    '{"token": "SECRET"}',
    "  token: SECRET  # of the build",
    'curl -H "Authorization: Bearer SECRET" https://service.net/v1/me',
    "client = Client('SECRET', timeout=3)",
    "// SECRET",
    "SECRET",
)
"""Lines of code for a key that is recognized by its format alone."""
ASSIGNED = ('NAME = "SECRET"', "NAME: 'SECRET'", '{"NAME": "SECRET"}', "'NAME' => 'SECRET',", 'f(user, NAME="SECRET")')
UUID = "<h8>-<h4>-4<h3>-<8|9|a|b><h3>-<h12>"


def fill(template: str, random: Random) -> str:
    def value(field: re.Match[str]) -> str:
        if field[1]:
            return "".join(random.choices(CLASSES[field[1]], k=int(field[2])))
        return random.choice(field[3].split("|"))

    return FIELD.sub(value, template)


def choose_one_of(*templates: str) -> Make:
    return lambda random: fill(random.choice(templates), random)


def plant(secret: str | Make, contexts: Iterable[str] = IN_CODE, names: Iterable[str] = ("",)) -> Callable[[Random], Planted]:
    """Return a function that makes a secret in one of the contexts, with NAME replaced by one of the names."""
    make = choose_one_of(secret) if isinstance(secret, str) else secret
    texts = [context.replace("NAME", name) for context in contexts for name in names]

    def planted(random: Random) -> Planted:
        made = make(random)
        return made, random.choice(texts).replace("SECRET", made)

    return planted


def make_password(random: Random) -> str:
    """Return a password like those of password managers: 8 to 20 letters and digits, and in half of the cases signs."""
    return fill(f"<x1><{random.choice('xs')}{random.randrange(6, 19)}><x1>", random)


def make_private_key(random: Random) -> str:
    kind = random.choice(("RSA ", "EC ", "OPENSSH ", "DSA ", "", "ENCRYPTED "))
    return fill(
        f"-----BEGIN {kind}PRIVATE KEY-----\n" + "<b64>\n" * random.randrange(3, 25) + f"-----END {kind}PRIVATE KEY-----", random
    )


def make_private_key_in_one_line(random: Random) -> str:
    return make_private_key(random).replace("\n", "\\n")


def make_web_token(random: Random) -> str:
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": fill("<d8>", random), "iat": random.randrange(10**9, 2 * 10**9)})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return fill(".".join((*encoded, "<w43>")), random)


def make_basic_credentials(random: Random) -> str:
    return base64.b64encode(f"{fill('<l6>', random)}:{make_password(random)}".encode()).decode()


FORMS: Mapping[str, Callable[[Random], Planted]] = {
    "GitHub token": plant("gh<p|o|u|s|r>_<x36>"),
    "GitHub fine-grained token": plant("github_pat_<x22>_<x59>"),
    "GitLab token": plant("glpat-<x20>"),
    "Anthropic key": plant("sk-ant-api03-<w93>AA"),
    "OpenAI project key": plant("sk-proj-<w74>T3BlbkFJ<w73>A"),
    "OpenAI key": plant("sk-<x20>T3BlbkFJ<x20>"),
    "sk- key": plant("sk-<x48>"),
    "Google API key": plant("AIza<x35>"),
    "Hugging Face token": plant("hf_<a34>"),
    "npm token": plant("npm_<x36>"),
    "PyPI token": plant("pypi-AgEIcHlwaS5vcmc<w100>A"),
    "Slack token": plant("xox<b|p|a|r>-<d12>-<d13>-<x24>"),
    "Slack webhook": plant("hooks.slack.com/services/T<u8>/B<u10>/<x24>"),
    "Telegram token": plant(choose_one_of("<1|4|7><d8>:AA<x33>", "<1|4|7><d9>:AA<x33>")),
    "Mailgun key": plant(choose_one_of("key-<h32>", "<h32>-<h8>-<h8>")),
    "Mailchimp key": plant("<h32>-us<1|6|21>"),
    "Heroku key": plant(UUID, ("HEROKU_API_KEY=SECRET", 'heroku_key = "SECRET"', '"heroku.key": "SECRET"')),
    "Heroku token": plant("HRKU-AA<x58>"),
    "DigitalOcean token": plant("do<o|p|r>_v1_<h64>"),
    "Shopify token": plant("shp<at|ca|pa|ss>_<h32>"),
    "Databricks token": plant("dapi<h32><|-2>"),
    "age key": plant("AGE-SECRET-KEY-1<q58>"),
    "Stripe key": plant(choose_one_of("<r|s>k_live_<x24>", "<r|s>k_live_<x99>")),
    "SendGrid key": plant("SG.<x22>.<x43>"),
    "Azure storage key": plant(
        lambda r: base64.b64encode(r.randbytes(64)).decode(),
        ("DefaultEndpointsProtocol=https;AccountName=store;AccountKey=SECRET;EndpointSuffix=core.windows.net", "AccountKey=SECRET"),
    ),
    "GCP service account": plant(
        make_private_key_in_one_line, ('{\n  "type": "service_account",\n  "private_key": "SECRET",\n  "client_id": "123"\n}',)
    ),
    "AWS access key": plant("<AKIA|ASIA><k16>"),
    "AWS secret key": plant(
        "<b40>", ("aws_secret_access_key = SECRET", 'AWS_SECRET_ACCESS_KEY="SECRET"', '"SecretAccessKey": "SECRET"')
    ),
    "private key": plant(make_private_key, ("KEY = '''SECRET'''\n",)),
    "private key in one line": plant(make_private_key_in_one_line, ('{"key": "SECRET"}',)),
    "JSON Web Token": plant(make_web_token),
    "password": plant(make_password, ASSIGNED, ("password", "DB_PASSWORD", "passwd", "userPassword", "pwd")),
    "API key of 32 digits": plant("<h32>", ASSIGNED, ("api_key", "API_KEY", "apiKey", "client_secret", "auth_token")),
    "Basic authentication": plant(
        make_basic_credentials, ("Authorization: Basic SECRET", 'headers = {"Authorization": "Basic SECRET"}')
    ),
    "password in a URL": plant(
        lambda r: fill(f"<p{r.randrange(8, 20)}><x1>", r),
        (
            "postgres://svc:SECRET@db.internal:5432/app",
            'url = "https://deploy:SECRET@git.corp.net/x.git"',
            "redis://:SECRET@10.1.2.3:6379/0",
        ),
    ),
}
WORD = "<access|token|secret|key|password|aws|api|client|auth|user|github|sha256|oauth2>"
IDENTIFIER = choose_one_of(*("_".join([WORD] * words) for words in (2, 3, 4)), *("-".join([WORD] * words) for words in (2, 3, 4)))


def make_identifier(random: Random) -> str:
    name = IDENTIFIER(random)
    return random.choice((name, name.replace("-", "_").title().replace("_", "")))


LOOK_ALIKES: Mapping[str, Make] = {
    "hash": choose_one_of(
        *(
            context.replace("HASH", digest)
            for context in ('checksum = "HASH"', "commit HASH", 'sha256: "HASH"', '"integrity": "HASH"', "HASH  file.tar.gz")
            for digest in ("<h32>", "<h40>", "<h64>", "<h128>")
        )
    ),
    "Base64 of a hash": choose_one_of('"integrity": "sha512-<b86>=="'),
    "UUID": choose_one_of(f'id = "{UUID}"', UUID, f'token_id: "{UUID}"', f'session_token = "{UUID}"'),
    "AC and 32 hexadecimal digits": choose_one_of('sid = "AC<h32>"', "AC<h32>"),
    "identifier": lambda r: r.choice(('password = "{}"', 'api_key = "{}"', 'secret: "{}"', "token = {}")).format(
        make_identifier(r)
    ),
    "read from elsewhere": lambda r: r.choice(
        (
            'password = os.environ["DB_PASSWORD_2"]',
            "password = getpass()",
            "api_key = settings.API_KEY2",
            'password: "${DB_PASSWORD1}"',
            'secret = "{{ vault_secret_v2 }}"',
            "https://${USER}:${PASS1}@host/",
            "https://{user}:{password1}@host/",
            'token = process.env["TOKEN_1"]',
            "password = %s",
        )
    ),
    "example": lambda r: r.choice(
        (
            "AKIAIOSFODNN7EXAMPLE",
            'aws_secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"',
            'api_key = "your-api-key-here"',
            'api_key = "YOUR_API_KEY_123456789012"',
            'token = "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"',
            'key = "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"',
            'password = "password123"',
            'password = "changeme1"',
            'password = "<password1>"',
            "https://user:password1@example.com/",
            "postgres://user:secret1@localhost/db",
            "sk_test_4eC39HqLyjWDarjtT1zdp7dc",
            "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
            'password = "********"',
            "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",  # RFC 7617's
        )
    ),
}
