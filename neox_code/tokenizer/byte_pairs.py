"""Byte-pair encoding in numpy, many merges at a time.

    counts = PretokenCounts(b"\\xff the\\xff then\\xff", np.array([7, 2]))
    merge_pretokens(counts, num_merges=3, min_frequency=2)               # [("h", "e"), ("t", "he"), ("Ġ", "the")]

The result equals that of the tokenizers library, which makes one merge at a time. The library merges the most frequent pair of
neighboring tokens; of equally frequent pairs it takes the one with the oldest left token, then the one with the oldest right token.
Bytes are older than merged tokens, in the order of the characters that represent them.

A *peak* is a pair that is merged before every pair that overlaps it. A pair loses occurrences only to overlapping pairs that are
merged before it, so a peak keeps its count until it is merged, and a later merge elsewhere cannot create an overlapping pair with a
larger count. Therefore all peaks are merged at the same time, then the peaks of the result, until no pair reaches the count
`bound`; then the bound is lowered. `Ages` computes the order in which single merges would have made the tokens.

No token is made in two ways, such as (a, bc) and (ab, c): the bytes of a token determine its merges.

Memory: 20 bytes for every byte of the distinct pretokens, and the same again for intermediate arrays. Numpy's `take` and
`compress` are used where indexing is several times slower.
"""

from collections.abc import Sequence
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from neox_code.tokenizer.byte_level import CHARACTER_OF_BYTE, make_byte_alphabet
from neox_code.tokenizer.count_pretokens import SEPARATOR
from neox_code.tokenizer.pretokenize import PretokenCounts

Merges = list[tuple[str, str]]
Integers = NDArray[np.integer]

NUM_BYTES = 256
BOUNDARY = SEPARATOR[0]
NO_TOKEN = -1
"""Token number at a position between two pretokens."""
MERGED = -2
"""Token number at a position whose token was merged into the previous one."""
NO_PAIR = 0
UNORDERED = 2**62
FIRST_MERGES = 16
"""Approximate number of merges until the first bound (the smallest count that is merged in a pass). Each further bound doubles the
number of merges."""
MAX_MERGED_SHARE = 0.25
"""Share of merged positions above which the arrays are compacted."""


def merge_pretokens(words: PretokenCounts, num_merges: int, min_frequency: int) -> Merges:
    """Return at most `num_merges` merges, first to last. Pairs that occur fewer than `min_frequency` times are not merged."""
    merging = Merging(words, min_frequency)
    merging.run(num_merges)
    spelled = list(make_byte_alphabet())
    for left, right in merging.parts:
        spelled.append(spelled[left] + spelled[right])
    order = [merging.parts[token - NUM_BYTES] for token in merging.ages.order[:num_merges]]
    return [(spelled[left], spelled[right]) for left, right in order]


