"""Overlap of benchmark problems with the training split of a corpus, problem by problem.

    found = measure_contamination("data/corpus", {"HumanEval/0": [prompt, canonical_solution, test], ...})
    found["HumanEval/0"].is_contaminated, found["HumanEval/0"].share, found["HumanEval/0"].overlap

A problem is contaminated if a document contains 13 consecutive distinctive words of the problem (corpus/filters/benchmarks.py;
Brown et al. 2020, appendix C), or a passage of at least 64 bytes that is at least half of one of the problem's texts.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path

from neox_code.corpus.filters.benchmarks import IN_RUN, find_distinctive_runs, hash_known_runs, hash_words, split_words
from neox_code.corpus.overlap.seeds import GUARANTEED_BYTES
from neox_code.corpus.overlap.whence import FOLDER, Overlap, build_overlap_index, find_overlaps
from neox_code.corpus.shards import SUMMARY_FILE, list_shard_files, read_shard
from neox_code.errors import DataError
from neox_code.files import read_json, write_json
from neox_code.logs import progress
from neox_code.processes.workers import Workers, count_available_cores

VERBATIM_SHARE = 0.5
"""A problem is contaminated if a document has this share of one of its texts, byte for byte."""


@dataclass(frozen=True)
class Contamination:
    """Overlap of one problem with the training split."""

    runs: int
    """Number of different runs in the problem; a run is 13 consecutive distinctive words."""
    shared_runs: int
    """Number of the problem's runs (13 consecutive words) that a document of the training split contains."""
    first_document: str | None
    """REPOSITORY/PATH of the first document that contains 13 consecutive words of the problem; None if there is none."""
    verbatim_share: float
    """The largest fraction of one of the problem's texts that a document contains byte for byte, from 0 to 1."""
    overlap: Overlap | None
    """The passage of `verbatim_share`, if it has at least 64 bytes; `begin` is its offset in that text."""

    @property
    def share(self) -> float:
        """Fraction of the problem's runs (13 consecutive words) that the training split contains, from 0 to 1."""
        return self.shared_runs / self.runs if self.runs else 0.0

    @property
    def is_contaminated(self) -> bool:
        return self.shared_runs > 0 or self.verbatim_share >= VERBATIM_SHARE


def measure_contamination(
    folder: str | Path, problems: Mapping[str, Sequence[str]], workers: int | None = None
) -> dict[str, Contamination]:
    """Return the contamination of each problem; `problems` maps a problem's name to its texts.

    The result is stored in CORPUS/overlap/. A later call with the same problems and corpus reads it from there. Raise DataError if
    the folder is not a corpus.
    """
    shards = list_shard_files(folder, "train")
    identity = json.dumps(list(problems.items())).encode("utf-8", "backslashreplace") + (Path(folder) / SUMMARY_FILE).read_bytes()
    kept = Path(folder) / FOLDER / f"problems-{hashlib.sha256(identity).hexdigest()[:16]}.json"
    if kept.is_file():
        try:
            return {name: load_contamination(value) for name, value in read_json(kept).items()}
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(f"{kept} is damaged: {error!r}. Remove it.") from None
    runs = {name: [run for text in texts for run in find_distinctive_runs(split_words(text))] for name, texts in problems.items()}
    vocabulary = {word: IN_RUN for some in runs.values() for run in some for word in run}
    hashes = {name: {hash_words(run) for run in some} for name, some in runs.items()}
    searched = frozenset().union(*hashes.values())
    documents: dict[int, tuple[int, str]] = {}
    count = min(workers or count_available_cores(), max(1, len(shards)))
    total = sum(shard.stat().st_size for shard in shards)
    with progress("13-word overlap", total, "B") as advance, Workers(count) as pool:
        for number, found in pool.run(find_runs, [(shard, vocabulary, searched) for shard in shards]):
            for hashed, document in found.items():
                documents[hashed] = min(documents.get(hashed, (number, document)), (number, document), key=lambda each: each[0])
            advance(shards[number].stat().st_size)
    pairs = [(name, text) for name, texts in problems.items() for text in texts]
    found_overlaps = find_overlaps(build_overlap_index(folder, workers), [text for _, text in pairs])
    overlaps: dict[str, list[tuple[float, Overlap]]] = defaultdict(list)
    for (name, text), overlap in zip(pairs, found_overlaps, strict=True):
        if overlap is not None and overlap.length >= GUARANTEED_BYTES:
            overlaps[name].append((overlap.length / len(text.encode("utf-8", "replace")), overlap))
    result = {}
    for name in problems:
        shared = sorted(documents[hashed] for hashed in hashes[name] if hashed in documents)
        verbatim_share, overlap = max(overlaps[name], key=lambda pair: pair[0], default=(0.0, None))
        result[name] = Contamination(len(hashes[name]), len(shared), shared[0][1] if shared else None, verbatim_share, overlap)
    write_json(kept, {name: asdict(each) for name, each in result.items()})
    return result


def load_contamination(value: Mapping) -> Contamination:
    overlap = value["overlap"]
    return Contamination(**dict(value) | {"overlap": None if overlap is None else Overlap(**overlap)})


def find_runs(shard: Path, vocabulary: Mapping[bytes, int], searched: frozenset[int]) -> Iterator[dict[int, str]]:
    """Yield one dictionary: hash of a searched run (13 words) -> the shard's first document that contains the run."""
    found: dict[int, str] = {}
    for document in read_shard(shard, "train"):
        words = split_words(document.text)
        for hashed in hash_known_runs(words, bytes(map(vocabulary.get, words, repeat(0)))):
            if hashed in searched:
                found.setdefault(hashed, f"{document.repository}/{document.path}")
    yield found
