"""Malformed responses of an endpoint: none of them ends the run."""

import json
import math
from typing import Any

import pytest

from neox_code.corpus.json_endpoint import Answer, JsonEndpoint
from neox_code.corpus.rows.labels import Label, Labeler, TokenUsage, read_content


class Endpoint:
    """Return the given answers in their order."""

    url = "http://localhost/v1"

    def __init__(self, *answers: Any):
        self.answers = [json.loads(answer) for answer in answers]

    def post(self, question: Any) -> Answer:
        return Answer(200, self.answers.pop(0))


def make_response(content: Any, usage: Any = None) -> str:
    return json.dumps({"choices": [{"message": {"content": content}}], "usage": usage})


def request_label(*answers: str) -> Label:
    endpoint: Any = Endpoint(*answers)
    label = Labeler(endpoint, "a-model", max_tokens=50).request_label("func f(): pass")
    assert endpoint.answers == []
    return label


@pytest.mark.parametrize(
    "garbage",
    [
        "{}",
        '{"choices": null}',
        '{"choices": [7]}',
        '{"choices": [{"message": "a"}]}',
        make_response(7),
        make_response(["a"]),
        make_response({"text": "a"}),
    ],
)
def test_a_request_is_repeated_if_the_response_holds_no_completion(garbage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neox_code.corpus.rows.labels.FIRST_PAUSE_SECONDS", 0.0)
    label = request_label(garbage, make_response("Do it.", {"prompt_tokens": 7, "completion_tokens": 3}))
    assert label == Label("Do it.", None, TokenUsage(7, 3))


UNKNOWN = [
    *(None, "much", [], {}, {"prompt_tokens": 7}, {"prompt_tokens": "7", "completion_tokens": 3}),
    *({"prompt_tokens": -7, "completion_tokens": 3}, {"prompt_tokens": 7.5, "completion_tokens": 3}),
    {"prompt_tokens": math.inf, "completion_tokens": 3},
]


@pytest.mark.parametrize("usage", UNKNOWN)
def test_an_unreported_usage_is_replaced_by_its_upper_bound(usage: Any) -> None:
    labeler = Labeler(JsonEndpoint("http://localhost/v1", {}), "a-model", max_tokens=50)
    label = request_label(make_response("Do it.", usage))
    assert label.instruction == "Do it."
    assert label.usage == labeler.estimate_max_usage("func f(): pass")
    assert label.usage.output_tokens == 50 and label.usage.input_tokens > len("func f(): pass")


@pytest.mark.parametrize(("content", "instruction"), [(None, ""), ("", ""), ('"Do #1."', "Do 1."), ("a\ud800b", "a?b")])
def test_instructions_are_cleaned_and_encodable_as_utf8(content: str | None, instruction: str) -> None:
    assert request_label(make_response(content)).instruction == instruction


def test_an_error_response_with_content_is_no_answer() -> None:
    assert read_content(Answer(500, json.loads(make_response("Do it.")))) is None