class Ages:
    """Order in which single merges would make the tokens, oldest first.

    A token is *ordered* when its index in this order is final; then its age is that index. Before, its age is UNORDERED minus its
    count, because a more frequent token is older. The order of two tokens with equal ages is not determined yet.
    """

    def __init__(self) -> None:
        self.of: NDArray[np.int64] = np.arange(NUM_BYTES)
        self.order: list[int] = []
        """The merged tokens that are ordered."""
        self._next: list[tuple[int, int, int, int]] = []
        """Heap of the tokens whose parts are both ordered: (negative count, age of left part, age of right part, token)."""
        self._waiting: dict[int, list[tuple[int, int, int, int]]] = {}
        """Part that is not ordered -> tokens that wait for it: (count, left part, right part, token)."""

    def add(self, parts: Sequence[tuple[int, int]], counts: NDArray[np.int64], first: int) -> None:
        """Add tokens with their (left, right) parts, numbered consecutively from `first`. `counts` has shape (len(parts),)."""
        while first + len(parts) > len(self.of):
            self.of = np.concatenate([self.of, np.zeros_like(self.of)])
        self.of[first : first + len(parts)] = UNORDERED - counts
        for token, (left, right), count in zip(range(first, first + len(parts)), parts, counts.tolist(), strict=True):
            self._enqueue(count, left, right, token)

    def is_ordered(self, token: int) -> bool:
        return bool(self.of[token] < 2**32)

    def order_tokens(self, above: int = 0) -> None:
        """Order the tokens that occur more often than `above`; all tokens with such counts must have been added."""
        while self._next and -self._next[0][0] > above:
            self._order_next()

    def find_first(self, pairs: Sequence[tuple[int, int]], count: int) -> int:
        """Return the index of the pair that is merged first. All `pairs` occur `count` times; no other pair occurs more often."""
        self.order_tokens(above=count)
        while True:
            ready = [
                (-count, int(self.of[left]), int(self.of[right]), index)
                for index, (left, right) in enumerate(pairs)
                if self.is_ordered(left) and self.is_ordered(right)
            ]
            if ready and (not self._next or min(ready) < self._next[0]):
                return min(ready)[3]
            self._order_next()

    def _enqueue(self, count: int, left: int, right: int, token: int) -> None:
        for part in (left, right):
            if not self.is_ordered(part):
                self._waiting.setdefault(part, []).append((count, left, right, token))
                return
        heappush(self._next, (-count, int(self.of[left]), int(self.of[right]), token))

    def _order_next(self) -> None:
        token = heappop(self._next)[3]
        self.of[token] = NUM_BYTES + len(self.order)
        self.order.append(token)
        for entry in self._waiting.pop(token, ()):
            self._enqueue(*entry)


class Pairs:
    """Table of the distinct pairs: count, left token and right token of each pair number. Row NO_PAIR is empty with count 0."""

    def __init__(self) -> None:
        self.size = 1
        self.count = np.zeros(2**16, np.int64)
        self.left = np.zeros(2**16, np.int32)
        self.right = np.zeros(2**16, np.int32)

    def add(self, left: Integers, right: Integers, count: Integers) -> Integers:
        """Append pairs and return their numbers. All arrays have shape (pairs,)."""
        begin, self.size = self.size, self.size + len(count)
        if self.size > len(self.count):
            self.count, self.left, self.right = (
                np.concatenate([column, np.zeros(self.size, column.dtype)]) for column in (self.count, self.left, self.right)
            )
        self.count[begin : self.size], self.left[begin : self.size], self.right[begin : self.size] = count, left, right
        return np.arange(begin, self.size, dtype=np.int32)

    def find_count(self, rank: int) -> int:
        """Return the count of the pair at `rank` in the order of decreasing counts; rank 1 is the most frequent pair."""
        rank = min(rank, self.size)
        return int(np.partition(self.count[: self.size], self.size - rank)[self.size - rank])


