"""Perplexity by language, beside a plain pass over each window and beside Pygments."""

import json
import math
import tarfile
from pathlib import Path

import pytest
import torch
from example_model import CONTEXT_LENGTH
from pygments.lexers import find_lexer_class
from real_code import real_file
from torch.nn import functional as F

from neox_code.evaluation.task import TaskInputs
from neox_code.evaluation.tasks.perplexity import measure_perplexity

FILES = ("pygments/util.py", "pygments/regexopt.py", "pygments/style.py")


def compute_rolling_nats(model, ids: list[int]) -> float:
    """Return -ln of the probability of the ids: blocks of CONTEXT_LENGTH tokens, each read after the token before it."""
    text, nats = [model.tokenizer.eod_id, *ids], 0.0
    for begin in range(0, len(ids), CONTEXT_LENGTH):
        end = min(begin + CONTEXT_LENGTH, len(ids))
        first = max(end - CONTEXT_LENGTH, 0)
        with torch.no_grad():
            logits = model.gpt.logits(model.gpt.hidden(torch.tensor([text[first:end]])))[0, :, : model.tokenizer.vocab_size]
        losses = F.cross_entropy(logits.double(), torch.tensor(text[first + 1 : end + 1]), reduction="none")
        nats += losses[begin - first :].sum().item()
    return nats


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_figures_are_those_of_plain_passes_over_any_source(model, job_config, tmp_path: Path, kind: str) -> None:
    root = tmp_path / "code"
    (root / "project").mkdir(parents=True)
    texts = {Path(name).name: real_file(name).read_text() for name in FILES}
    for name, text in texts.items():
        (root / "project" / name).write_text(text)
    (root / "project" / "main.c").write_text("int main(void) { return 0; }\n" * 9)
    for name, content in {"zcopy.py": texts["util.py"], "notes.md": "# Notes\n", "empty.py": "", "data.json": "{}"}.items():
        (root / "project" / name).write_text(content)
    path = root
    if kind == "archive":
        path = tmp_path / "code.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(root / "project", "project")
    config = job_config.replace(heldout_path=str(path))
    measured = measure_perplexity(model, TaskInputs(config=config))
    scores = {score.name: score for score in measured.scores}
    ids = {name: model.tokenizer.encode(text) for name, text in texts.items()}
    nats = {name: compute_rolling_nats(model, tokens) for name, tokens in ids.items()}
    words = sum(len(list(find_lexer_class("Python")().get_tokens(text))) for text in texts.values())
    num_bytes = sum(len(text.encode()) for text in texts.values())
    assert scores["word perplexity, Python"].value == pytest.approx(math.exp(sum(nats.values()) / words), rel=1e-4)
    assert scores["bits per byte, Python"].value == pytest.approx(sum(nats.values()) / math.log(2) / num_bytes, rel=1e-4)
    assert scores["bits per token, Python"].value == pytest.approx(
        sum(nats.values()) / math.log(2) / sum(map(len, ids.values())), rel=1e-4
    )
    assert (scores["word perplexity, Python"].count, scores["word perplexity, C"].count) == (3, 1)
    by_file = {Path(row["file"]).name: row["bits"] * math.log(2) for row in measured.rows if row["language"] == "Python"}
    assert by_file == pytest.approx(nats, rel=1e-4)
    worst = [row["bits_per_byte"] for row in measured.details["worst_files"]]
    assert worst == sorted(worst, reverse=True) and len(worst) == 4
    json.dumps([measured.details, measured.rows])
