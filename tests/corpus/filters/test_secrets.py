"""Secrets of every form, made from their published formats (tests/planted_secrets.py), and what looks like one."""

import random
import time

import pytest
from planted_copies import is_masked, measure_secret_rates
from planted_secrets import FORMS, LOOK_ALIKES

from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.filters.secrets import NoSecrets, Secrets, find_secrets

MIB = 1 << 20


def mask(text):
    return Secrets().edit(Candidate("x", "Python", len(text), text))


def test_95_percent_of_every_form_of_secret_and_no_similar_text_are_masked():
    rates = measure_secret_rates(seed=3)
    assert rates.keys() == FORMS.keys() | {f"no secret: {kind}" for kind in LOOK_ALIKES}
    assert {form: rate for form, rate in rates.items() if rate < (1 if form.startswith("no secret") else 0.95)} == {}


@pytest.mark.parametrize("form", FORMS)
def test_masking_twice_changes_nothing_and_lines_stay(form):
    generator = random.Random(5)
    _, text = next(planted for planted in iter(lambda: FORMS[form](generator), None) if is_masked(*planted))
    text = f"x = 1\n{text}\ny = 2\n"
    masked = mask(text)
    assert NoSecrets().keep(Candidate("x", "Python", len(text), text)) == "a secret"
    assert find_secrets(masked) == [] and masked.startswith("x = 1\n") and masked.endswith("\ny = 2\n")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("password: str = 'kX9-vv2pQ'", "password: str = '<KEY>'"),
        ('{\\"password\\": \\"kX9-vv2pQ\\"}', '{\\"password\\": \\"<KEY>\\"}'),
        ("if password == 'kX9-vv2pQ':", "if password == '<KEY>':"),
        ('os.environ["API_KEY"] = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"', 'os.environ["API_KEY"] = "<KEY>"'),
        ("cloudant_password = 0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a6978", "cloudant_password = <KEY>"),
        ("amqp://app:hunter2x@queue.lan/", "amqp://app:<KEY>@queue.lan/"),
        ('password = "hunter2"', 'password = "<KEY>"'),
    ],
)
def test_values_of_names_are_masked_in_code_settings_and_urls(text, masked):
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "key = 'AKIAIOSFODNN7EXAMPLE'",
        "token = 'ghp_abcdefghijklmnopqrstuvwxyzabcdefghij'",
        "sha = 'da39a3ee5e6b4b0d3255bfef95601890afd80709'",
        "sid = 'AC0f1e2d3c4b5a69788796a5b4c3d2e1f0'",
        'password_hash = "pbkdf2-sha256"',
        'password = "Oauth2Client"',
        '"password": "Passwort vergessen?"',
        '<input type="password" id="pw2" name="user">',
        "def login(password: str = '', token: Optional[str] = None): ...",
        'token_url = "https://auth.corp.net/oauth2/v2/token"',
        "git clone ssh://git@host.net:2222/x.git",
    ],
)
def test_texts_that_resemble_secrets_stay(text):
    assert find_secrets(text) == []


def test_web_tokens_are_masked_with_their_signature():
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl-_x"
    assert mask(f"t = '{token}'") == "t = '<KEY>'"
    assert find_secrets("eyJub3QganNvbiBhdCBhbGw.eyJub3Q.x") == []
    assert find_secrets(f"eyJeyJ {token}, {token}x") == [f"{token}x", token]


def test_a_private_key_is_masked_as_a_block_and_a_header_alone_stays():
    key = FORMS["private key"](random.Random(2))[0]
    assert mask(f"k = '''{key}'''\n") == "k = '''<KEY>'''\n"
    assert find_secrets("if line == '-----BEGIN RSA PRIVATE KEY-----':\n    stop('-----END RSA PRIVATE KEY-----')\n") == []


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "-----BEGIN RSA PRIVATE KEY-----\n" + "x" * 60 + "\n",
            "eyJ",
            "eyJa.",
            "aws",
            "secret=",
            'password="',
            "password: a",
            "://",
            "://a:",
        ),
        *(
            "://a:b@",
            "glpat-",
            "ghp_a1",
            "12345678:",
            "a1-",
            "heroku = ",
            "Basic a",
            "bearer a1",
            "M.",
            "accesskey=",
            "access",
            "aB1",
            "-",
            "\\",
        ),
    ],
)
def test_hostile_lines_take_linear_time(unit):
    """A line eight times as long takes at most 24 times as long; the machine may be busy, so processor time counts."""

    def seconds(length):
        text = unit * (length // len(unit))
        start = time.process_time()
        find_secrets(text)
        return time.process_time() - start

    assert min(seconds(MIB // 4) for _ in range(2)) < 24 * max(0.02, min(seconds(MIB // 32) for _ in range(3)))


@pytest.mark.parametrize("escape", [r"\n", r"\t", r"\r", r"\\n", r"a\n"])
def test_a_key_after_an_escape_is_found(escape):
    key = "ghp_" + "a1B2" * 4 + "c3D4e5F6g7" * 2
    assert find_secrets(f'"x = 1{escape}{key}\\n"') == [key]
    assert find_secrets(f'"x = 1n{key}"') == []


def test_a_password_in_a_verbatim_string_of_csharp_is_found():
    assert find_secrets('var password = @"mytujVX8tGoJuK9x";') == ["mytujVX8tGoJuK9x"]
