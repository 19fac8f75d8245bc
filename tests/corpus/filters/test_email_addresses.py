import pytest

from neox_code.corpus.filters.email_addresses import EmailAddresses, NoEmailAddresses
from neox_code.corpus.filters.protocol import Candidate


def candidate(text):
    return Candidate("x.py", "Python", len(text), text)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Ann <ann.lee+x@mail.lab.org>", "Ann <<EMAIL>>"),
        ("ann@lab.org,bob@lab.co.uk", "<EMAIL>,<EMAIL>"),
        ("mailto:a_b@lab.org?subject=x", "mailto:<EMAIL>?subject=x"),
        ("Write to ann@lab.org.", "Write to <EMAIL>."),
        ("ann@lab.org", "<EMAIL>"),
        ("(c) Ann O'Hara (o-hara@lab.org)", "(c) Ann O'Hara (<EMAIL>)"),
    ],
)
def test_addresses_are_masked(text, masked):
    assert EmailAddresses().edit(candidate(text)) == masked
    assert NoEmailAddresses().keep(candidate(text)) == "an e-mail address"


@pytest.mark.parametrize(
    "text",
    [
        "@dataclass\n@pytest.mark.skip",
        "git@github.com:a/b.git",
        "ann@example.org, bob@mail.example.com, root@localhost",
        "icon@2x.png",
        "y = w@x.transpose(1)",
        "return@forEach.size",
        "package@1.2.3",
        "user@host",
        "$@ a @ b.cd",
        "@",
        "",
    ],
)
def test_addresses_of_no_person_stay(text):
    assert EmailAddresses().edit(candidate(text)) == text
    assert NoEmailAddresses().keep(candidate(text)) is True


def test_masking_takes_linear_time():
    text = "a@" * 100_000 + "a" * 100_000
    assert EmailAddresses().edit(candidate(text)) == text
