"""Random secrets of every form that the filter of secrets names, and texts that only look like them: both by a seed.

    secret, text = FORMS["GitHub token"](Random(1))        the secret, and a line of code, settings or data with it
    text = LOOK_ALIKES["hash"](Random(1))

Formats are those of the services' documentation, and where it has none of GitHub's list of supported secret scanning patterns, of
gitleaks's rules (MIT) or of detect-secrets (Apache-2.0).
"""

import base64
import hashlib
import json
import string
import uuid
from collections.abc import Callable, Mapping
from random import Random

DIGITS, LOWER, UPPER, HEX = string.digits, string.ascii_lowercase, string.ascii_uppercase, "0123456789abcdef"
ALPHANUMERIC = string.ascii_letters + DIGITS
URL_SAFE = ALPHANUMERIC + "-_"
BASE64 = ALPHANUMERIC + "+/"

Planted = tuple[str, str]
"""A secret, and the text that it is in."""


def pick(random: Random, characters: str, count: int) -> str:
    return "".join(random.choices(characters, k=count))


CONTEXTS = (
    'token = "{}"',
    "TOKEN='{}'",
    "export SERVICE_TOKEN={}",
    '{{"token": "{}"}}',
    "  token: {}  # of the build",
    'curl -H "Authorization: Bearer {}" https://service.net/v1/me',
    "client = Client('{}', timeout=3)",
    "// {}",
    "{}",
)
"""In which a key that is known by its own form stands."""


def own_form(make: Callable[[Random], str]) -> Callable[[Random], Planted]:
    def plant(random: Random) -> Planted:
        secret = make(random)
        return secret, random.choice(CONTEXTS).format(secret)

    return plant


def in_contexts(make: Callable[[Random], str], *contexts: str) -> Callable[[Random], Planted]:
    def plant(random: Random) -> Planted:
        secret = make(random)
        return secret, random.choice(contexts).replace("SECRET", secret)

    return plant


def password(random: Random) -> str:
    """A password as managers make them: 8 to 20 letters and digits, in half of the cases with signs."""
    characters = ALPHANUMERIC + random.choice(("", "!@#%^&*+-_=?~"))
    return random.choice(ALPHANUMERIC) + pick(random, characters, random.randrange(6, 19)) + random.choice(ALPHANUMERIC)


def private_key(random: Random) -> Planted:
    kind = random.choice(("RSA ", "EC ", "OPENSSH ", "DSA ", "", "ENCRYPTED "))
    lines = [pick(random, BASE64, 64) for _ in range(random.randrange(3, 25))]
    block = "\n".join([f"-----BEGIN {kind}PRIVATE KEY-----", *lines, f"-----END {kind}PRIVATE KEY-----"])
    return block, f"KEY = '''{block}'''\n"


def private_key_in_one_line(random: Random) -> Planted:
    block = private_key(random)[0].replace("\n", "\\n")
    return block, json.dumps({"key": "KEY"}).replace("KEY", block)


def service_account(random: Random) -> Planted:
    block = private_key_in_one_line(random)[0]
    account = {
        "type": "service_account",
        "private_key_id": pick(random, HEX, 40),
        "private_key": "BLOCK",
        "client_id": pick(random, DIGITS, 21),
    }
    return block, json.dumps(account, indent=2).replace("BLOCK", block)


def web_token(random: Random) -> str:
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": pick(random, DIGITS, 8), "iat": random.randrange(10**9, 2 * 10**9)})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join((*encoded, pick(random, URL_SAFE, 43)))


def basic_authentication(random: Random) -> Planted:
    secret = base64.b64encode(f"{pick(random, LOWER, 6)}:{password(random)}".encode()).decode()
    return secret, random.choice(("Authorization: Basic SECRET", 'headers = {"Authorization": "Basic SECRET"}')).replace(
        "SECRET", secret
    )


QUOTED_NAMES = ('NAME = "SECRET"', "NAME: 'SECRET'", '{"NAME": "SECRET"}', "'NAME' => 'SECRET',", 'f(user, NAME="SECRET")')


def assigned(make: Callable[[Random], str], *names: str) -> Callable[[Random], Planted]:
    return in_contexts(make, *(context.replace("NAME", name) for context in QUOTED_NAMES for name in names))


