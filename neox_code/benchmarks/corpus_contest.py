"""Compare ours with a peer in each step from source files to token files, on the same files and in one run.

    ./deepy.py benchmark data --corpus code                        # code: LANGUAGE/organization/project/...

    for part in PARTS.values():
        run_part(part, Path("code"), part.megabytes, part.rounds)      # {"corpus": 31.2, "corpus, two cores over one": 1.8}

A part copies a sample of the corpus. For a slow peer it copies a smaller sample, on which ours is measured too. Each contestant
runs in its own process on CORES cores. The contestants take turns, and different outputs are an error. A ratio on one core compares
processor time, which does not depend on other programs. A ratio between numbers of cores compares elapsed time. The table shows
both.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from neox_code.benchmarks.contest import Contestant, Measured, compute_cpu_ratio, compute_ratio, run_contest
from neox_code.benchmarks.exhaustive import compute_recall, find_similar_pairs
from neox_code.benchmarks.results_table import print_table
from neox_code.benchmarks.sample import read_sample_texts, take_sample
from neox_code.corpus.duplicates.clusters import Clusters
from neox_code.corpus.duplicates.near import NearDuplicates
from neox_code.errors import NeoXError
from neox_code.files import write_json_lines
from neox_code.logs import progress
from neox_code.tokenizer.train_bpe import train_bpe

CODE, SMALL = "code", "small"
VOCABULARY = "vocabulary"
VOCAB_SIZE = 50_257
TOLERANCE = 0.01
"""Recalls count as equal if they differ by at most this, or by at most FEW pairs."""
FEW = 2

Ratios = dict[str, float]


@dataclass(frozen=True)
class BenchmarkPart:
    title: str
    module: str
    contestants: Sequence[str]
    """The contestants, each as NAME:CORES; ours is the first."""
    prepare: Callable[[Path], None]
    compare: Callable[[Path, Sequence[Measured]], Ratios]
    """Print one line on the comparison, and return the ratios. Raise NeoXError if the outputs differ."""
    megabytes: float
    """Size of the sample in megabytes."""
    small_part: float
    """Share of the sample that the peer reads."""
    rounds: int
    """Default number of rounds of each contestant."""
    peer: str | None = None
    """A package that must be installed for this part."""


def run_part(part: BenchmarkPart, corpus: Path, megabytes: float, rounds: int) -> Ratios:
    """Run a part on a sample of the corpus, print its table, and return its ratios."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sample = take_sample(corpus, folder / CODE, int(megabytes * 1e6))
        title = f"{part.title}: {sample}"
        if part.small_part < 1:
            title += f", and {take_sample(folder / CODE, folder / SMALL, int(megabytes * part.small_part * 1e6))} of them"
        part.prepare(folder)
        starts = [partial(start_contestant, part, name, folder) for name in part.contestants]
        with progress(part.title, rounds * len(starts), " rounds") as advance:
            measured = run_contest(starts, rounds, take_turns=True, advance=partial(advance, 1))
        print_table(title, measured[0], measured[1:], unit="MB", decimals=2)
        return part.compare(folder, measured)


def start_contestant(part: BenchmarkPart, name: str, folder: Path) -> Contestant:
    return Contestant(name, f"neox_code.benchmarks.{part.module}", [name, str(folder)], environment={})


# ---- inputs that contestants share


def get_texts_path(sample: Path) -> Path:
    return sample.with_suffix(".jsonl")


def write_texts_and_vocabulary(folder: Path) -> None:
    """Write the texts as JSON Lines, without texts that contain a special token's name: Hugging Face would encode it as the
    token."""
    for sample in (folder / CODE, folder / SMALL):
        write_json_lines(get_texts_path(sample), ({"text": text} for text in read_sample_texts(sample) if "<|" not in text))
    train_bpe(read_sample_texts(folder / SMALL), VOCAB_SIZE, folder / VOCABULARY)


# ---- comparisons


def require_equal_results(ours: Measured, peer: Measured, thing: str) -> None:
    if ours.made != peer.made:
        raise NeoXError(
            f"{ours.name} and {peer.name} made different {thing}: {ours.made} and {peer.made}. Their speeds are not comparable."
        )
    print(f"the same {thing}: {json.dumps(ours.made)}")


