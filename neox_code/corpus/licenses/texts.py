"""Recognize the licenses whose texts stand in a license file: one, or several below each other.

    find_license_texts(text).names             ("BSD-3-Clause", "Apache-2.0", "MIT")

Known texts are choosealicense.com's, from the library `identify`. A known text is searched by its runs of RUN words: the runs that
a file shares with it, at about the same distance from each other, bound a window of the file; the window is the license where it
has SAME_LICENSE of its words in common with it. Words outside of all windows, and words that were put into one, are the rest: they
state who holds rights, which part is under which text, or restrict what the text permits.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from identify.vendor.licenses import LICENSES

from neox_code.corpus.licenses.headers import MARKS_OF_COMMENTS, parse_expression

SAME_LICENSE = 0.92
"""Share of words in common (Dice's coefficient of the multisets) from which a window is a license: names and years differ."""

RUN = 4
LONGEST_INSERTION = 30
"""Words, and a tenth of the license: how far a known text may be stretched or shortened and still be searched as one."""
MOST_TEXTS = 32
STRAY_DISTANCE, STRAY_RUNS = 6, 8
"""Fewer runs than this, further from the others than so many words, do not widen a window."""

WORD = re.compile(r"[a-z0-9]+")
COPYRIGHT_LINE = re.compile(
    r"^[^\w\n]*(?:copyright[ \t,:]*(?:\(c\)|©|\d{4}|[\[<{]|by\b|holders?:)|\(c\)[ \t]*(?:copyright|\d{4})|©).*$",
    re.IGNORECASE | re.MULTILINE,
)
WITHOUT_APPENDIX = {"Apache-2.0": "APPENDIX", "GPL-2.0": "How to Apply", "GPL-3.0": "How to Apply", "LGPL-2.1": "How to Apply"}
"""Licenses that are often distributed without what follows these words."""


@dataclass(frozen=True)
class KnownText:
    name: str
    words: tuple[str, ...]
    counts: Counter[str]


@dataclass(frozen=True)
class TextsFound:
    names: tuple[str, ...]
    """SPDX identifiers in the order of their texts; one that stands there twice is named twice."""
    first_word: int
    """The number of words before the first text."""
    before: str
    """What stands before the second text and no text accounts for, in small letters; a bar stands between separate spans."""
    after: str
    """Other such spans, and the lines of copyright."""

    @property
    def rest(self) -> str:
        return f"{self.before}|{self.after}"


@dataclass(frozen=True)
class Window:
    name: str
    start: int
    end: int
    matched: frozenset[int]
    """The positions of the words between `start` and `end` that belong to a run of the known text."""
    score: float
    gain: int
    """Words in common minus words that only the window or only the known text has."""


def find_license_texts(text: str) -> TextsFound:
    lower = text.lower()
    blanked = COPYRIGHT_LINE.sub(lambda line: " " * len(line[0]), lower)
    places = [match.span() for match in WORD.finditer(blanked)] if len(blanked) == len(lower) else []
    words = [lower[start:end] for start, end in places]
    windows = disjoint_windows(words)
    matched = frozenset[int]().union(*(window.matched for window in windows))
    second = windows[1].start if len(windows) > 1 else len(words)
    holders = [line[0] for line in COPYRIGHT_LINE.finditer(lower)]
    before, after = (spans_outside(lower, places, matched, *limits) for limits in ((0, second), (second, len(words))))
    names, first = tuple(window.name for window in windows), windows[0].start if windows else len(words)
    return TextsFound(names, first, before, "|".join((after, *map(plain, holders))))


def disjoint_windows(words: Sequence[str]) -> list[Window]:
    """Return the windows that account best for what they cover, in their order, the best one chosen first."""
    places = defaultdict[int, list[tuple[int, int]]](list)
    for position in range(len(words) - RUN + 1):
        for license_index, known_position in runs_of_known_texts().get(tuple(words[position : position + RUN]), ()):
            places[license_index].append((position, known_position))
    candidates = {index: window_of(words, known_texts()[index], found) for index, found in places.items()}
    chosen: list[Window] = []
    is_taken = bytearray(len(words) + RUN)
    while len(chosen) < MOST_TEXTS:
        good = [window for window in candidates.values() if window is not None and window.score >= SAME_LICENSE]
        if not good:
            break
        best = max(good, key=lambda window: (window.gain, -window.start, window.name))
        chosen.append(best)
        is_taken[max(best.start - RUN + 1, 0) : best.end] = b"\1" * (best.end - max(best.start - RUN + 1, 0))
        for index, window in candidates.items():
            if window is not None and window.start < best.end and best.start < window.end:
                places[index] = [place for place in places[index] if not is_taken[place[0]]]
                candidates[index] = window_of(words, known_texts()[index], places[index])
    return sorted(chosen, key=lambda window: window.start)


def window_of(words: Sequence[str], known: KnownText, places: Sequence[tuple[int, int]]) -> Window | None:
    """Return where the known text would lie in the words, given the places (position there, position in it) of shared runs."""
    slack = LONGEST_INSERTION + len(known.words) // 10
    known_runs = defaultdict[int, set[int]](set)
    for position, known_position in places:
        bucket = (position - known_position) // slack
        known_runs[bucket].add(known_position)
        known_runs[bucket - 1].add(known_position)
    best = max(known_runs, key=lambda bucket: (len(known_runs[bucket]), -bucket), default=0)
    if len(known_runs[best]) < len(known.words) // 2:
        return None
    positions = [position for position, known_position in places if best <= (position - known_position) // slack <= best + 1]
    near = without_stray_ends(sorted(positions))
    start, end = near[0], near[-1] + RUN
    counts = Counter(words[start:end])
    shared = (counts & known.counts).total()
    total = end - start + len(known.words)
    matched = frozenset(position + offset for position in near for offset in range(RUN))
    return Window(known.name, start, end, matched, 2 * shared / total, 3 * shared - total)


def without_stray_ends(positions: Sequence[int]) -> Sequence[int]:
    """Return the positions without the few at either end that are far from the others: phrases that many texts share.

    >>> without_stray_ends([1, 2, 90, *range(100, 108), 200])
    [100, 101, 102, 103, 104, 105, 106, 107]
    """
    clusters = [[positions[0]]]
    for position in positions[1:]:
        if position - clusters[-1][-1] > STRAY_DISTANCE:
            clusters.append([])
        clusters[-1].append(position)
    while len(clusters) > 1 and len(clusters[0]) < STRAY_RUNS:
        del clusters[0]
    while len(clusters) > 1 and len(clusters[-1]) < STRAY_RUNS:
        del clusters[-1]
    return [position for cluster in clusters for position in cluster]


def spans_outside(text: str, places: Sequence[tuple[int, int]], matched: frozenset[int], start: int, end: int) -> str:
    """Return the spans of text between the words `start` and `end` whose words are not matched."""
    spans, begin = [], None
    for position in range(start, end + 1):
        if position < end and position not in matched:
            begin = position if begin is None else begin
        elif begin is not None:
            spans.append(plain(text[places[begin][0] : places[position - 1][1]]))
            begin = None
    return "|".join(spans)


def plain(text: str) -> str:
    """Return a text without marks of comments, with single spaces."""
    return " ".join(text.replace("|", " ").translate(MARKS_OF_COMMENTS).split())


@cache
def known_texts() -> tuple[KnownText, ...]:
    texts = list(LICENSES) + [
        (name, text.partition(WITHOUT_APPENDIX[name])[0]) for name, text in LICENSES if name in WITHOUT_APPENDIX
    ]
    return tuple(known_text(name, text) for name, text in texts)


def known_text(name: str, text: str) -> KnownText:
    words = tuple(WORD.findall(COPYRIGHT_LINE.sub("", text).lower()))
    return KnownText(parse_expression(name).render(), words, Counter(words))  # type: ignore[union-attr]


@cache
def runs_of_known_texts() -> dict[tuple[str, ...], list[tuple[int, int]]]:
    """Return for each run of words the known texts (their number) and the positions where it stands."""
    runs = defaultdict[tuple[str, ...], list[tuple[int, int]]](list)
    for index, known in enumerate(known_texts()):
        for position in range(len(known.words) - RUN + 1):
            runs[known.words[position : position + RUN]].append((index, position))
    return dict(runs)
