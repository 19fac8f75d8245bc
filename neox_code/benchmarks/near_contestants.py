"""Contestants in finding near duplicates: our rule, and datasketch.

Both have the texts in memory and the same shingles, permutations and threshold, and return for each text the smallest text number
of its cluster. datasketch is used as its documentation shows: MinHash by `update_batch`, MinHashLSH with the parameters it finds
best; its results are not verified. Ours works as in a corpus build: it writes keys to disk and then groups them.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from datasketch import MinHash, MinHashLSH

from neox_code.benchmarks.contestant import TimedStep, run_contestant
from neox_code.benchmarks.corpus_contest import CODE
from neox_code.benchmarks.exhaustive import make_shingles
from neox_code.benchmarks.sample import read_sample, read_sample_texts
from neox_code.corpus.duplicates.near import NearDuplicates

RULE = NearDuplicates()
Clusters = Callable[[Sequence[str]], list[int]]


def find_with_our_rule(texts: Sequence[str]) -> list[int]:
    keys = [RULE.key(b"", text) for text in texts]
    rows = np.array([row for row, key in enumerate(keys) if key is not None])
    roots = list(range(len(texts)))
    with TemporaryDirectory() as folder, RULE.groups(Path(folder)) as groups:
        groups.add(np.array([keys[row] for row in rows], f"V{RULE.key_bytes}"), np.zeros_like(rows), rows)
        for dropped, survivors in groups.duplicates():
            for row, survivor in zip(dropped.tolist(), survivors.tolist(), strict=True):
                roots[row] = survivor
    return roots


def find_with_datasketch(texts: Sequence[str]) -> list[int]:
    """Return, for each text, the smallest text number in its cluster of near duplicates, found by datasketch."""
    index = MinHashLSH(threshold=RULE.threshold, num_perm=RULE.permutations)
    roots = list(range(len(texts)))

    def root_of(row: int) -> int:
        while roots[row] != row:
            roots[row] = roots[roots[row]]
            row = roots[row]
        return row

    for row, text in enumerate(texts):
        found = make_shingles(text, RULE.shingle_words)
        if not found:
            continue
        signature = MinHash(num_perm=RULE.permutations)
        signature.update_batch(found)
        for other in index.query(signature):
            one, two = root_of(row), root_of(other)
            roots[max(one, two)] = min(one, two)
        index.insert(row, signature)
    return [root_of(row) for row in range(len(texts))]


def make_step(clusters: Clusters, folder: Path, cores: int) -> TimedStep:
    texts = read_sample_texts(folder / CODE)
    made: list[list[int]] = []
    return TimedStep(lambda: made.append(clusters(texts)), lambda: made.pop(), read_sample(folder / CODE).num_bytes)


if __name__ == "__main__":
    sys.exit(
        run_contestant(
            {"neox-code": partial(make_step, find_with_our_rule), "datasketch": partial(make_step, find_with_datasketch)}
        )
    )
