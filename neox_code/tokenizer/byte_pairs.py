"""Byte-pair encoding in numpy: the merges of words that occur so often, many merges at a time.

    words = Words(b"\\xff the\\xff then\\xff", np.array([7, 2]))
    merges_of_words(words, num_merges=3, min_frequency=2)                # [("h", "e"), ("t", "he"), ("Ġ", "the")]

The rule is that of the tokenizers library: of all pairs of neighboring tokens merge the one that occurs most often, among equals
the one whose left token is the oldest, and then whose right token is; and again. Bytes come before what is merged, in the order of
the characters that spell them.

A pair loses occurrences only to pairs that overlap it and come first. What lies beside a token later begins or ends with what lies
there now, and so occurs no more often beside it. A pair that comes before every pair that overlaps it, a *peak*, is therefore
merged in the end with the occurrences that it has now, whatever comes before it elsewhere. So all peaks are merged at once, then
the peaks that this leaves, and so on among the pairs that occur at least so often, a bound that is lowered step by step. In which
order one merge at a time would have made the tokens follows from their counts: `Ages`.

No token is made in two ways, (a, bc) and (ab, c): where nothing is merged across its ends, its bytes alone decide.

Memory: 20 bytes for every byte of the distinct words, and as much again while it works. Numpy's `take` and `compress` are used
where an index or a mask in brackets takes several times as long.
"""

from collections.abc import Sequence
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from neox_code.tokenizer.byte_level import CHARACTER_OF_BYTE, byte_alphabet
from neox_code.tokenizer.word_counting import SEPARATOR
from neox_code.tokenizer.words import Words

Merges = list[tuple[str, str]]
Integers = NDArray[np.integer]

NUM_BYTES = 256
BOUNDARY = SEPARATOR[0]
NO_TOKEN = -1
"""At a boundary."""
MERGED = -2
"""At a place whose token was merged into the one before."""
NO_PAIR = 0
UNSETTLED = 2**62
FIRST_MERGES = 16
"""So many has the first bound; each further one as many as are made."""
MOST_MERGED = 0.25
"""With a larger share of merged places the others move together."""


def merges_of_words(words: Words, num_merges: int, min_frequency: int) -> Merges:
    """At most so many merges, first to last. Pairs that occur fewer than `min_frequency` times are not merged."""
    merging = Merging(words, min_frequency)
    merging.run(num_merges)
    spelled = list(byte_alphabet())
    for left, right in merging.parts:
        spelled.append(spelled[left] + spelled[right])
    order = [merging.parts[token - NUM_BYTES] for token in merging.ages.order[:num_merges]]
    return [(spelled[left], spelled[right]) for left, right in order]


class Ages:
    """In which order one merge at a time makes the tokens: the oldest first.

    The age of a token is its place in that order once it is settled, and UNSETTLED less its count before: a token that occurs
    more often is older. Of two tokens with the same age nobody knows yet.
    """

    def __init__(self) -> None:
        self.of: NDArray[np.int64] = np.arange(NUM_BYTES)
        self.order: list[int] = []
        """The merged tokens that are settled."""
        self._next: list[tuple[int, int, int, int]] = []
        """Of tokens with both parts settled: count (negative), ages of the parts, token."""
        self._waiting: dict[int, list[tuple[int, int, int, int]]] = {}
        """By a part that is not settled: count, parts, token."""

    def add(self, parts: Sequence[tuple[int, int]], counts: NDArray[np.int64], first: int) -> None:
        """Takes tokens with the numbers from `first` on."""
        while first + len(parts) > len(self.of):
            self.of = np.concatenate([self.of, np.zeros_like(self.of)])
        self.of[first : first + len(parts)] = UNSETTLED - counts
        for token, (left, right), count in zip(range(first, first + len(parts)), parts, counts.tolist(), strict=True):
            self._take(count, left, right, token)

    def is_settled(self, token: int) -> bool:
        return bool(self.of[token] < 2**32)

    def settle(self, above: int = 0) -> None:
        """Settles the tokens that occur more often than `above`. What else occurs as often must have been added."""
        while self._next and -self._next[0][0] > above:
            self._settle_next()

    def first_of(self, pairs: Sequence[tuple[int, int]], count: int) -> int:
        """The index of the pair that is merged first of these, which all occur `count` times, the most of all that do not yet."""
        self.settle(above=count)
        while True:
            ready = [
                (-count, int(self.of[left]), int(self.of[right]), index)
                for index, (left, right) in enumerate(pairs)
                if self.is_settled(left) and self.is_settled(right)
            ]
            if ready and (not self._next or min(ready) < self._next[0]):
                return min(ready)[3]
            self._settle_next()

    def _take(self, count: int, left: int, right: int, token: int) -> None:
        for part in (left, right):
            if not self.is_settled(part):
                self._waiting.setdefault(part, []).append((count, left, right, token))
                return
        heappush(self._next, (-count, int(self.of[left]), int(self.of[right]), token))

    def _settle_next(self) -> None:
        token = heappop(self._next)[3]
        self.of[token] = NUM_BYTES + len(self.order)
        self.order.append(token)
        for entry in self._waiting.pop(token, ()):
            self._take(*entry)