class Merging:
    """State of the merging: one position for every byte of the pretokens, and the token that begins at each position."""

    def __init__(self, words: PretokenCounts, min_frequency: int):
        self.ages = Ages()
        self.parts: list[tuple[int, int]] = []
        """Left and right part of each merged token; the index is the token number minus NUM_BYTES."""
        self._min_frequency = max(1, min_frequency)
        self._pairs = Pairs()
        data = np.frombuffer(words.data, np.uint8)
        boundaries = np.flatnonzero(data == BOUNDARY)
        self._token = NUMBER_OF_BYTE[data]
        counts = np.append(0, words.counts)
        self._weight = np.repeat(counts.astype(np.min_scalar_type(counts.max())), np.append(1, np.diff(boundaries)))
        """Count of the pretoken that contains the position, shape (positions,)."""
        self._pair = np.append(self._assign_pair_ids(data), NO_PAIR)
        """Number of the pair (token, next token) at each position, shape (positions,); NO_PAIR if the pair is too rare."""
        self._num_merged = 0
        self._link_neighbors()

    def _assign_pair_ids(self, data: NDArray[np.uint8]) -> Integers:
        """Return the pair number of every position except the last, before anything is merged."""
        both = data[:-1].astype(np.uint16) << 8 | data[1:]
        counts = np.bincount(both, self._weight[:-1], minlength=2**16).astype(np.int64).reshape(NUM_BYTES, NUM_BYTES)
        counts[BOUNDARY] = counts[:, BOUNDARY] = 0
        left, right = np.nonzero(counts >= self._min_frequency)
        numbers = np.full((NUM_BYTES, NUM_BYTES), NO_PAIR, np.int32)
        numbers[left, right] = self._pairs.add(NUMBER_OF_BYTE[left], NUMBER_OF_BYTE[right], counts[left, right])
        return numbers.ravel()[both]

    def _link_neighbors(self) -> None:
        self._previous = np.arange(-1, len(self._token) - 1, dtype=np.int32)
        self._following = np.arange(1, len(self._token) + 1, dtype=np.int32)

    def _remove_merged_positions(self) -> None:
        places = np.flatnonzero(self._token != MERGED)
        self._token, self._weight, self._pair = self._token.take(places), self._weight.take(places), self._pair.take(places)
        self._num_merged = 0
        self._link_neighbors()

    def run(self, num_merges: int) -> None:
        """Make at least `num_merges` merges, or all possible ones if there are fewer."""
        while (made := len(self.parts)) < num_merges and self._pairs.find_count(1) >= self._min_frequency:
            if self._num_merged > MAX_MERGED_SHARE * len(self._token):
                self._remove_merged_positions()
            further = min(max(FIRST_MERGES, made), num_merges - made)
            self._merge_down_to(max(self._pairs.find_count(further), self._min_frequency))

    def _merge_down_to(self, bound: int) -> None:
        """Merge all pairs that occur at least `bound` times, including new pairs that these merges create."""
        places = np.flatnonzero((self._pairs.count >= bound).take(self._pair))
        pair = self._pair.take(places)
        while len(places):
            is_beaten = np.zeros(self._pairs.size, bool)
            is_beaten[pair.compress(self._has_better_neighbor(places, pair))] = True
            is_peak = ~is_beaten.take(pair)
            if not is_peak.any():
                is_peak = pair == self._find_first_pair(pair)
            new_places, new_pair = self._merge(places.compress(is_peak), pair.compress(is_peak), bound)
            is_left = ~is_peak & (self._pair.take(places) == pair) & (self._pairs.count.take(pair) >= bound)
            places = np.concatenate([places.compress(is_left), new_places])
            pair = np.concatenate([pair.compress(is_left), new_pair])
        self.ages.order_tokens()

    def _has_better_neighbor(self, places: Integers, pair: Integers) -> NDArray[np.bool_]:
        """Return True for each position (shape (places,)) whose pair overlaps a pair that is or may be merged earlier."""
        count = self._pairs.count.take(pair)
        comes_second = np.zeros(len(places), bool)
        for neighbor in (self._previous, self._following):
            other = self._pair.take(neighbor.take(places))
            surplus = self._pairs.count.take(other) - count
            comes_second |= surplus > 0
            equal = np.flatnonzero((surplus == 0) & (other != pair))
            comes_second[equal] |= ~self._has_older_tokens(pair[equal], other[equal])
        return comes_second

    def _has_older_tokens(self, pair: Integers, other: Integers) -> NDArray[np.bool_]:
        """Return True for each `pair` that is certainly merged before its equally frequent `other`. All shapes are (pairs,)."""
        left, right, age = self._pairs.left, self._pairs.right, self.ages.of
        return (age[left[pair]] < age[left[other]]) | ((left[pair] == left[other]) & (age[right[pair]] < age[right[other]]))

    def _find_first_pair(self, pair: Integers) -> int:
        """Return the number of the most frequent pair that is merged first; used when no pair is known to be a peak."""
        count = self._pairs.count[pair]
        equal = np.flatnonzero(np.bincount(pair[count == count.max()]))
        tokens = list(zip(self._pairs.left[equal].tolist(), self._pairs.right[equal].tolist(), strict=True))
        return int(equal[self.ages.find_first(tokens, int(count.max()))])

    def _merge(self, places: Integers, pair: Integers, bound: int) -> tuple[Integers, Integers]:
        """Merge the pairs at all their positions. Return the new pairs whose count reaches the bound, as `_add_pairs` returns them.

        `places` are all positions of these pairs and `pair` their pair numbers, both of shape (places,).
        """
        count = self._pairs.count
        merged = np.flatnonzero(np.bincount(pair))
        first = NUM_BYTES + len(self.parts)
        parts = list(zip(self._pairs.left[merged].tolist(), self._pairs.right[merged].tolist(), strict=True))
        self.ages.add(parts, count[merged], first)
        self.parts += parts
        new_token = np.zeros(self._pairs.size, np.int32)
        new_token[merged] = np.arange(first, first + len(merged))

        places, pair = self._drop_overlaps(places, pair)
        token, weight = new_token.take(pair), self._weight.take(places).astype(np.int64)
        before, taken = self._previous.take(places), self._following.take(places)
        after = self._following.take(taken)
        np.subtract.at(count, self._pair.take(taken), weight)
        self._pair[taken] = NO_PAIR
        np.subtract.at(count, self._pair.take(before), weight)
        count[merged] = count[NO_PAIR] = 0
        self._token[places], self._token[taken] = token, MERGED
        self._following[places], self._previous[after] = after, places
        self._num_merged += len(taken)

        left, right = self._token.take(before), self._token.take(after)
        self._pair[places] = NO_PAIR
        is_inside = np.concatenate([left, right]) >= 0
        places, left, right, weight = (
            np.concatenate(columns).compress(is_inside)
            for columns in ((before, places), (left, token), (token, right), (weight, weight))
        )
        return self._add_pairs(places, left, right, weight, bound)

    def _drop_overlaps(self, places: Integers, pair: Integers) -> tuple[Integers, Integers]:
        """Return `places` and `pair` without overlaps: in a run of one token (aaaa) only every second pair (a, a) is kept."""
        is_twin = (self._pairs.left == self._pairs.right).take(pair)
        if not is_twin.any():
            return places, pair
        twins = np.sort(places.compress(is_twin))
        index = np.arange(len(twins))
        begins = np.append(True, self._following[twins[:-1]] != twins[1:])
        is_second = (index - np.maximum.accumulate(np.where(begins, index, 0))) % 2 == 1
        places = np.concatenate([places.compress(~is_twin), twins.compress(~is_second)])
        return places, self._pair.take(places)

    def _add_pairs(
        self, places: Integers, left: Integers, right: Integers, weight: Integers, bound: int
    ) -> tuple[Integers, Integers]:
        """Add the new pairs at the positions `places`. Return positions and pair numbers of those that reach the bound.

        All arrays have shape (places,). None of the pairs existed before.
        """
        order = sort_pairs(left, right)
        places, left, right = places.take(order), left.take(order), right.take(order)
        begins = np.flatnonzero(np.append(True, (left[1:] != left[:-1]) | (right[1:] != right[:-1]))[: len(places)])
        count = np.add.reduceat(weight.take(order), begins) if len(begins) else weight
        is_kept = count >= self._min_frequency
        kept = begins[is_kept]
        numbers = np.full(len(begins), NO_PAIR, np.int32)
        numbers[is_kept] = self._pairs.add(left[kept], right[kept], count[is_kept])
        lengths = np.diff(np.append(begins, len(places)))
        pair = np.repeat(numbers, lengths)
        self._pair[places] = pair
        reaches = np.repeat(count >= bound, lengths)
        return places.compress(reaches), pair.compress(reaches)


def sort_pairs(left: Integers, right: Integers) -> Integers:
    """Return indices that sort the pairs, shape (pairs,). Numpy sorts 16-bit keys by radix, many times faster than wider ones."""
    return np.lexsort(
        [digits for tokens in (right, left) for digits in (tokens.astype(np.uint16), (tokens >> 16).astype(np.uint16))]
    )


NUMBER_OF_BYTE = np.array(
    [NO_TOKEN if byte == BOUNDARY else list(make_byte_alphabet()).index(CHARACTER_OF_BYTE[byte]) for byte in range(NUM_BYTES)],
    np.int32,
)
