"""Recognize the license texts in a file. A file may contain several, one after another.

    find_license_texts(text).names             ("BSD-3-Clause", "Apache-2.0", "MIT")

The known texts are those of choosealicense.com, from the library `identify`. A known text is searched by its runs of RUN words.
Runs that occur in the file at about the same distances as in the known text mark a span of the file. The span matches if the share
of words that it has in common with the known text is SAME_LICENSE or more. The other words are the rest: words outside of all
matches, and words inserted into a match. They name copyright holders, assign texts to parts of the project, or restrict the
permissions.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from identify.vendor.licenses import LICENSES

from neox_code.corpus.licenses.notices import MARKS_OF_COMMENTS, parse_expression

SAME_LICENSE = 0.92
"""Minimum share of words that a span has in common with a known text (Dice's coefficient). Names and years may differ."""

RUN = 4
LONGEST_INSERTION = 30
"""Maximum number of inserted or missing words in a match. A tenth of the known text's length is added to it."""
MOST_TEXTS = 32
STRAY_DISTANCE, STRAY_RUNS = 6, 8
"""Runs more than STRAY_DISTANCE words away from the others do not extend a match, if they are fewer than STRAY_RUNS."""

WORD = re.compile(r"[a-z0-9]+")
COPYRIGHT_LINE = re.compile(
    r"^[^\w\n]*(?:copyright[ \t,:]*(?:\(c\)|©|\d{4}|[\[<{]|by\b|holders?:)|\(c\)[ \t]*(?:copyright|\d{4})|©).*$",
    re.IGNORECASE | re.MULTILINE,
)
WITHOUT_APPENDIX = {"Apache-2.0": "APPENDIX", "GPL-2.0": "How to Apply", "GPL-3.0": "How to Apply", "LGPL-2.1": "How to Apply"}
"""License -> words that begin the appendix of its text. Many files leave the appendix out."""


@dataclass(frozen=True)
class KnownText:
    name: str
    words: tuple[str, ...]
    counts: Counter[str]


@dataclass(frozen=True)
class TextsFound:
    names: tuple[str, ...]
    """SPDX identifiers in the order of their texts; a repeated text is named twice."""
    first_word: int
    """Number of words before the first license text."""
    before: str
    """Words before the second license text that match no known text, in lower case; "|" separates spans."""
    after: str
    """Words after the start of the second license text that match no known text, and all copyright lines."""

    @property
    def rest(self) -> str:
        return f"{self.before}|{self.after}"


@dataclass(frozen=True)
class TextMatch:
    name: str
    start: int
    end: int
    matched: frozenset[int]
    """Positions of the words between `start` and `end` that are in runs of the known text."""
    score: float
    gain: int
    """Number of words in common, minus the number of words that are only in the match or only in the known text."""


def find_license_texts(text: str) -> TextsFound:
    """Return the known license texts in a text, and the words outside of them."""
    lower = text.lower()
    blanked = COPYRIGHT_LINE.sub(lambda line: " " * len(line[0]), lower)
    places = [match.span() for match in WORD.finditer(blanked)] if len(blanked) == len(lower) else []
    words = [lower[start:end] for start, end in places]
    matches = find_matches(words)
    matched = frozenset[int]().union(*(match.matched for match in matches))
    second = matches[1].start if len(matches) > 1 else len(words)
    holders = [line[0] for line in COPYRIGHT_LINE.finditer(lower)]
    before, after = (join_unmatched_spans(lower, places, matched, *limits) for limits in ((0, second), (second, len(words))))
    names, first = tuple(match.name for match in matches), matches[0].start if matches else len(words)
    return TextsFound(names, first, before, "|".join((after, *map(strip_comment_marks, holders))))


def find_matches(words: Sequence[str]) -> list[TextMatch]:
    """Return matches in the order of the text. Of matches that overlap, the one with the largest gain is chosen."""
    places = defaultdict[int, list[tuple[int, int]]](list)
    for position in range(len(words) - RUN + 1):
        for license_index, known_position in index_known_runs().get(tuple(words[position : position + RUN]), ()):
            places[license_index].append((position, known_position))
    candidates = {index: match_text(words, load_known_texts()[index], found) for index, found in places.items()}
    chosen: list[TextMatch] = []
    is_taken = bytearray(len(words) + RUN)
    while len(chosen) < MOST_TEXTS:
        good = [match for match in candidates.values() if match is not None and match.score >= SAME_LICENSE]
        if not good:
            break
        best = max(good, key=lambda match: (match.gain, -match.start, match.name))
        chosen.append(best)
        is_taken[max(best.start - RUN + 1, 0) : best.end] = b"\1" * (best.end - max(best.start - RUN + 1, 0))
        for index, match in candidates.items():
            if match is not None and match.start < best.end and best.start < match.end:
                places[index] = [place for place in places[index] if not is_taken[place[0]]]
                candidates[index] = match_text(words, load_known_texts()[index], places[index])
    return sorted(chosen, key=lambda match: match.start)


def match_text(words: Sequence[str], known: KnownText, places: Sequence[tuple[int, int]]) -> TextMatch | None:
    """Return the span of `words` that matches the known text best; None if too few runs are shared.

    `places` are the shared runs: (position in `words`, position in the known text).
    """
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
    near = drop_stray_positions(sorted(positions))
    start, end = near[0], near[-1] + RUN
    counts = Counter(words[start:end])
    shared = (counts & known.counts).total()
    total = end - start + len(known.words)
    matched = frozenset(position + offset for position in near for offset in range(RUN))
    return TextMatch(known.name, start, end, matched, 2 * shared / total, 3 * shared - total)


def drop_stray_positions(positions: Sequence[int]) -> Sequence[int]:
    """Remove small groups of positions at both ends that are far from the others. Such groups are phrases in many license texts.

    >>> drop_stray_positions([1, 2, 90, *range(100, 108), 200])
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


def join_unmatched_spans(text: str, places: Sequence[tuple[int, int]], matched: frozenset[int], start: int, end: int) -> str:
    """Return the unmatched words from number `start` to `end`, with "|" between spans. `places` are the words' (start, end)."""
    spans, begin = [], None
    for position in range(start, end + 1):
        if position < end and position not in matched:
            begin = position if begin is None else begin
        elif begin is not None:
            spans.append(strip_comment_marks(text[places[begin][0] : places[position - 1][1]]))
            begin = None
    return "|".join(spans)


def strip_comment_marks(text: str) -> str:
    """Return the text without comment marks, with single spaces."""
    return " ".join(text.replace("|", " ").translate(MARKS_OF_COMMENTS).split())


@cache
def load_known_texts() -> tuple[KnownText, ...]:
    texts = list(LICENSES) + [
        (name, text.partition(WITHOUT_APPENDIX[name])[0]) for name, text in LICENSES if name in WITHOUT_APPENDIX
    ]
    return tuple(make_known_text(name, text) for name, text in texts)


def make_known_text(name: str, text: str) -> KnownText:
    words = tuple(WORD.findall(COPYRIGHT_LINE.sub("", text).lower()))
    return KnownText(parse_expression(name).render(), words, Counter(words))  # type: ignore[union-attr]


@cache
def index_known_runs() -> dict[tuple[str, ...], list[tuple[int, int]]]:
    """Return run of words -> all its occurrences in known texts: (index of the text, position in the text)."""
    runs = defaultdict[tuple[str, ...], list[tuple[int, int]]](list)
    for index, known in enumerate(load_known_texts()):
        for position in range(len(known.words) - RUN + 1):
            runs[known.words[position : position + RUN]].append((index, position))
    return dict(runs)
