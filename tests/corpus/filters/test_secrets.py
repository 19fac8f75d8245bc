"""The gated search against the plugins of detect-secrets run over every line."""

import random
import string

import pytest
from detect_secrets.plugins.jwt import JwtTokenDetector

from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.filters.secrets import WITH_RUN, WITH_WORD, NoSecrets, Secrets, find_secrets, secrets_of_line

GENERATOR = random.Random(9)


def letters(count, alphabet=string.ascii_letters + string.digits):
    # one digit at least: without any a text is no secret
    return "1" + "".join(GENERATOR.choices(alphabet, k=count - 1))


def hexadecimal(count):
    return letters(count, "0123456789abcdef")


def small(count):
    return letters(count, string.ascii_lowercase + string.digits)


TOKENS = {
    "AWS key": lambda: "AKIA" + letters(16, string.ascii_uppercase + string.digits),
    "AWS secret": lambda: f"aws_secret_key = '{letters(40)}'",
    "Azure": lambda: "AccountKey=" + letters(86) + "==",
    "Cloudant": lambda: f"cloudant_password = {hexadecimal(64)}",
    "Discord": lambda: f"M{letters(23)}.{letters(6)}.{letters(27)}",
    "GitHub": lambda: "ghp_" + letters(36),
    "GitLab": lambda: "glpat-" + letters(20),
    "IBM": lambda: f"ibm_api_key = '{letters(44)}'",
    "IBM COS": lambda: f"cos_hmac_secret_access_key = '{hexadecimal(48)}'",
    "Mailchimp": lambda: f"{hexadecimal(32)}-us12",
    "npm": lambda: f"//registry.npmjs.org/:_authToken=npm_{letters(36)}",
    "OpenAI": lambda: f"sk-{letters(20)}T3BlbkFJ{letters(20)}",
    "PyPI": lambda: "pypi-AgEIcHlwaS5vcmc" + letters(70),
    "SendGrid": lambda: f"SG.{letters(22)}.{letters(43)}",
    "Slack": lambda: f"xoxb-1{letters(10, string.digits)}-{small(24)}",
    "Slack hook": lambda: f"https://hooks.slack.com/services/T{letters(8)}/B{letters(8)}/{letters(24)}",
    "Softlayer": lambda: f"softlayer_key = '{small(64)}'",
    "Square": lambda: "sq0csp-" + letters(43),
    "Stripe": lambda: "sk_live_" + letters(24),
    "Twilio": lambda: "SK" + small(32),
}
WORDS = [
    "import aws",
    "x = 1",
    "IllegalArgumentException",
    "-" * 60,
    "é",
    "class GhostHttpTransportFactoryBuilder",
    "eyJ",
    "SG.",
    "",
]


def by_plugins_alone(text):
    plugins = {type(plugin): plugin for plugin, *_ in (*WITH_RUN, *WITH_WORD)}.values()
    return {secret for line in text.split("\n") for plugin in plugins for secret in secrets_of_line(line, plugin)}


@pytest.mark.parametrize("kind", TOKENS)
def test_every_kind_is_found_wherever_its_plugin_finds_it(kind):
    for _ in range(20):
        lines = [*GENERATOR.choices(WORDS, k=6), f'{GENERATOR.choice(WORDS)} "{TOKENS[kind]()}"']
        GENERATOR.shuffle(lines)
        text = "\n".join(lines)
        found = find_secrets(text)
        assert found and set(found) == by_plugins_alone(text), text
        assert NoSecrets().keep(Candidate("x", "Python", len(text), text)) == "a secret"
        masked = Secrets().edit(Candidate("x", "Python", len(text), text))
        assert "<KEY>" in masked and not find_secrets(masked) and masked.count("\n") == text.count("\n")


def test_mixed_texts_have_the_secrets_of_their_lines():
    for _ in range(100):
        text = "\n".join(GENERATOR.choice(WORDS) + GENERATOR.choice([*TOKENS.values(), str])() for _ in range(12))
        assert set(find_secrets(text)) == by_plugins_alone(text)


def test_web_tokens_go_with_their_signature():
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl-_x"
    assert any(JwtTokenDetector().analyze_string(token))
    assert Secrets().edit(Candidate("x", "Python", 1, f"t = '{token}'")) == "t = '<KEY>'"
    assert find_secrets("eyJub3QganNvbg.eyJub3Q.x") == []
    assert find_secrets(f"eyJeyJ {token}, {token}x") == [f"{token}x", token]


def test_a_private_key_goes_as_a_block_and_its_name_alone_stays():
    body = "\n".join(letters(64) for _ in range(5))
    key = f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----"
    assert Secrets().edit(Candidate("x", "Python", 1, f"k = '''{key}'''\n")) == "k = '''<KEY>'''\n"
    reads_keys = "if line == '-----BEGIN RSA PRIVATE KEY-----':\n    stop('-----END RSA PRIVATE KEY-----')\n"
    assert find_secrets(reads_keys) == []


@pytest.mark.parametrize(
    "text",
    [
        "key = 'AKIAIOSFODNN7EXAMPLE'",
        "token = 'ghp_abcdefghijklmnopqrstuvwxyzabcdefghij'",
        "id = '123e4567-e89b-12d3-a456-426614174000'",
        "sha = 'da39a3ee5e6b4b0d3255bfef95601890afd80709'",
        "api_key = os.environ['API_KEY']",
    ],
)
def test_what_only_looks_like_a_secret_stays(text):
    assert find_secrets(text) == []


@pytest.mark.parametrize("unit", ["-----BEGIN RSA PRIVATE KEY-----\n" + "x" * 60 + "\n", "eyJ", "eyJa."])
def test_keys_that_never_end_take_linear_time(unit):
    assert find_secrets(unit * (700_000 // len(unit))) == []
