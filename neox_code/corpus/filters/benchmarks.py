"""Overlap with benchmarks: what shares 13 words in a row with a task or its solution is dropped under the benchmark's name.

    BenchmarkOverlap()                                                          HumanEval and MBPP
    BenchmarkOverlap((Benchmark("APPS", "apps.jsonl.gz", ("question", "solutions")),))    these and any JSON Lines

A word is a run of letters, digits, `_` and what is not ASCII, in small letters; so spaces, line ends and punctuation play no part.
Runs of 13 of which fewer than 7 are words with a letter are passed over: lists of numbers are shared by chance. A text of fewer
than 13 words cannot be found: 88 of MBPP's 974 tasks have no such run, neither in words nor in code.

Of HumanEval and MBPP the package holds the words and 64-bit hashes of the runs, not the texts (known_benchmarks.npz, written by
`save_known`).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
import xxhash

from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.sources.compressed import DAMAGED, in_words, open_expanded
from neox_code.errors import DataError

KNOWN = Path(__file__).with_name("known_benchmarks.npz")
RUN = 13
"""Words, as for GPT-3 (Brown et al. 2020, appendix C)."""
WORDS_WITH_LETTERS = 7
LETTER = re.compile(rb"[^0-9_]")
SMALL_WORDS = bytes(byte if chr(byte).isalnum() or chr(byte) == "_" or byte >= 128 else 32 for byte in range(256)).lower()


@dataclass(frozen=True)
class Benchmark:
    name: str
    path: str
    """JSON Lines, also compressed."""
    keys: tuple[str, ...]
    """Whose texts are compared, each for itself; a list is one text for each of its members."""


@dataclass(frozen=True)
class Ngrams:
    """What benchmarks are known by."""

    words: frozenset[bytes]
    names: dict[int, str]
    """Hash of a run -> benchmark, the first of several."""


@dataclass(frozen=True)
class BenchmarkOverlap:
    """
    >>> text = "Check if in given list of numbers, are any two numbers closer to each other than given threshold."
    >>> BenchmarkOverlap().keep(Candidate("x.py", "Python", 100, f"# {text}"))
    'overlaps with HumanEval'
    """

    benchmarks: tuple[Benchmark, ...] = ()
    known: bool = True
    """Whether HumanEval and MBPP are looked for, too."""
    name = "overlap with benchmarks"

    def keep(self, file: Candidate) -> Literal[True] | str:
        ngrams = all_ngrams(self.benchmarks, self.known)
        words = words_of(file.text)
        # most words of most files are in no benchmark: only runs of those that are can be shared
        in_benchmarks = bytes(map(ngrams.words.__contains__, words))
        start = in_benchmarks.find(ONES)
        while start >= 0:
            found = ngrams.names.get(hash_of(words[start : start + RUN]))
            if found is not None:
                return f"overlaps with {found}"
            start = in_benchmarks.find(ONES, start + 1)
        return True


ONES = b"\1" * RUN


def words_of(text: str) -> list[bytes]:
    """
    >>> words_of("def Add_1(a):  # Añade")
    [b'def', b'add_1', b'a', b'a\\xc3\\xb1ade']
    """
    return text.encode("utf-8", "replace").translate(SMALL_WORDS).split()


def hash_of(words: Sequence[bytes]) -> int:
    return xxhash.xxh3_64_intdigest(b" ".join(words))


@cache
def all_ngrams(benchmarks: tuple[Benchmark, ...], known: bool) -> Ngrams:
    words: set[bytes] = set()
    names: dict[int, str] = {}
    for some in ([load_known()] if known else []) + [ngrams_of(benchmark) for benchmark in benchmarks]:
        words |= some.words
        names = some.names | names
    return Ngrams(frozenset(words), names)


def ngrams_of(benchmark: Benchmark) -> Ngrams:
    words: set[bytes] = set()
    names: dict[int, str] = {}
    for text in texts_of(benchmark):
        of_text = words_of(text)
        for start in range(len(of_text) - RUN + 1):
            run = of_text[start : start + RUN]
            if sum(LETTER.search(word) is not None for word in run) >= WORDS_WITH_LETTERS:
                words.update(run)
                names[hash_of(run)] = benchmark.name
    return Ngrams(frozenset(words), names)


def texts_of(benchmark: Benchmark) -> Iterator[str]:
    """Raises DataError, with the line, for what is no JSON Lines file or has no text under a key."""
    number, path = 0, Path(benchmark.path)
    if not path.is_file():
        raise DataError(f"benchmark {path} does not exist. Name a file of JSON Lines, also compressed.")
    try:
        with open_expanded(path) as (lines, _):
            for number, line in enumerate(lines, 1):  # noqa: B007 - the error says it
                if line.strip():
                    row = orjson.loads(line)
                    for key in benchmark.keys:
                        yield from texts_under(key, row)
    except DAMAGED as error:
        raise DataError(
            f"benchmark {path}, line {max(number, 1)}: {in_words(error, path)}. Mend the file, or the keys that the recipe names."
        ) from None


def texts_under(key: str, row: Any) -> list[str]:
    """Raises ValueError for what is no text or list of texts."""
    if not isinstance(row, dict):
        raise ValueError("it is no object")
    if key not in row:
        raise ValueError(f"it has no {key!r}, only {', '.join(sorted(row))}")
    texts = row[key] if isinstance(row[key], list) else [row[key]]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{key!r} is no text and no list of texts")
    return texts


def load_known(path: Path = KNOWN) -> Ngrams:
    with np.load(path) as stored:
        words = frozenset(stored["words"].tobytes().split(b"\n"))
        names = {int(hashed): name for name in stored.files if name != "words" for hashed in stored[name]}
    return Ngrams(words, names)


def save_known(benchmarks: Iterable[Benchmark], path: Path = KNOWN) -> None:
    """Inverse of load_known. Of what several benchmarks share, the first has the name."""
    of_each = {benchmark.name: ngrams_of(benchmark) for benchmark in benchmarks}
    seen: set[int] = set()
    arrays: dict[str, Any] = {}
    for name, ngrams in of_each.items():
        arrays[name] = np.array(sorted(ngrams.names.keys() - seen), dtype=np.uint64)
        seen |= ngrams.names.keys()
    words = b"\n".join(sorted(set().union(*(ngrams.words for ngrams in of_each.values()))))
    np.savez_compressed(path, words=np.frombuffer(words, dtype=np.uint8), **arrays)
