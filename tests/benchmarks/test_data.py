"""Every part of the benchmark on a small corpus: contestants run, and what they make is the same."""

import shutil
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from neox_code.benchmarks.contest import Measured
from neox_code.benchmarks.data import PARTS, compare_near, compare_tokens, run_part
from neox_code.errors import NeoXError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Python files, a third of them twice, and some that are too short."""
    folder = tmp_path_factory.mktemp("corpus")
    library = sorted(path for path in Path(sysconfig.get_path("stdlib")).glob("*.py") if path.stat().st_size < 12_000)[:60]
    for number, path in enumerate(library):
        for project in ("one", "two")[: 1 + (number % 3 == 0)]:
            copy = folder / "Python" / "acme" / project / "library" / path.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    (copy.parent / "short.py").write_text("x = 1\n")
    return folder


@pytest.mark.parametrize("name", PARTS)
def test_a_part_gives_ratios_of_like_results(name, corpus, capfd):
    if PARTS[name].peer is not None:
        pytest.importorskip(PARTS[name].peer)
    ratios = run_part(replace(PARTS[name], small_part=0.5), corpus, megabytes=1, rounds=1)
    assert name in ratios
    assert all(ratio > 0 for ratio in ratios.values())
    told = capfd.readouterr().out
    assert "the same " in told or "exhaustive search" in told


def test_a_ratio_of_unlike_results_is_refused():
    ours, peer = Measured("ours", [2.0], [4.0], made=[1]), Measured("peer", [1.0], [1.0], made=[2])
    with pytest.raises(NeoXError, match="unlike bytes"):
        compare_tokens(Path(), [ours, ours, peer])


def test_a_ratio_at_lower_recall_is_refused(tmp_path):
    text = " ".join(f"word{number}" for number in range(50))
    for number in range(3):
        (tmp_path / "code").mkdir(exist_ok=True)
        (tmp_path / "code" / f"{number}.py").write_text(f"{text} end{number}")
    few, all_of_them = Measured("ours", [2.0], [4.0], made=[0, 0, 2]), Measured("peer", [1.0], [1.0], made=[0, 0, 0])
    with pytest.raises(NeoXError, match="fewer pairs"):
        compare_near(tmp_path, [few, all_of_them])
    assert compare_near(tmp_path, [Measured("ours", [2.0], [4.0], made=[0, 0, 0]), all_of_them]) == {"near": 4.0}
