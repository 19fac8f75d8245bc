import pytest

from neox_code.corpus.filters.personal_numbers import IPv4Addresses, NoPersonalNumbers, TelephoneNumbers
from neox_code.corpus.filters.protocol import Candidate


def candidate(text):
    return Candidate("x", "Python", len(text), text)


@pytest.mark.parametrize("address", ["81.92.203.17", "17.253.144.10", "203.0.114.1"])
@pytest.mark.parametrize("text", ['host = "{}"', "ssh root@{}:22", "http://{}/x", "# {}."])
def test_public_addresses_are_masked(address, text):
    assert IPv4Addresses().edit(candidate(text.format(address))) == text.format("<IP_ADDRESS>")
    assert NoPersonalNumbers().keep(candidate(text.format(address))) == "an IPv4 address"


@pytest.mark.parametrize(
    "text",
    [
        *("10.1.2.3", "192.168.0.12", "172.16.9.1", "127.0.0.1", "0.0.0.0", "255.255.255.0", "169.254.1.1", "100.64.0.1"),
        *(
            "192.0.2.55",
            "198.51.100.7",
            "203.0.113.80",
            "224.0.0.251",
            "8.8.8.8",
        ),  # documentation (RFC 5737), multicast, a name server
        *(
            'version = "10.14.21.3"',
            "v12.30.11.2",
            "numpy==11.22.33.44",
            "1.2.3.4",
            "1.22.333.4444",
            "256.92.203.17",
            "81.92.203.17.5",
        ),
    ],
)
def test_other_addresses_and_versions_stay(text):
    assert IPv4Addresses().edit(candidate(text)) == text


@pytest.mark.parametrize("number", ["+49 30 9018 2033", "+1 415-867-2600", "(415) 867-2600", "415-867-2600", "+442079460812"])
def test_telephone_numbers_are_masked(number):
    assert TelephoneNumbers().edit(candidate(f"# call {number} now")) == "# call <PHONE> now"


@pytest.mark.parametrize(
    "text", ["212-555-0142", "2024-10-11", "x = a +1 2", "1415-867-26001", "SIZE = +1000", "3.141-592-6535", "+1.5e10"]
)
def test_other_numbers_stay(text):
    assert TelephoneNumbers().edit(candidate(text)) == text
