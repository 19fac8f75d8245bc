import random
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from tokenizers import pre_tokenizers

from neox_code.tokenizer import byte_pairs
from neox_code.tokenizer.byte_level import BYTE_OF_CHARACTER
from neox_code.tokenizer.byte_pairs import Ages, Merges, Merging, merge_pretokens
from neox_code.tokenizer.merges import learn_merges_with_tokenizers
from neox_code.tokenizer.pretokenize import PretokenCounts

SPLITTING = pre_tokenizers.ByteLevel(add_prefix_space=False)
ALPHABETS = ("a", "ab", "abc", "abcdefgh", "=-", "a =", "aé日", "a1=_ ")


def count_pretokens(texts: Iterable[str]) -> PretokenCounts:
    """Return the pretokens and counts of the tokenizers library."""
    pieces = (piece for text in texts for piece, _ in SPLITTING.pre_tokenize_str(text))
    return make_counts({bytes(map(BYTE_OF_CHARACTER.__getitem__, piece)): count for piece, count in Counter(pieces).items()})


def make_counts(counts: dict[bytes, int]) -> PretokenCounts:
    return PretokenCounts(b"\xff".join([b"", *counts, b""]), np.array(list(counts.values())))


def make_ambiguous_texts(seed: int) -> list[str]:
    """Return texts with few characters and small counts, where most pairs overlap equally frequent ones."""
    draw = random.Random(seed)
    alphabet = ALPHABETS[seed % len(ALPHABETS)]
    texts = []
    for _ in range(draw.randrange(1, 40)):
        word = "".join(draw.choices(alphabet, k=draw.choice([1, 3, 6, 12, 30])))
        texts += [" ".join([word] * draw.choice([1, 1, 2, 3, 5]))] * draw.choice([1, 1, 2, 7])
    return texts


@pytest.mark.parametrize("seed", range(96))
def test_merges_of_ambiguous_texts_equal_those_of_the_tokenizers_library(seed: int) -> None:
    texts = make_ambiguous_texts(seed)
    for num_merges, min_frequency in ((1, 1), (7, 3), (1000, 1), (1000, 2)):
        expected = learn_merges_with_tokenizers(texts, num_merges, min_frequency)
        assert merge_pretokens(count_pretokens(texts), num_merges, min_frequency) == expected


def test_ambiguous_texts_have_equal_pairs_that_need_the_merge_order(monkeypatch: pytest.MonkeyPatch) -> None:
    decided = []
    find_first = Ages.find_first

    def record(ages: Ages, pairs: Sequence[tuple[int, int]], count: int) -> int:
        decided.append(count)
        return find_first(ages, pairs, count)

    monkeypatch.setattr(Ages, "find_first", record)
    for seed in range(24):
        merge_pretokens(count_pretokens(make_ambiguous_texts(seed)), 1000, 1)
    assert len(decided) > 10


def test_merges_of_real_texts_equal_those_of_the_tokenizers_library(texts: list[str]) -> None:
    assert merge_pretokens(count_pretokens(texts), 6000, 2) == learn_merges_with_tokenizers(texts, 6000, 2)


def test_token_numbers_above_16_bits_are_sorted_correctly() -> None:
    high = np.array([3, 2**16 + 3, 3, 2**16 + 3, 2**16 + 3])
    low = np.array([2**17, 5, 2**17, 5, 2**16 + 5])
    order = byte_pairs.sort_pairs(high, low)
    assert list(zip(high[order].tolist(), low[order].tolist(), strict=True)) == sorted(
        zip(high.tolist(), low.tolist(), strict=True)
    )


def merge(counts: dict[bytes, int], num_merges: int = 100, min_frequency: int = 2) -> Merges:
    return merge_pretokens(make_counts(counts), num_merges, min_frequency)


def test_number_of_merges_is_limited_by_num_merges_and_min_frequency() -> None:
    counts = {b" the": 7, b" then": 2, b"x": 9}
    assert merge(counts, 3) == [("h", "e"), ("t", "he"), ("Ġ", "the")]
    assert merge(counts) == [("h", "e"), ("t", "he"), ("Ġ", "the"), ("Ġthe", "n")]
    assert merge(counts, min_frequency=3) == merge(counts, 3)
    assert merge(counts, 0) == merge({b"x": 9}) == merge(counts, min_frequency=10) == merge({}) == []
    assert merge({b"ab": 1}, min_frequency=0) == [("a", "b")]


def test_counts_above_32_bits_are_exact() -> None:
    huge = 2**40
    assert merge({b"ab": huge, b"cd": huge + 1, b"ce": 1}, 2) == [("c", "d"), ("a", "b")]


def test_each_token_is_made_in_one_way_and_pretoken_order_does_not_matter() -> None:
    for seed in range(24):
        counted = count_pretokens(make_ambiguous_texts(seed))
        made = merge_pretokens(counted, 1000, 1)
        assert len({left + right for left, right in made}) == len(made)
        backwards = PretokenCounts(b"\xff".join([b"", *counted.data[1:-1].split(b"\xff")[::-1], b""]), counted.counts[::-1])
        assert merge_pretokens(backwards, 1000, 1) == made


def test_removing_merged_positions_keeps_pair_counts_correct(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = merge_pretokens(count_pretokens(texts[:40]), 800, 2)
    for share in (0.0, 1.0):
        monkeypatch.setattr(byte_pairs, "MAX_MERGED_SHARE", share)
        assert merge_pretokens(count_pretokens(texts[:40]), 800, 2) == expected
    merging = Merging(count_pretokens(texts[:40]), 2)
    merging.run(200)
    pairs = merging._pairs
    recounted = np.zeros(pairs.size, np.int64)
    np.add.at(recounted, merging._pair, merging._weight.astype(np.int64))
    assert recounted[1:].tolist() == pairs.count[1 : pairs.size].tolist()
