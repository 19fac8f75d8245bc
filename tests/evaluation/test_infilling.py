"""Problems of infilling by kind, their scores beside hand-computed ones, and the bits of middles beside a plain pass."""

import math
from pathlib import Path

import pytest
import torch
from real_code import real_file
from torch.nn import functional as F

from neox_code.corpus.shards import Document
from neox_code.evaluation.infilling_problems import INFILLING_KINDS, make_problems, read_problems, save_problems
from neox_code.evaluation.task import CheckSettings, TaskInputs, TaskSample
from neox_code.evaluation.tasks.infilling import INFILLING, check_infilling, load_infilling, measure_middles, summarize_infilling

KINDS = (*INFILLING_KINDS, "next line", "function")
SOURCE = "def f(a, b=2):\n    if a > 1:\n        g(a)  # é\n    return 1\n\n\ndef h():\n    return f(2)\n"


def make_documents() -> list[Document]:
    texts = [SOURCE, *(real_file(f"pygments/{name}.py").read_text() for name in ("util", "style"))]
    return [Document(text, "Python", "p", f"{i}.py", str(i), len(text.encode()), "test") for i, text in enumerate(texts)]


def test_the_three_parts_of_a_problem_are_the_file_and_depend_on_the_seed_alone(tmp_path: Path):
    documents = make_documents()
    texts = {document.path: document.text for document in documents}
    problems = make_problems(documents, KINDS, 9, seed=1)
    assert {problem.fields["source"]["kind"] for problem in problems} == set(KINDS)
    for problem in problems:
        row, source = problem.fields, problem.fields["source"]
        assert problem.prompt + row["middle"] + row["suffix"] == texts[source["path"]]
        assert texts[source["path"]].encode()[source["begin"] : source["end"]].decode() == row["middle"]
        assert (problem.suffix is None) == (source["kind"] in ("next line", "function"))
        assert source["seed"] == 1
    assert make_problems(documents[::-1], KINDS, 9, seed=1) == problems != make_problems(documents, KINDS, 9, seed=2)
    save_problems(tmp_path / "problems.jsonl", problems)
    assert read_problems(tmp_path / "problems.jsonl") == problems
    bodies = {each.fields["middle"] for each in make_problems(documents[:1], ("function",), 9, 1)}
    assert bodies == {"if a > 1:\n        g(a)  # é\n    return 1", "return f(2)"}


def test_scores_are_those_computed_by_hand():
    problems = {each.id: each for each in make_problems(make_documents()[:1], ("call", "whitespace"), 4, 0)}
    calls = [each for each in problems.values() if each.fields["source"]["kind"] == "call"]
    assert sorted(each.fields["middle"] for each in calls) == ["f(2)", "g(a)"]
    samples = [TaskSample(each.id, 0, f" {each.fields['middle']}\n" if each in calls else "\n\t") for each in problems.values()]
    outcomes = list(check_infilling(problems, samples, CheckSettings()))
    summary = summarize_infilling(problems, samples, outcomes)
    assert [score.name.partition(" (")[0].partition(",")[0] for score in summary] == ["edit similarity"] * 2 + ["exact match"] * 2
    scores = {score.name: score for score in summary}
    assert (scores["exact match, call"].value, scores["exact match, call"].chance) == (1.0, 0.5)
    assert scores["exact match, whitespace"].value == 0.0  # whitespace is compared as it is
    assert scores["exact match, whitespace"].chance >= 0.25


def test_bits_of_middles_are_those_of_a_plain_pass(model, job_config, tmp_path: Path):
    (tmp_path / "a.py").write_text(SOURCE)
    problems = load_infilling(TaskInputs(config=job_config.replace(heldout_path=str(tmp_path)), limit=7, seed=3))
    chosen = {each.id: each for each in problems if each.fields["source"]["kind"] == "argument"}
    total, score = measure_middles(model, chosen, "psm")
    nats = size = 0.0
    for problem in chosen.values():
        middle = model.tokenizer.encode(problem.fields["middle"])
        prompt = [model.tokenizer.eod_id, *model.tokenizer.encode(problem.prompt)]
        prompt = prompt[1:] or prompt  # without infilling tokens, a document's beginning is marked only before an empty prefix
        with torch.no_grad():
            logits = model.gpt.logits(model.gpt.hidden(torch.tensor([[*prompt, *middle]])))[0, len(prompt) - 1 : -1]
        logits = logits[:, : model.scored_rows or model.tokenizer.vocab_size]
        nats += F.cross_entropy(logits.double(), torch.tensor(middle), reduction="sum").item()
        size += len(problem.fields["middle"].encode())
    assert score.value == pytest.approx(nats / math.log(2) / size, rel=1e-3)
    assert (total.name, total.value, total.chance) == ("bits per byte, all", score.value, score.chance)
    assert score.chance and score.chance > 0
    assert INFILLING.measure is measure_middles
