import random
import re
import sys

import pytest

from neox_code.corpus.duplicates.words import words_key


def by_regex(text):
    return " ".join(re.split(r"\W+", text)).encode()


@pytest.mark.parametrize("text", ["", " ", "a", " a", "a ", "\n\n", "_a1 (b)", "é", "…", "a…b", "…é", "\u0301", "a\0b", "x\ud800y"])
def test_words_are_those_of_the_regex_at_the_edges(text):
    assert words_key(text) == by_regex(text)


def test_every_character_is_what_the_regex_says():
    characters = [chr(code) for code in range(sys.maxunicode + 1)]
    assert words_key("a".join(characters)) == by_regex("a".join(characters))
    assert words_key("".join(characters)) == by_regex("".join(characters))


def test_random_texts_have_the_words_of_the_regex():
    generator = random.Random(0)
    for alphabet in ("ab_1 .\n", "ab .é…\u3000x"):
        for _ in range(2000):
            text = "".join(generator.choices(alphabet, k=generator.randrange(12)))
            assert words_key(text) == by_regex(text)


def test_files_have_the_words_of_the_regex(library_texts):
    assert len(library_texts) > 100
    for text in library_texts:
        assert words_key(text) == by_regex(text)
