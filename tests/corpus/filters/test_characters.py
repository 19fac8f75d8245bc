import random

from neox_code.corpus.filters.characters import (
    DIGITS,
    LETTERS,
    AlphabeticFraction,
    AlphanumericFraction,
    MaxDigits,
    count_characters_in,
)
from neox_code.corpus.filters.protocol import Candidate


def test_characters_are_counted_as_by_python():
    generator = random.Random(5)
    alphabet = "aZ09_-{ \n\téÅ中²٣😀\u0301\ud800"
    for _ in range(300):
        text = "".join(generator.choices(alphabet, k=generator.randrange(30)))
        assert count_characters_in(text, LETTERS, str.isalpha) == sum(map(str.isalpha, text)), repr(text)
        assert count_characters_in(text, LETTERS + DIGITS, str.isalnum) == sum(map(str.isalnum, text)), repr(text)
        assert count_characters_in(text, DIGITS, None) == sum(character in "0123456789" for character in text)


def test_fractions_include_their_bounds():
    file = Candidate("x.c", "C", 8, "a1{{{{{{")
    assert AlphanumericFraction(0.25).keep(file) is True
    assert AlphabeticFraction(0.25).keep(file) == "under 25% alphabetic"
    assert AlphabeticFraction(0.25, exempt=("C",)).keep(file) is True
    assert MaxDigits(0.125).keep(file) is True


def test_an_empty_text_passes():
    file = Candidate("x.c", "C", 0)
    assert AlphanumericFraction(0.25).keep(file) is AlphabeticFraction(0.25).keep(file) is MaxDigits(0.8).keep(file) is True
