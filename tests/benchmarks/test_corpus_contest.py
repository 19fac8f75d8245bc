"""Every part of the benchmark on a small corpus: contestants run, and what they make is the same."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from real_code import real_files

from neox_code.benchmarks.contest import Measured
from neox_code.benchmarks.corpus_contest import PARTS, compare_near_duplicates, compare_tokens, run_part
from neox_code.errors import NeoXError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Python files, a third of them twice, and some that are too short."""
    folder = tmp_path_factory.mktemp("corpus")
    library = real_files(60, max_bytes=12_000)
    for number, path in enumerate(library):
        for project in ("one", "two")[: 1 + (number % 3 == 0)]:
            copy = folder / "Python" / "acme" / project / "library" / path.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    (copy.parent / "short.py").write_text("x = 1\n")
    return folder


@pytest.mark.parametrize("name", sorted(PARTS.keys() - {"near"}))
def test_a_part_gives_ratios_of_like_results(name, corpus, capfd):
    ratios = run_part(replace(PARTS[name], small_part=0.5), corpus, megabytes=1, rounds=1)
    assert name in ratios
    assert all(ratio > 0 for ratio in ratios.values())
    assert "the same " in capfd.readouterr().out


def test_near_duplicates_are_found_by_both(tmp_path, capfd):
    """Files of random words, a third of them twice with one word changed: 96% of the shingles are common, or none."""
    pytest.importorskip("datasketch")
    words = random.Random(1)
    for number in range(60):
        text = [f"word{words.randrange(10**6)}" for _ in range(300)]
        for project in ("one", "two")[: 1 + (number % 3 == 0)]:
            file = tmp_path / "Python" / "acme" / project / f"{number}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(" ".join([*text[:150], project, *text[151:]]))
    assert run_part(PARTS["near"], tmp_path, megabytes=1, rounds=1)["near"] > 0
    told = capfd.readouterr().out
    assert "of 20 pairs that an exhaustive search finds alike, clusters hold neox-code:1 100.0%, datasketch:1 100.0%" in told
    assert "files removed: neox-code:1 20, datasketch:1 20; by the exhaustive search 20" in told


def test_a_ratio_of_different_results_is_refused():
    ours, peer = Measured("ours", [2.0], [4.0], made=[1]), Measured("peer", [1.0], [1.0], made=[2])
    with pytest.raises(NeoXError, match="different bytes"):
        compare_tokens(Path(), [ours, ours, peer])


def test_a_ratio_at_lower_recall_is_refused(tmp_path):
    text = " ".join(f"word{number}" for number in range(50))
    for number in range(3):
        (tmp_path / "code").mkdir(exist_ok=True)
        (tmp_path / "code" / f"{number}.py").write_text(f"{text} end{number}")
    few, all_of_them = Measured("ours", [2.0], [4.0], made=[0, 0, 2]), Measured("peer", [1.0], [1.0], made=[0, 0, 0])
    with pytest.raises(NeoXError, match="fewer pairs"):
        compare_near_duplicates(tmp_path, [few, all_of_them])
    assert compare_near_duplicates(tmp_path, [Measured("ours", [2.0], [4.0], made=[0, 0, 0]), all_of_them]) == {"near": 4.0}
