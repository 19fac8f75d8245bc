"""The command: a table on standard output, a file beside the checkpoint, status 2 for the user's mistakes."""

import json
from pathlib import Path

import pytest
from example_model import write_job

from neox_code.commands.evaluate import main
from neox_code.errors import run_command


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_job(tmp_path_factory.mktemp("job"))


def test_evaluate_prints_a_table_and_writes_the_same_figures(job, capsys):
    assert run_command(main, [str(job), "--iteration", "7"]) == 0
    figures = json.loads((job.parent / "checkpoints" / "eval_results_7.json").read_text())
    output = capsys.readouterr()
    assert [row["language"] for row in figures["languages"]] == ["Python", "C"]
    for row in (*figures["languages"], figures["total"]):
        assert f"{row['bits_per_byte']['model']:.3f}" in output.out
        assert row["bits_per_byte"]["model"] == pytest.approx(row["bits_per_token"] * row["tokens"] / row["bytes"])
    assert "eval_results_7.json" in output.err
    assert run_command(main, [str(job), "--iteration", "7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == figures


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--set", "heldout_path="], "heldout_path is not set"),
        (["--set", "heldout_path=nowhere"], "missing: nowhere (heldout_path, --set). Make a corpus with tools/build_corpus.py"),
        (["--set", "heldout_split=valid"], "holds no documents"),
        (["--iteration", "9"], "no checkpoint of iteration 9"),
    ],
)
def test_a_mistake_is_a_sentence_and_status_2(job, capsys, words, sentence):
    assert run_command(main, [str(job), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert "Traceback" not in error