class Pairs:
    """Kinds of pairs by number: tokens and count. NO_PAIR is no pair, and its count 0."""

    def __init__(self) -> None:
        self.size = 1
        self.count = np.zeros(2**16, np.int64)
        self.left = np.zeros(2**16, np.int32)
        self.right = np.zeros(2**16, np.int32)

    def add(self, left: Integers, right: Integers, count: Integers) -> Integers:
        """Returns their numbers."""
        begin, self.size = self.size, self.size + len(count)
        if self.size > len(self.count):
            self.count, self.left, self.right = (
                np.concatenate([column, np.zeros(self.size, column.dtype)]) for column in (self.count, self.left, self.right)
            )
        self.count[begin : self.size], self.left[begin : self.size], self.right[begin : self.size] = count, left, right
        return np.arange(begin, self.size, dtype=np.int32)

    def largest_count(self, rank: int) -> int:
        """The count of the pair that so many pairs, itself included, have or exceed."""
        rank = min(rank, self.size)
        return int(np.partition(self.count[: self.size], self.size - rank)[self.size - rank])


class Merging:
    """The words as they are merged: a place for every byte, and at a place the token that begins there."""

    def __init__(self, words: Words, min_frequency: int):
        self.ages = Ages()
        self.parts: list[tuple[int, int]] = []
        """Of the tokens that were merged, by number less NUM_BYTES."""
        self._min_frequency = max(1, min_frequency)
        self._pairs = Pairs()
        data = np.frombuffer(words.data, np.uint8)
        boundaries = np.flatnonzero(data == BOUNDARY)
        self._token = NUMBER_OF_BYTE[data]
        counts = np.append(0, words.counts)
        self._weight = np.repeat(counts.astype(np.min_scalar_type(counts.max())), np.append(1, np.diff(boundaries)))
        """How often the word occurs that the place is in."""
        self._pair = np.append(self._first_pairs(data), NO_PAIR)
        """What the token makes with the following one; NO_PAIR too where that occurs too rarely."""
        self._num_merged = 0
        self._link()

    def _first_pairs(self, data: NDArray[np.uint8]) -> Integers:
        """For every place but the last, where nothing is merged yet."""
        both = data[:-1].astype(np.uint16) << 8 | data[1:]
        counts = np.bincount(both, self._weight[:-1], minlength=2**16).astype(np.int64).reshape(NUM_BYTES, NUM_BYTES)
        counts[BOUNDARY] = counts[:, BOUNDARY] = 0
        left, right = np.nonzero(counts >= self._min_frequency)
        numbers = np.full((NUM_BYTES, NUM_BYTES), NO_PAIR, np.int32)
        numbers[left, right] = self._pairs.add(NUMBER_OF_BYTE[left], NUMBER_OF_BYTE[right], counts[left, right])
        return numbers.ravel()[both]

    def _link(self) -> None:
        self._previous = np.arange(-1, len(self._token) - 1, dtype=np.int32)
        self._following = np.arange(1, len(self._token) + 1, dtype=np.int32)

    def _leave_out_merged(self) -> None:
        places = np.flatnonzero(self._token != MERGED)
        self._token, self._weight, self._pair = self._token.take(places), self._weight.take(places), self._pair.take(places)
        self._num_merged = 0
        self._link()

    def run(self, num_merges: int) -> None:
        """Makes at least so many merges, or all that there are."""
        while (made := len(self.parts)) < num_merges and self._pairs.largest_count(1) >= self._min_frequency:
            if self._num_merged > MOST_MERGED * len(self._token):
                self._leave_out_merged()
            further = min(max(FIRST_MERGES, made), num_merges - made)
            self._merge_down_to(max(self._pairs.largest_count(further), self._min_frequency))

    def _merge_down_to(self, bound: int) -> None:
        """Merges all pairs that occur so often, and those that come into being with them."""
        places = np.flatnonzero((self._pairs.count >= bound).take(self._pair))
        pair = self._pair.take(places)
        while len(places):
            is_beaten = np.zeros(self._pairs.size, bool)
            is_beaten[pair.compress(self._comes_second(places, pair))] = True
            is_peak = ~is_beaten.take(pair)
            if not is_peak.any():
                is_peak = pair == self._first_of_equals(pair)
            new_places, new_pair = self._merge(places.compress(is_peak), pair.compress(is_peak), bound)
            is_left = ~is_peak & (self._pair.take(places) == pair) & (self._pairs.count.take(pair) >= bound)
            places = np.concatenate([places.compress(is_left), new_places])
            pair = np.concatenate([pair.compress(is_left), new_pair])
        self.ages.settle()

    def _comes_second(self, places: Integers, pair: Integers) -> NDArray[np.bool_]:
        """Whether the pair at each place overlaps one there that comes first, or may do so."""
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
        """Whether the first of two pairs comes before the other if both occur as often; no where that is not known yet."""
        left, right, age = self._pairs.left, self._pairs.right, self.ages.of
        return (age[left[pair]] < age[left[other]]) | ((left[pair] == left[other]) & (age[right[pair]] < age[right[other]]))

    def _first_of_equals(self, pair: Integers) -> int:
        """Of the pairs that occur most often, where none is known to be a peak, the one that is merged first."""
        count = self._pairs.count[pair]
        equal = np.flatnonzero(np.bincount(pair[count == count.max()]))
        tokens = list(zip(self._pairs.left[equal].tolist(), self._pairs.right[equal].tolist(), strict=True))
        return int(equal[self.ages.first_of(tokens, int(count.max()))])

    def _merge(self, places: Integers, pair: Integers, bound: int) -> tuple[Integers, Integers]:
        """Merges at these places, which hold these pairs and nothing else does; returns places with new pairs, as _pair_up."""
        count = self._pairs.count
        merged = np.flatnonzero(np.bincount(pair))
        first = NUM_BYTES + len(self.parts)
        parts = list(zip(self._pairs.left[merged].tolist(), self._pairs.right[merged].tolist(), strict=True))
        self.ages.add(parts, count[merged], first)
        self.parts += parts
        new_token = np.zeros(self._pairs.size, np.int32)
        new_token[merged] = np.arange(first, first + len(merged))

        places, pair = self._without_overlaps(places, pair)
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
        return self._pair_up(places, left, right, weight, bound)

    def _without_overlaps(self, places: Integers, pair: Integers) -> tuple[Integers, Integers]:
        """Of a token that follows itself more than once, (a, a) in aaaa, every second pair, from the left."""
        is_twin = (self._pairs.left == self._pairs.right).take(pair)
        if not is_twin.any():
            return places, pair
        twins = np.sort(places.compress(is_twin))
        index = np.arange(len(twins))
        begins = np.append(True, self._following[twins[:-1]] != twins[1:])
        is_second = (index - np.maximum.accumulate(np.where(begins, index, 0))) % 2 == 1
        places = np.concatenate([places.compress(~is_twin), twins.compress(~is_second)])
        return places, self._pair.take(places)

    def _pair_up(
        self, places: Integers, left: Integers, right: Integers, weight: Integers, bound: int
    ) -> tuple[Integers, Integers]:
        """Numbers and counts the pairs at these places, none of which was there before; returns those that reach the bound."""
        order = sorting(left, right)
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


def sorting(left: Integers, right: Integers) -> Integers:
    """Indices that bring equal pairs together. Numpy sorts 16 bits by their digits, many times faster than by comparing."""
    return np.lexsort(
        [digits for tokens in (right, left) for digits in (tokens.astype(np.uint16), (tokens >> 16).astype(np.uint16))]
    )


NUMBER_OF_BYTE = np.array(
    [NO_TOKEN if byte == BOUNDARY else list(byte_alphabet()).index(CHARACTER_OF_BYTE[byte]) for byte in range(NUM_BYTES)], np.int32
)
