"""Overlap with benchmarks: drop a file that shares words with a benchmark's task, solution or test.

    BenchmarkOverlap()                                                          the benchmarks of tests/known_benchmarks.py
    BenchmarkOverlap((Benchmark("APPS", "apps.jsonl.gz", ("question", "solutions")),))    also the texts of a JSON Lines file

A word is a run of letters, digits, `_` and non-ASCII characters, in lower case. Blanks, line ends and punctuation are ignored.
Escapes of JSON strings (`\\n`, `\\t`, `\\u00e9`) and entities of HTML are decoded first, to find copies in notebooks and web pages.

There are three ways to find a benchmark's text in a file:
1. The file contains 13 consecutive distinctive words of the text (a run). Distinctive means that at least 7 words have a letter, at
   least 3 of these have two characters or more, and at most one word is `import`, `include`, `use` or `using`.
2. If the text has no such run, because it is shorter or mostly numbers: the file contains all words of the text in order. Of a
   text of more than 32 words, the 32 words around its rarest word suffice.
3. If the text is too short for this, such as `return a * h / 2` (FEWEST_WORDS and the constants after it define the limits): the
   longest line of the text is a whole line of the file.

known_benchmarks.npz, made by tests/known_benchmarks.py, contains the words of the known benchmarks, 64-bit hashes of their runs,
and the lines of their short texts.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
import xxhash

from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.sources.compressed import DAMAGED, describe_error, open_decompressed
from neox_code.errors import DataError

KNOWN = Path(__file__).with_name("known_benchmarks.npz")
RUN = 13
"""Number of words in a run, as for GPT-3 (Brown et al. 2020, appendix C)."""
WORDS_WITH_LETTERS = 7
LONGER_WORDS = 3
"""Minimum number of words in a run that have a letter and two characters or more. The limit excludes `a b c d` and `n n 1 n`."""
MAX_IMPORTS = 1
IMPORTS = frozenset({b"import", b"include", b"use", b"using"})
FEWEST_WORDS, FEWEST_CHARACTERS, CHARACTERS_OF_FEW_WORDS = 4, 13, 20
"""Limits for a text that is searched by all of its words: minimum number of words, of characters in its different words, and of
characters in all its words. The text must reach the first limit, and one of the other two."""
LONGEST_WHOLE = 32
COMMON_WORD, FEWEST_COMMON_WORDS = 50, 3
"""A word is common if more than COMMON_WORD texts have it. A text of only common words, such as `assert f(90) == [81, 9]`,
identifies a benchmark if it has at least FEWEST_COMMON_WORDS different words with a letter."""

FEWEST_WORDS_OF_LINE, FEWEST_CHARACTERS_OF_LINE = 3, 9
"""Minimum number of words, and of characters without blanks, of a line that is searched."""
LINE_END = r"(?=;?[ \t]*(?:[\r\n\"]|\\[rn]|$))"
LINE_STARTS = ("\n", "\r", '"', r"\n", r"\r", r"\t")
"""Characters that may stand before a line and its indentation. In a JSON string, line ends and tabs are escapes."""
LONGEST_INDENTATION = 64

LETTER = re.compile(rb"[^0-9_]")
LOWER_CASE_WORDS = bytes(byte if chr(byte).isalnum() or chr(byte) == "_" or byte >= 128 else 32 for byte in range(256)).lower()
BLANK_ESCAPE = re.compile(rb"\\[nrt]")
UNICODE_ESCAPES = re.compile(rb"\\(?<!\\\\)\\*+u[0-9a-fA-F]{4}(?:\\++u[0-9a-fA-F]{4})*")
"""Escapes such as `\\u00e9`. A match begins at the first of several backslashes, as trying each would take quadratic time."""
ENTITY = re.compile(rb"&(?:lt|gt|amp|quot|apos|nbsp|#[0-9]{1,6}|#x[0-9a-fA-F]{1,5});")

IN_RUN, IN_WHOLE, BEFORE, AFTER, MOST_AROUND = 1, 2, 2, 5, 7
"""Bits of the byte that describes a word. IN_RUN: it is in a run. IN_WHOLE: it is in a text that is searched by all of its words.
An anchor (see Index) also has the minimum number of words before it (3 bits from bit BEFORE) and after it (3 bits from bit AFTER),
at most MOST_AROUND each."""
IS_IN_RUN = bytes(kind & IN_RUN for kind in range(256))
IS_IN_WHOLE = bytes(kind & IN_WHOLE for kind in range(256))
ALL_IN_RUN, ALL_IN_WHOLE = bytes([IN_RUN]) * RUN, bytes([IN_WHOLE]) * FEWEST_WORDS


@dataclass(frozen=True)
class Benchmark:
    name: str
    path: str
    """Path of a JSON Lines file, compressed or not."""
    keys: tuple[str, ...]
    """Keys of a row whose values are compared with files. A value is a text or a list of texts, which are compared one by one."""


@dataclass(frozen=True)
class Index:
    """The runs, texts and lines by which benchmarks are found in files. A whole text is one that is searched by all its words."""

    words: frozenset[bytes]
    """The words of all runs."""
    whole_words: frozenset[bytes]
    """The words of all whole texts."""
    places: dict[bytes, tuple[tuple[int, int], ...]]
    """Anchor (the rarest word of a whole text) -> for each text with this anchor: words before the anchor, words in all."""
    names: dict[int, str]
    """Hash of a run or of a whole text -> name of its benchmark; of several benchmarks, the first."""
    lines: dict[str, str]
    """Longest line of a text that is too short for a run -> name of its benchmark; of several benchmarks, the first."""

    @cached_property
    def kinds(self) -> dict[bytes, int]:
        kinds = dict.fromkeys(self.words, IN_RUN)
        kinds.update((word, kinds.get(word, 0) | IN_WHOLE) for word in self.whole_words)
        for anchor, places in self.places.items():
            kinds[anchor] |= min(MOST_AROUND, *(before for before, _ in places)) << BEFORE
            kinds[anchor] |= min(MOST_AROUND, *(length - 1 - before for before, length in places)) << AFTER
        return kinds

    @cached_property
    def line_patterns(self) -> list[re.Pattern[str]]:
        """One pattern for all lines with the same first word, as a pattern with a literal prefix is searched fast."""
        with_first_word: defaultdict[str, list[str]] = defaultdict(list)
        for line in self.lines:
            with_first_word[line.split(" ")[0]].append(re.escape(line).replace('"', r'\\?"'))
        return [re.compile(f"(?:{'|'.join(some)}){LINE_END}") for some in with_first_word.values()]

    def find_benchmark(self, text: str) -> str | None:
        """Return the name of the benchmark that a text overlaps with; None if there is none."""
        words, names, places = split_words(text), self.names, self.places
        # most words are in no benchmark; only runs of words that are in one can match
        kinds = bytes(map(self.kinds.get, words, repeat(0)))
        for hashed in hash_known_runs(words, kinds.translate(IS_IN_RUN)):
            if hashed in names:
                return names[hashed]
        in_whole = kinds.translate(IS_IN_WHOLE)
        start = in_whole.find(ALL_IN_WHOLE)
        while start >= 0:
            end = in_whole.find(0, start)
            end = len(words) if end < 0 else end
            for anchor in range(start, end):
                around = kinds[anchor]
                if around > 3 and anchor - start >= around >> BEFORE & MOST_AROUND and end - 1 - anchor >= around >> AFTER:
                    for before, length in places[words[anchor]]:
                        first = anchor - before
                        if start <= first and first + length <= end:
                            hashed = hash_words(words[first : first + length])
                            if hashed in names:
                                return names[hashed]
            start = in_whole.find(ALL_IN_WHOLE, end)
        return self.find_line(text)

    def find_line(self, text: str) -> str | None:
        """Return the name of a benchmark that has a complete line of the text among its short lines; None if there is none."""
        for pattern in self.line_patterns:
            for found in pattern.finditer(text):
                before = text[max(0, found.start() - LONGEST_INDENTATION) : found.start()].rstrip(" \t")
                if not before or before.endswith(LINE_STARTS):
                    return self.lines[found[0].replace(r"\"", '"')]
        return None


@dataclass(frozen=True)
class BenchmarkOverlap:
    """
    >>> text = "Check if in given list of numbers, are any two numbers closer to each other than given threshold."
    >>> BenchmarkOverlap().keep(Candidate("x.py", "Python", 100, f"# {text}"))
    'overlaps with HumanEval'
    """

    benchmarks: tuple[Benchmark, ...] = ()
    known: bool = True
    """True: search for the known benchmarks, too."""
    name = "overlap with benchmarks"

    def keep(self, file: Candidate) -> Literal[True] | str:
        found = build_joint_index(self.benchmarks, self.known).find_benchmark(file.text)
        return True if found is None else f"overlaps with {found}"


def split_words(text: str) -> list[bytes]:
    """
    >>> split_words("def Add_1(a):  # Añade")
    [b'def', b'add_1', b'a', b'a\\xc3\\xb1ade']
    >>> split_words(r'"x = 1\\n", "# A\\u00f1ade \\\\"y\\\\""')
    [b'x', b'1', b'a\\xc3\\xb1ade', b'y']
    """
    encoded = text.encode("utf-8", "replace")
    if b"\\" in encoded:  # any number of backslashes counts as one blank
        encoded = UNICODE_ESCAPES.sub(decode_unicode_escapes, BLANK_ESCAPE.sub(b" ", encoded))
    if b"&" in encoded:
        encoded = ENTITY.sub(b" ", encoded)
    return encoded.translate(LOWER_CASE_WORDS).split()


def decode_unicode_escapes(found: re.Match[bytes]) -> bytes:
    """Return the characters of escaped UTF-16 code units (`\\u00e9`), encoded in UTF-8."""
    units = bytes.fromhex(found[0].replace(b"\\", b"").replace(b"u", b"").decode("ascii"))
    return units.decode("utf-16-be", "replace").encode("utf-8")


def hash_words(words: Sequence[bytes]) -> int:
    return xxhash.xxh3_64_intdigest(b" ".join(words))


def hash_known_runs(words: Sequence[bytes], is_known: bytes) -> Iterator[int]:
    """Yield the hash of each RUN consecutive words that a benchmark's run can contain.

    `is_known` has a byte for each word: IN_RUN (1) if some benchmark's run contains the word.
    """
    start = is_known.find(ALL_IN_RUN)
    while start >= 0:
        yield hash_words(words[start : start + RUN])
        start = is_known.find(ALL_IN_RUN, start + 1)


def is_distinctive(run: Sequence[bytes]) -> bool:
    """Return False for a run of words that unrelated texts can share by chance.

    >>> is_distinctive(split_words("def add(x: int, y: int): return x + y  # the sum of two"))
    True
    >>> is_distinctive(split_words("a b c d e f g h i j k l m"))
    False
    """
    with_letter = [word for word in run if LETTER.search(word)]
    return (
        len(with_letter) >= WORDS_WITH_LETTERS
        and sum(len(word) > 1 for word in with_letter) >= LONGER_WORDS
        and sum(word in IMPORTS for word in run) <= MAX_IMPORTS
    )


@cache
def build_joint_index(benchmarks: tuple[Benchmark, ...], known: bool) -> Index:
    return merge_indexes(([load_known_index()] if known else []) + [build_index(benchmark) for benchmark in benchmarks])


def merge_indexes(indexes: Iterable[Index]) -> Index:
    """Return the union of the indexes; a hash in several indexes keeps the name of the first."""
    words: set[bytes] = set()
    whole_words: set[bytes] = set()
    places: dict[bytes, tuple[tuple[int, int], ...]] = {}
    names: dict[int, str] = {}
    lines: dict[str, str] = {}
    for index in indexes:
        words |= index.words
        whole_words |= index.whole_words
        names = index.names | names
        lines = index.lines | lines
        for anchor, some in index.places.items():
            places[anchor] = tuple(sorted({*places.get(anchor, ()), *some}))
    return Index(frozenset(words), frozenset(whole_words), places, names, lines)


def build_index(benchmark: Benchmark) -> Index:
    texts = list(read_texts(benchmark))
    words = list(map(split_words, texts))
    runs = list(map(find_distinctive_runs, words))
    wholes = [(some, find_longest_line(text)) for text, some, own in zip(texts, words, runs, strict=True) if not own]
    return make_index(benchmark.name, runs, wholes, count_texts(words))


def find_longest_line(text: str) -> str:
    return max((line.strip("; \t") for line in text.splitlines()), key=len, default="")


def find_distinctive_runs(words: Sequence[bytes]) -> list[Sequence[bytes]]:
    runs = (words[start : start + RUN] for start in range(len(words) - RUN + 1))
    return [run for run in runs if is_distinctive(run)]


def count_texts(texts: Iterable[Sequence[bytes]]) -> Counter[bytes]:
    """Return word -> number of the texts that contain it."""
    return Counter(word for text in texts for word in set(text))


def make_index(
    name: str,
    runs: Iterable[Iterable[Sequence[bytes]]],
    wholes: Iterable[tuple[Sequence[bytes], str]],
    num_texts: Mapping[bytes, int],
) -> Index:
    """Return the index of a benchmark.

    `runs` has a list of word runs for each text that has runs. `wholes` has (all words, longest line) of each other text. A text of
    `wholes` is found by its rarest word, or by its line if the text is too short or too common and the line is long enough.
    `num_texts` maps a word to the number of texts that contain it.
    """
    words: set[bytes] = set()
    names: dict[int, str] = {}
    for of_text in runs:
        for run in of_text:
            words.update(run)
            names[hash_words(run)] = name
    lines_of: defaultdict[tuple[bytes, ...], set[str]] = defaultdict(set)
    for text, line in wholes:
        lines_of[tuple(text)].add(line)
    texts = sorted(filter(is_long_enough, lines_of))
    num_wholes = count_texts(texts)
    whole_words: set[bytes] = set()
    places: defaultdict[bytes, set[tuple[int, int]]] = defaultdict(set)
    for text in texts:
        is_poor, _, anchor = min(
            (len(word) < 3 or word.isdigit() or num_wholes[word] > COMMON_WORD, num_texts[word], place)
            for place, word in enumerate(text)
        )
        if is_poor and sum(LETTER.search(word) is not None for word in set(text)) < FEWEST_COMMON_WORDS:
            continue
        first = max(0, min(anchor - LONGEST_WHOLE // 2, len(text) - LONGEST_WHOLE))
        part = text[first : first + LONGEST_WHOLE]
        places[text[anchor]].add((anchor - first, len(part)))
        whole_words.update(part)
        names.setdefault(hash_words(part), name)
        del lines_of[text]
    lines = {line: name for some in lines_of.values() for line in some if is_line_long_enough(line)}
    sorted_places = {anchor: tuple(sorted(some)) for anchor, some in places.items()}
    return Index(frozenset(words), frozenset(whole_words), sorted_places, names, lines)


def is_long_enough(text: Sequence[bytes]) -> bool:
    characters, of_different = sum(map(len, text)), sum(map(len, set(text)))
    return len(text) >= FEWEST_WORDS and (of_different >= FEWEST_CHARACTERS or characters >= CHARACTERS_OF_FEW_WORDS)


def is_line_long_enough(line: str) -> bool:
    return len(split_words(line)) >= FEWEST_WORDS_OF_LINE and len("".join(line.split())) >= FEWEST_CHARACTERS_OF_LINE


def read_texts(benchmark: Benchmark) -> Iterator[str]:
    """Yield the texts of all rows. Raise DataError, with the line number, for a line that is not a JSON object or lacks a text."""
    number, path = 0, Path(benchmark.path)
    if not path.is_file():
        raise DataError(f"benchmark {path} does not exist. Give a file of JSON Lines, compressed or not.")
    try:
        with open_decompressed(path) as (lines, _):
            for number, line in enumerate(lines, 1):  # noqa: B007 - the error has it
                if line.strip():
                    row = orjson.loads(line)
                    for key in benchmark.keys:
                        yield from read_texts_at_key(key, row)
    except DAMAGED as error:
        raise DataError(
            f"benchmark {path}, line {max(number, 1)}: {describe_error(error, path)}. Correct the file or the recipe's keys."
        ) from None


def read_texts_at_key(key: str, row: Any) -> list[str]:
    """Return the texts under a key of a row. Raise ValueError for a value that is neither a text nor a list of texts."""
    if not isinstance(row, dict):
        raise ValueError("the row is not a JSON object")
    if key not in row:
        raise ValueError(f"the row has no key {key!r}, only {', '.join(sorted(row))}")
    texts = row[key] if isinstance(row[key], list) else [row[key]]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{key!r} is neither a text nor a list of texts")
    return texts


def load_known_index(path: Path = KNOWN) -> Index:
    """Return the index that is saved in a file of these arrays:

    `words` and `whole words`: the sorted words as bytes, with newlines between them.
    `places`, uint16 (places, 3): index of the anchor in `whole words`, words before the anchor, words in all.
    `lines`: a JSON object in UTF-8.
    An array with the name of each benchmark, uint64: its hashes, sorted.
    """
    with np.load(path) as stored:
        words, whole_words = (stored[name].tobytes().split(b"\n") for name in ("words", "whole words"))
        lines = orjson.loads(stored["lines"].tobytes())
        places: defaultdict[bytes, list[tuple[int, int]]] = defaultdict(list)
        for anchor, before, length in stored["places"].tolist():
            places[whole_words[anchor]].append((before, length))
        benchmarks = [name for name in stored.files if name not in ("words", "whole words", "places", "lines")]
        names = {hashed: name for name in benchmarks for hashed in stored[name].tolist()}
    return Index(frozenset(words), frozenset(whole_words), {anchor: tuple(some) for anchor, some in places.items()}, names, lines)