FORMS: Mapping[str, Callable[[Random], Planted]] = {
    # docs.github.com/authentication: prefixes; lengths by gitleaks
    "GitHub token": own_form(lambda r: f"gh{r.choice('pousr')}_{pick(r, ALPHANUMERIC, 36)}"),
    "GitHub fine-grained token": own_form(lambda r: f"github_pat_{pick(r, ALPHANUMERIC, 22)}_{pick(r, ALPHANUMERIC, 59)}"),
    # docs.gitlab.com/security/tokens: prefixes
    "GitLab token": own_form(lambda r: f"glpat-{pick(r, URL_SAFE[:-2], 20)}"),
    # platform.claude.com/docs; gitleaks: anthropic-api-key
    "Anthropic key": own_form(lambda r: f"sk-ant-api03-{pick(r, URL_SAFE, 93)}AA"),
    # platform.openai.com/docs; gitleaks and detect-secrets: openai
    "OpenAI project key": own_form(lambda r: f"sk-proj-{pick(r, URL_SAFE, 74)}T3BlbkFJ{pick(r, URL_SAFE, 73)}A"),
    "OpenAI key": own_form(lambda r: f"sk-{pick(r, ALPHANUMERIC, 20)}T3BlbkFJ{pick(r, ALPHANUMERIC, 20)}"),
    "sk- key": own_form(lambda r: f"sk-{pick(r, ALPHANUMERIC, 48)}"),
    # cloud.google.com/docs/authentication/api-keys
    "Google API key": own_form(lambda r: f"AIza{pick(r, URL_SAFE[:-2], 35)}"),
    # huggingface.co/docs/hub/security-tokens
    "Hugging Face token": own_form(lambda r: f"hf_{pick(r, string.ascii_letters, 34)}"),
    # github.blog/2021-09-23-announcing-npms-new-access-token-format
    "npm token": own_form(lambda r: f"npm_{pick(r, ALPHANUMERIC, 36)}"),
    # pypi.org/help/#apitoken: a macaroon
    "PyPI token": own_form(lambda r: f"pypi-AgEIcHlwaS5vcmc{pick(r, URL_SAFE, 100)}A"),
    # api.slack.com/authentication/token-types
    "Slack token": own_form(
        lambda r: f"xox{r.choice('bpar')}-{pick(r, DIGITS, 12)}-{pick(r, DIGITS, 13)}-{pick(r, ALPHANUMERIC, 24)}"
    ),
    # api.slack.com/messaging/webhooks
    "Slack webhook": own_form(
        lambda r: (
            f"hooks.slack.com/services/T{pick(r, UPPER + DIGITS, 8)}/B{pick(r, UPPER + DIGITS, 10)}/{pick(r, ALPHANUMERIC, 24)}"
        )
    ),
    # core.telegram.org/bots/api#authorizing-your-bot
    "Telegram token": own_form(lambda r: f"{r.randrange(10**8, 10**10)}:AA{pick(r, URL_SAFE[:-2], 33)}"),
    # documentation.mailgun.com: keys; gitleaks: mailgun-private-api-token
    "Mailgun key": own_form(
        lambda r: r.choice((f"key-{pick(r, HEX, 32)}", f"{pick(r, HEX, 32)}-{pick(r, HEX, 8)}-{pick(r, HEX, 8)}"))
    ),
    # mailchimp.com/developer: a key ends with its data center
    "Mailchimp key": own_form(lambda r: f"{pick(r, HEX, 32)}-us{r.randrange(1, 22)}"),
    # devcenter.heroku.com: a UUID, and HRKU- since 2024
    "Heroku key": in_contexts(
        lambda r: str(uuid.UUID(int=r.getrandbits(128), version=4)),
        "HEROKU_API_KEY=SECRET",
        'heroku_key = "SECRET"',
        '"heroku.key": "SECRET"',
    ),
    "Heroku token": own_form(lambda r: f"HRKU-AA{pick(r, URL_SAFE[:-2], 58)}"),
    # docs.digitalocean.com/reference/api: prefixes
    "DigitalOcean token": own_form(lambda r: f"do{r.choice('opr')}_v1_{pick(r, HEX, 64)}"),
    # shopify.dev/docs/apps/auth: prefixes
    "Shopify token": own_form(lambda r: f"shp{r.choice(('at', 'ca', 'pa', 'ss'))}_{pick(r, HEX, 32)}"),
    # docs.databricks.com/dev-tools/auth/pat; gitleaks
    "Databricks token": own_form(lambda r: f"dapi{pick(r, HEX, 32)}{r.choice(('', '-2'))}"),
    # age-encryption.org/v1: Bech32 in upper case
    "age key": own_form(lambda r: f"AGE-SECRET-KEY-1{pick(r, 'QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L', 58)}"),
    # docs.stripe.com/keys
    "Stripe key": own_form(lambda r: f"{r.choice('rs')}k_live_{pick(r, ALPHANUMERIC, r.choice((24, 99)))}"),
    # docs.sendgrid.com: 69 characters in three parts
    "SendGrid key": own_form(lambda r: f"SG.{pick(r, URL_SAFE[:-2], 22)}.{pick(r, URL_SAFE[:-2], 43)}"),
    # learn.microsoft.com/azure/storage: 64 bytes in Base64
    "Azure storage key": in_contexts(
        lambda r: base64.b64encode(r.randbytes(64)).decode(),
        "DefaultEndpointsProtocol=https;AccountName=store;AccountKey=SECRET;EndpointSuffix=core.windows.net",
        "AccountKey=SECRET",
    ),
    # cloud.google.com/iam/docs/keys-create-delete
    "GCP service account": service_account,
    # docs.aws.amazon.com/IAM: unique identifiers
    "AWS access key": own_form(lambda r: f"{r.choice(('AKIA', 'ASIA'))}{pick(r, UPPER + '234567', 16)}"),
    "AWS secret key": in_contexts(
        lambda r: base64.b64encode(r.randbytes(30)).decode(),
        "aws_secret_access_key = SECRET",
        'AWS_SECRET_ACCESS_KEY="SECRET"',
        '"SecretAccessKey": "SECRET"',
    ),
    # RFC 7468, and OpenSSH's PROTOCOL.key
    "private key": private_key,
    "private key in one line": private_key_in_one_line,
    # RFC 7519
    "JSON Web Token": own_form(web_token),
    "password": assigned(password, "password", "DB_PASSWORD", "passwd", "userPassword", "pwd"),
    "API key of 32 digits": assigned(lambda r: pick(r, HEX, 32), "api_key", "API_KEY", "apiKey", "client_secret", "auth_token"),
    # RFC 7617
    "Basic authentication": basic_authentication,
    # RFC 3986, section 3.2.1
    "password in a URL": in_contexts(
        lambda r: pick(r, ALPHANUMERIC + "-_.~!", r.randrange(8, 20)) + r.choice(ALPHANUMERIC),
        "postgres://svc:SECRET@db.internal:5432/app",
        'url = "https://deploy:SECRET@git.corp.net/x.git"',
        "redis://:SECRET@10.1.2.3:6379/0",
    ),
}


