import random
import re
import sys

import pytest

from neox_code.corpus.duplicates.lexing import normalize_words


def by_regex(text):
    return " ".join(re.split(r"\W+", text)).encode()


@pytest.mark.parametrize("text", ["", " ", "a", " a", "a ", "\n\n", "_a1 (b)", "é", "…", "a…b", "…é", "\u0301", "a\0b", "x\ud800y"])
def test_words_equal_the_regex_for_edge_cases(text):
    assert normalize_words(text) == by_regex(text)


def test_every_character_has_the_class_of_the_regex():
    characters = [chr(code) for code in range(sys.maxunicode + 1)]
    assert normalize_words("a".join(characters)) == by_regex("a".join(characters))
    assert normalize_words("".join(characters)) == by_regex("".join(characters))


def test_words_of_random_texts_equal_the_regex():
    generator = random.Random(0)
    for alphabet in ("ab_1 .\n", "ab .é…\u3000x"):
        for _ in range(2000):
            text = "".join(generator.choices(alphabet, k=generator.randrange(12)))
            assert normalize_words(text) == by_regex(text)


def test_words_of_files_equal_the_regex(library_texts):
    assert len(library_texts) > 100
    for text in library_texts:
        assert normalize_words(text) == by_regex(text)