def compare_corpora(folder: Path, measured: Sequence[Measured]) -> Ratios:
    ours, on_two_cores, small, peer = measured
    require_equal_results(ours, on_two_cores, "surviving files")
    require_equal_results(small, peer, "surviving files")
    return {"corpus": compute_cpu_ratio(ours, peer), "corpus, two cores over one": compute_ratio(on_two_cores, ours)}


def compare_tokens(folder: Path, measured: Sequence[Measured]) -> Ratios:
    ours, small, peer = measured
    require_equal_results(small, peer, "bytes")
    return {"tokens": compute_cpu_ratio(ours, peer)}


def compare_vocabularies(folder: Path, measured: Sequence[Measured]) -> Ratios:
    ours, peer = measured
    require_equal_results(ours, peer, "merges")
    return {"vocabulary": compute_cpu_ratio(ours, peer)}


def compare_near_duplicates(folder: Path, measured: Sequence[Measured]) -> Ratios:
    """Compare the pairs found with those of an exhaustive search; raise NeoXError if ours finds fewer than the peer."""
    ours, peer = measured
    rule = NearDuplicates()
    pairs = find_similar_pairs(read_sample_texts(folder / CODE), rule.threshold, rule.shingle_words)
    found = {contestant.name: compute_recall(pairs, contestant.made) for contestant in measured}
    listed = ", ".join(f"{name} {part:.1%}" for name, part in found.items())
    print(f"{rule}: of {len(pairs):,} pairs that an exhaustive search finds alike, clusters hold {listed}")
    removed = {one.name: sum(root != row for row, root in enumerate(one.made)) for one in measured}
    listed = ", ".join(f"{name} {number:,}" for name, number in removed.items())
    print(f"files removed: {listed}; by the exhaustive search {count_removed(pairs):,}")
    if found[ours.name] < found[peer.name] - max(TOLERANCE, FEW / max(1, len(pairs))):
        raise NeoXError(f"{ours.name} finds fewer pairs than {peer.name}: their speeds are not comparable. Use a larger sample.")
    return {"near": compute_cpu_ratio(ours, peer)}


def count_removed(pairs: Sequence[tuple[int, int]]) -> int:
    """Return how many members of clusters are removed if one of each cluster is kept.

    >>> count_removed([(0, 1), (0, 2), (1, 2), (4, 5)])
    3
    """
    if not pairs:
        return 0
    first, second = np.array(pairs).T
    clusters = Clusters(int(second.max()) + 1)
    clusters.join(first, second)
    numbers = np.arange(second.max() + 1)
    return int((clusters.find_roots(numbers) != numbers).sum())


PARTS: Mapping[str, BenchmarkPart] = {
    "corpus": BenchmarkPart(
        "Corpus by PolyCoder's recipe",
        "corpus_contestants",
        ("neox-code:1", "neox-code:2", "neox-code-small:1", "code-lms:1"),
        lambda folder: None,
        compare_corpora,
        megabytes=768,
        small_part=1 / 16,
        rounds=1,
    ),
    "tokens": BenchmarkPart(
        "Token files",
        "token_contestants",
        ("neox-code:1", "neox-code-small:1", "gpt-neox:1"),
        write_texts_and_vocabulary,
        compare_tokens,
        megabytes=192,
        small_part=1 / 8,
        rounds=1,
    ),
    "vocabulary": BenchmarkPart(
        f"Vocabulary of {VOCAB_SIZE:,}",
        "vocabulary_contestants",
        ("neox-code:1", "tokenizers:1"),
        lambda folder: None,
        compare_vocabularies,
        megabytes=100,
        small_part=1,
        rounds=1,
    ),
    "near": BenchmarkPart(
        "Near duplicates",
        "near_contestants",
        ("neox-code:1", "datasketch:1"),
        lambda folder: None,
        compare_near_duplicates,
        megabytes=24,
        small_part=1,
        rounds=3,
        peer="datasketch",
    ),
}
