"""Overlap with a corpus, beside a search that compares every substring with every document."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from real_code import real_files
from seen_files import make_kept_row, write_seen_files

from neox_code.corpus.overlap.contamination import measure_contamination
from neox_code.corpus.overlap.seeds import GUARANTEED_BYTES, SEED_BYTES, hash_substrings, select_seeds
from neox_code.corpus.overlap.whence import OverlapIndex, build_overlap_index
from neox_code.errors import DataError

TOOL = Path(__file__).parents[3] / "tools" / "whence.py"
NUM_FILES = 60
PLANTED = (
    "def has_close_elements(numbers, threshold):\n    for first, one in enumerate(numbers):\n        for second, other in enumerate"
    "(numbers):\n            if first != second and abs(one - other) < threshold:\n                return True\n    return False\n"
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("overlap") / "corpus"
    texts = [file.read_text() for file in real_files(NUM_FILES)]
    texts[7] += f"\n# é\n{PLANTED}"
    rows = [make_kept_row(f"{number}.py", text, license="MIT", repository=f"a/{number}") for number, text in enumerate(texts)]
    rows += [make_kept_row("held.py", "held_out_name = 1\n" * 20, split="test")]
    write_seen_files(folder, rows)
    build_overlap_index(folder, workers=1)
    return folder


def find_longest_length(text: bytes, documents: list[bytes]) -> int:
    """Return the length of the longest common substring by bisection."""
    low, high = 0, len(text)
    while low < high:
        length = (low + high + 1) // 2
        parts = {text[begin : begin + length] for begin in range(len(text) - length + 1)}
        low, high = (length, high) if any(part in document for part in parts for document in documents) else (low, length - 1)
    return low


def test_longest_overlap_is_that_of_a_comparison_with_every_document(corpus: Path) -> None:
    index, choose = OverlapIndex(corpus), random.Random(3)
    texts = [file.read_bytes() for file in real_files(NUM_FILES)]
    found_lengths = set()
    for _ in range(12):
        document = choose.choice([text for text in texts if len(text) > 2000])
        begin, length = choose.randrange(len(document) - 700), choose.randrange(30, 600)
        text = f"{choose.random()} ".encode() + document[begin : begin + length] + f" {choose.random()}".encode()
        expected = find_longest_length(text, texts)
        overlap = index.find_longest(text.decode("utf-8", "replace"))
        if overlap is None:
            assert expected < GUARANTEED_BYTES
            continue
        found_lengths.add(overlap.length)
        assert overlap.length == expected or max(overlap.length, expected) < GUARANTEED_BYTES
        source = (real_files(NUM_FILES)[int(overlap.path[:-3])]).read_bytes()
        passage = text[overlap.begin : overlap.begin + overlap.length]
        assert passage in source
        assert (overlap.license, overlap.repository) == ("MIT", f"a/{overlap.path[:-3]}")
    assert len(found_lengths) > 5


@pytest.mark.parametrize("text", [b"", b"x" * 23, b"x" * 24, b"ab" * 500, bytes(range(256)) * 9, PLANTED.encode() * 4])
def test_every_long_passage_has_a_selected_seed(text: bytes) -> None:
    hashes, offsets = select_seeds(text)
    every = hash_substrings(text)
    assert np.array_equal(hashes, every[offsets]) and np.all(np.diff(offsets.astype(np.int64)) > 0)
    for begin in range(len(text) - GUARANTEED_BYTES + 1):
        assert np.any((offsets >= begin) & (offsets <= begin + GUARANTEED_BYTES - SEED_BYTES))


def test_problems_that_were_planted_are_found_and_others_are_not(corpus: Path) -> None:
    clean = "def sum_of_prime_factors_of_the_harmonic(number):\n    raise ValueError('no such xylophone', number, zebra, quokka)\n"
    short = "held_out_name = 1\n" * 3
    problems = {"planted": ["an unrelated sentence", PLANTED], "clean": [clean], "held out": [short], "empty": []}
    found = measure_contamination(corpus, problems, workers=1)
    assert [name for name, each in found.items() if each.is_contaminated] == ["planted"]
    planted = found["planted"]
    assert (planted.share, planted.first_document) == (1.0, "a/7/7.py")
    assert planted.overlap is not None and (planted.overlap.length, planted.verbatim_share) == (len(PLANTED), 1.0)
    assert measure_contamination(corpus, problems) == found
    with pytest.raises(DataError, match="is not a corpus"):
        measure_contamination(corpus / "overlap", problems)


def test_tool_names_the_document_of_each_row(corpus: Path, tmp_path: Path) -> None:
    rows = [{"task_id": "a", "completion": PLANTED}, {"task_id": "b", "completion": "nothing like it"}]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, TOOL, corpus, tmp_path / "samples.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, second = map(json.loads, done.stdout.splitlines())
    lines = real_files(NUM_FILES)[7].read_text().count("\n") + 2
    assert (first["overlap"]["path"], first["overlap"]["line"], first["text"][-len(PLANTED) :]) == ("7.py", lines + 1, PLANTED)
    assert second["overlap"] is None
    (tmp_path / "samples.jsonl").write_text("{}\n")
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 2 and "samples.jsonl:1 has no text" in failed.stderr
