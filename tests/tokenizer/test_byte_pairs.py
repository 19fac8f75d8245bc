import random
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from tokenizers import pre_tokenizers

from neox_code.tokenizer import byte_pairs
from neox_code.tokenizer.byte_level import BYTE_OF_CHARACTER
from neox_code.tokenizer.byte_pairs import Ages, Merges, Merging, merges_of_words
from neox_code.tokenizer.merges import merges_of_tokenizers
from neox_code.tokenizer.words import Words

SPLITTING = pre_tokenizers.ByteLevel(add_prefix_space=False)
ALPHABETS = ("a", "ab", "abc", "abcdefgh", "=-", "a =", "aé日", "a1=_ ")


def words_of(texts: Iterable[str]) -> Words:
    """As the tokenizers library cuts the texts."""
    pieces = (piece for text in texts for piece, _ in SPLITTING.pre_tokenize_str(text))
    return words({bytes(map(BYTE_OF_CHARACTER.__getitem__, piece)): count for piece, count in Counter(pieces).items()})


def words(counts: dict[bytes, int]) -> Words:
    return Words(b"\xff".join([b"", *counts, b""]), np.array(list(counts.values())))


def ambiguous_texts(seed: int) -> list[str]:
    """Few characters and small counts: most pairs overlap others that occur as often."""
    draw = random.Random(seed)
    alphabet = ALPHABETS[seed % len(ALPHABETS)]
    texts = []
    for _ in range(draw.randrange(1, 40)):
        word = "".join(draw.choices(alphabet, k=draw.choice([1, 3, 6, 12, 30])))
        texts += [" ".join([word] * draw.choice([1, 1, 2, 3, 5]))] * draw.choice([1, 1, 2, 7])
    return texts


@pytest.mark.parametrize("seed", range(96))
def test_the_merges_of_ambiguous_texts_are_those_of_the_tokenizers_library(seed: int) -> None:
    texts = ambiguous_texts(seed)
    for num_merges, min_frequency in ((1, 1), (7, 3), (1000, 1), (1000, 2)):
        expected = merges_of_tokenizers(texts, num_merges, min_frequency)
        assert merges_of_words(words_of(texts), num_merges, min_frequency) == expected


def test_the_ambiguous_texts_have_equals_that_only_the_order_of_the_merges_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    decided = []
    first_of = Ages.first_of

    def noted(ages: Ages, pairs: Sequence[tuple[int, int]], count: int) -> int:
        decided.append(count)
        return first_of(ages, pairs, count)

    monkeypatch.setattr(Ages, "first_of", noted)
    for seed in range(24):
        merges_of_words(words_of(ambiguous_texts(seed)), 1000, 1)
    assert len(decided) > 10


def test_the_merges_of_real_texts_are_those_of_the_tokenizers_library(texts: list[str]) -> None:
    assert merges_of_words(words_of(texts), 6000, 2) == merges_of_tokenizers(texts, 6000, 2)


def test_numbers_of_tokens_beyond_sixteen_bits_are_told_apart() -> None:
    high = np.array([3, 2**16 + 3, 3, 2**16 + 3, 2**16 + 3])
    low = np.array([2**17, 5, 2**17, 5, 2**16 + 5])
    order = byte_pairs.sorting(high, low)
    assert list(zip(high[order].tolist(), low[order].tolist(), strict=True)) == sorted(
        zip(high.tolist(), low.tolist(), strict=True)
    )


def merged(counts: dict[bytes, int], num_merges: int = 100, min_frequency: int = 2) -> Merges:
    return merges_of_words(words(counts), num_merges, min_frequency)


def test_merges_are_as_many_as_asked_for_or_as_occur_often_enough() -> None:
    counts = {b" the": 7, b" then": 2, b"x": 9}
    assert merged(counts, 3) == [("h", "e"), ("t", "he"), ("Ġ", "the")]
    assert merged(counts) == [("h", "e"), ("t", "he"), ("Ġ", "the"), ("Ġthe", "n")]
    assert merged(counts, min_frequency=3) == merged(counts, 3)
    assert merged(counts, 0) == merged({b"x": 9}) == merged(counts, min_frequency=10) == merged({}) == []
    assert merged({b"ab": 1}, min_frequency=0) == [("a", "b")]


def test_counts_beyond_thirty_two_bits_are_exact() -> None:
    huge = 2**40
    assert merged({b"ab": huge, b"cd": huge + 1, b"ce": 1}, 2) == [("c", "d"), ("a", "b")]


def test_no_token_is_made_in_two_ways_and_the_order_of_the_words_is_nothing() -> None:
    for seed in range(24):
        counted = words_of(ambiguous_texts(seed))
        made = merges_of_words(counted, 1000, 1)
        assert len({left + right for left, right in made}) == len(made)
        backwards = Words(b"\xff".join([b"", *counted.data[1:-1].split(b"\xff")[::-1], b""]), counted.counts[::-1])
        assert merges_of_words(backwards, 1000, 1) == made


def test_merged_places_are_left_out_and_counts_stay_those_of_the_words(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = merges_of_words(words_of(texts[:40]), 800, 2)
    for share in (0.0, 1.0):
        monkeypatch.setattr(byte_pairs, "MOST_MERGED", share)
        assert merges_of_words(words_of(texts[:40]), 800, 2) == expected
    merging = Merging(words_of(texts[:40]), 2)
    merging.run(200)
    pairs = merging._pairs
    recounted = np.zeros(pairs.size, np.int64)
    np.add.at(recounted, merging._pair, merging._weight.astype(np.int64))
    assert recounted[1:].tolist() == pairs.count[1 : pairs.size].tolist()
