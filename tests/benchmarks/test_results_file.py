"""Rows of the training benchmark, and the README's sentence on the newest one of a GPU."""

from pathlib import Path

import pytest

from neox_code.benchmarks.contest import Measured
from neox_code.benchmarks.results_file import format_readme_line, make_row
from neox_code.benchmarks.training_contest import list_peers, make_environment
from neox_code.config.neox import NeoXConfig
from neox_code.files import read_json_lines

ROOT = Path(__file__).parents[2]


def test_the_readme_has_the_newest_row_of_a_gpu():
    rows = list(read_json_lines(ROOT / "docs" / "benchmark-results.jsonl"))
    assert " ".join(format_readme_line(rows).split()) in " ".join((ROOT / "README.md").read_text().split())


def test_a_row_has_medians_ratios_and_the_share_of_the_matrix_products():
    config = NeoXConfig.load([], {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 128})
    ours = Measured("neox-code", [100.0, 300.0, 200.0], [50.0, 150.0, 100.0], 1.5)
    row = make_row(config, [ours, Measured("peer", [50.0, 100.0, 100.0], [], 2.0)], 0.5, 1e9)
    assert row["contestants"]["neox-code"] == {
        "tokens_per_second": 200,
        "utilization": pytest.approx(0.4),  # 200 tokens/s of 1 GFLOP each, of 500 GFLOP/s
        "memory_gib": 1.5,
        "tokens_per_cpu_second": 100,
    }
    assert row["ratios"] == {"peer": 2.0}
    assert row["versions"]["torch"] and row["cores"] >= 1
    newer = row | {"gpu": "NVIDIA H200", "date": "2027-01-02"}
    rows = [row, newer, newer | {"date": "2027-01-01", "gpu": "NVIDIA L4"}]
    line = "NVIDIA H200, 2027-01-02: 200 tokens/s, 40% of the machine's matrix products, 1.5 GiB (2.00 x peer)."
    assert format_readme_line(rows) == line


def test_only_the_untouched_peer_has_its_own_allocator_settings():
    assert [name for name in list_peers(True) if not make_environment(name)] == ["transformers"]
    assert set(list_peers(True)) - set(list_peers(False)) == {"transformers-compiled"}