def digest(random: Random) -> str:
    return hashlib.new(random.choice(("md5", "sha1", "sha256", "sha512")), random.randbytes(16)).hexdigest()


def identifier(random: Random) -> str:
    words = ("access", "token", "secret", "key", "password", "aws", "api", "client", "auth", "user", "github", "sha256", "oauth2")
    return random.choice("_-").join(random.choices(words, k=random.randrange(2, 5)))


def camel_case(random: Random) -> str:
    return "".join(word.capitalize() for word in identifier(random).replace("-", "_").split("_"))


LOOK_ALIKES: Mapping[str, Callable[[Random], str]] = {
    "hash": lambda r: r.choice(('checksum = "{}"', "commit {}", 'sha256: "{}"', '"integrity": "{}"', "{}  file.tar.gz")).format(
        digest(r)
    ),
    "Base64 of a hash": lambda r: f'"integrity": "sha512-{base64.b64encode(r.randbytes(64)).decode()}"',
    "UUID": lambda r: r.choice(('id = "{}"', "{}", 'token_id: "{}"', 'session_token = "{}"')).format(
        uuid.UUID(int=r.getrandbits(128))
    ),
    "AC and 32 hexadecimal digits": lambda r: r.choice(('sid = "{}"', "{}")).format(f"AC{pick(r, HEX, 32)}"),
    "identifier": lambda r: r.choice(('password = "{}"', 'api_key = "{}"', 'secret: "{}"', "token = {}")).format(
        r.choice((identifier, camel_case))(r)
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
