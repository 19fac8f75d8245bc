"""Answers that no model should give: each is an answer, or none; it never ends the run."""

import json
import math
from typing import Any

import pytest

from neox_code.corpus.json_endpoint import Answer, JsonEndpoint
from neox_code.corpus.rows.labels import Label, Labeler, Spent, content_of


class Endpoint:
    """Gives the answers it was given, one after the other."""

    url = "http://localhost/v1"

    def __init__(self, *answers: Any):
        self.answers = [json.loads(answer) for answer in answers]

    def post(self, question: Any) -> Answer:
        return Answer(200, self.answers.pop(0))


def said(content: Any, usage: Any = None) -> str:
    return json.dumps({"choices": [{"message": {"content": content}}], "usage": usage})


def ask(*answers: str) -> Label:
    endpoint: Any = Endpoint(*answers)
    label = Labeler(endpoint, "a-model", max_tokens=50).ask("func f(): pass")
    assert endpoint.answers == []
    return label


@pytest.mark.parametrize(
    "garbage",
    ["{}", '{"choices": null}', '{"choices": [7]}', '{"choices": [{"message": "a"}]}', said(7), said(["a"]), said({"text": "a"})],
)
def test_what_holds_no_words_is_asked_again(garbage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neox_code.corpus.rows.labels.FIRST_PAUSE_SECONDS", 0.0)
    label = ask(garbage, said("Do it.", {"prompt_tokens": 7, "completion_tokens": 3}))
    assert label == Label("Do it.", None, Spent(7, 3))


UNKNOWN = [
    *(None, "much", [], {}, {"prompt_tokens": 7}, {"prompt_tokens": "7", "completion_tokens": 3}),
    *({"prompt_tokens": -7, "completion_tokens": 3}, {"prompt_tokens": 7.5, "completion_tokens": 3}),
    {"prompt_tokens": math.inf, "completion_tokens": 3},
]


@pytest.mark.parametrize("usage", UNKNOWN)
def test_a_cost_that_is_not_told_is_the_most_that_it_can_be(usage: Any) -> None:
    labeler = Labeler(JsonEndpoint("http://localhost/v1", {}), "a-model", max_tokens=50)
    label = ask(said("Do it.", usage))
    assert label.instruction == "Do it."
    assert label.spent == labeler.worst_case("func f(): pass")
    assert label.spent.output_tokens == 50 and label.spent.input_tokens > len("func f(): pass")


@pytest.mark.parametrize(("content", "instruction"), [(None, ""), ("", ""), ('"Do #1."', "Do 1."), ("a\ud800b", "a?b")])
def test_words_are_such_that_a_file_can_hold_them(content: str | None, instruction: str) -> None:
    assert ask(said(content)).instruction == instruction


def test_an_error_with_words_is_no_answer() -> None:
    assert content_of(Answer(500, json.loads(said("Do it.")))) is None
