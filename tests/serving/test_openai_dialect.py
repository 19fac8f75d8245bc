"""OpenAI's completions as its own client, Continue, Tabby, minuet, Copilot and lm-eval send and read them."""

import json

import openai
import pytest
import torch
from scripted_checkpoint import COMPLETION

from neox_code.config.generation import GenerationConfig
from neox_code.generation.generator import Generator

GREEDY = {"temperature": 0}


@pytest.fixture(scope="session")
def official(client):
    with openai.OpenAI(base_url=f"{client.url}/v1", api_key="none", max_retries=0, _strict_response_validation=True) as official:
        yield official


def test_openais_client_reads_completions_streams_and_models(client, official):
    answer = official.completions.create(model="any", prompt=["f(", "x"], max_tokens=20, n=2, **GREEDY)
    assert [(choice.index, choice.text, choice.finish_reason) for choice in answer.choices] == [
        (0, COMPLETION, "stop"),
        (1, COMPLETION, "stop"),
        (2, 20 * ".", "length"),
        (3, 20 * ".", "length"),
    ]
    length = len(client.service.tokenizer.encode(COMPLETION))
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (3, 2 * length + 40, 2 * length + 43)
    assert official.completions.create(model="any", prompt="f(", **GREEDY).choices[0].text == COMPLETION, "16 tokens by default"
    assert len(official.completions.create(model="any", prompt="x", **GREEDY).choices[0].text) == 16
    assert [model.id for model in official.models.list()] == ["neox-code"]
    assert official.models.retrieve("neox-code").id == "neox-code"
    with pytest.raises(openai.NotFoundError, match="gpt-x"):
        official.models.retrieve("gpt-x")


def test_a_stream_has_the_same_text_a_last_reason_and_the_usage(client):
    events = client.get_events(
        "/v1/completions",
        {"prompt": "f(", "stream": True, "max_tokens": 20, "n": 2, "stream_options": {"include_usage": True}, **GREEDY},
    )
    *chunks, usage, end = events
    assert end == "[DONE]" and usage["choices"] == [] and usage["usage"]["prompt_tokens"] == 2
    assert all(chunk["usage"] is None and isinstance(chunk["choices"][0]["text"], str) for chunk in chunks)
    for index in range(2):
        own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert "".join(choice["text"] for choice in own) == COMPLETION and len(own) > 5
        assert [choice["finish_reason"] for choice in own] == [None] * (len(own) - 1) + ["stop"]


def test_sampling_fields_act_as_in_the_library(client, scripted):
    section = GenerationConfig(temperature=30.0, top_k=50, maximum_tokens=12, frequency_penalty=0.5)
    fields = {"temperature": 30.0, "top_k": 50, "max_tokens": 12, "frequency_penalty": 0.5, "seed": 7}
    prompts = ["x", "xy"]
    expected = [completion.text for completion in Generator(scripted, section, 7).complete(prompts)]
    answer = client.get("/v1/completions", {"prompt": prompts, **fields})
    assert [choice["text"] for choice in answer["choices"]] == expected
    ids = [scripted.tokenizer.encode(prompt) for prompt in prompts]
    answer = client.get("/v1/completions", {"prompt": ids, **fields})
    expected = [completion.text for completion in Generator(scripted, section, 7).complete(ids)]
    assert [choice["text"] for choice in answer["choices"]] == expected
    dot, hash_sign = scripted.tokenizer.encode(".#")
    answer = client.get("/v1/completions", {"prompt": "x", "logit_bias": {dot: -100, hash_sign: 100}, "max_tokens": 3, **GREEDY})
    assert answer["choices"][0]["text"] == "###"
    stopped = client.get("/v1/completions", {"prompt": "f(", "stop": ["q", ":\r"], **GREEDY})["choices"][0]
    assert (stopped["text"], stopped["finish_reason"]) == ("a, é)", "stop")


def test_log_probabilities_equal_a_plain_pass_and_have_their_offsets(client, scripted):
    tokenizer = scripted.tokenizer
    ids = tokenizer.encode("fé(")
    body = {"prompt": [ids], "echo": True, "logprobs": 3, "max_tokens": 6, "seed": 1234, **GREEDY}
    choice = client.get("/v1/completions", body)["choices"][0]
    found = choice["logprobs"]
    text = "fé(a, é)"
    whole = [*ids, *tokenizer.encode("a, é)")]
    assert choice["text"] == text and len(found["tokens"]) == len(ids) + 6
    with torch.inference_mode():
        logits = scripted.gpt(torch.tensor([whole]))[0, :, : tokenizer.vocab_size].float()
    expected = logits.log_softmax(-1)
    assert found["token_logprobs"][0] is None and found["top_logprobs"][0] is None
    for place, token in enumerate(whole[1:]):
        assert found["token_logprobs"][place + 1] == pytest.approx(expected[place, token].item(), abs=1e-5, rel=1e-6)
        assert max(found["top_logprobs"][place + 1].values()) == pytest.approx(expected[place].max().item(), abs=1e-5, rel=1e-6)
    assert all(
        max(top.values()) == value for top, value in zip(found["top_logprobs"][4:], found["token_logprobs"][4:], strict=True)
    )
    for token, offset in zip(found["tokens"], found["text_offset"], strict=True):
        assert token.startswith("bytes:\\x") or text[offset:].startswith(token)
    assert found["tokens"][1:3] == ["bytes:\\xc3", "bytes:\\xa9"] and found["text_offset"][:4] == [0, 1, 1, 2]
    chunks = client.get_events("/v1/completions", body | {"stream": True})[:-1]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == text
    for name in found:
        assert [value for chunk in chunks for value in chunk["choices"][0]["logprobs"][name]] == found[name]
    stopped = client.get("/v1/completions", {"prompt": "f(", "logprobs": 0, "stop": "é", **GREEDY})["choices"][0]
    assert stopped["text"] == "a, " and stopped["logprobs"]["tokens"] == ["a", ",", " "]


def test_best_of_returns_the_most_probable_samples(client):
    fields = {"prompt": "x", "temperature": 40.0, "max_tokens": 6, "seed": 3, "logprobs": 0}
    every = client.get("/v1/completions", fields | {"n": 6})["choices"]
    best = client.get("/v1/completions", fields | {"n": 2, "best_of": 6})["choices"]
    ordered = sorted(every, key=lambda choice: sum(choice["logprobs"]["token_logprobs"]), reverse=True)
    assert len({choice["text"] for choice in every}) > 2
    assert [choice["text"] for choice in best] == [choice["text"] for choice in ordered[:2]]


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"temperature": -1}, "temperature", "temperature (-1.0) must be"),
        ({"temperature": "hot"}, "temperature", "valid number"),
        ({"top_p": 1.5}, "top_p", "top_p (1.5) must be"),
        ({"max_tokens": -1}, "max_tokens", "max_tokens (-1) must be at least 0"),
        ({"max_tokens": "16"}, "max_tokens", "valid integer"),
        ({"max_tokens": True}, "max_tokens", "valid integer"),
        ({"n": 0}, "n", "n (0) must be at least 1"),
        ({"n": 10_000}, "prompt", "10,000 completions"),
        ({"n": 2, "best_of": 1}, "best_of", "at least n (2)"),
        ({"best_of": 2, "stream": True}, "best_of", "in a stream"),
        ({"logprobs": 99}, "logprobs", "from 0 to 20"),
        ({"stop": [1]}, "stop", "valid"),
        ({"stop": ""}, "stop", "empty string"),
        ({"stop": 200 * ["x"]}, "stop", "at most 128 strings"),
        ({"logit_bias": {"1": "x"}}, "logit_bias", "and a number or false"),
        ({"logit_bias": {"70000": 1}}, "logit_bias", "has the token id 70000"),
        ({"stream": "yes"}, "stream", "valid boolean"),
        ({"prompt": 5}, "prompt", "prompt must be a text"),
        ({"prompt": []}, "prompt", "not empty"),
        ({"prompt": [1, 0.5]}, "prompt", "prompt must be a text"),
        ({"prompt": [9999]}, "prompt", "ids are 0 to 258"),
        ({"prompt": "\ud800"}, "prompt", "lone surrogate"),
        ({"prompt": 100 * "x"}, "prompt", "has 100 tokens, but the model's context of 64 tokens"),
        ({"prompt": 1_000_000 * "x"}, "prompt", "1,000,000 characters"),
    ],
)
def test_a_wrong_field_is_refused_with_its_name(client, fields, param, message):
    status, error = client.get_error("/v1/completions", {"prompt": "x", **fields})
    assert (status, error["type"], error["param"], error["code"]) == (400, "invalid_request_error", param, None)
    assert message in error["message"]


def test_null_is_the_default_and_unknown_fields_are_ignored(client):
    body = {"prompt": "f(", "max_tokens": None, "stop": None, "suffix": None, "user": "u", "guided_json": {}, **GREEDY}
    assert client.get("/v1/completions", body)["choices"][0]["text"] == COMPLETION
    assert client.get("/v1/completions", {"prompt": "x", "max_tokens": 3.0, **GREEDY})["choices"][0]["text"] == "..."
    assert client.get("/v1/completions", {"max_tokens": 1, **GREEDY})["choices"][0]["text"] == "(", "a new document"


def test_copilots_addresses_answer(client):
    body = json.dumps({"model": "fastertransformer", "prompt": "f(", **GREEDY}).encode()
    for engine in ("codegen", "copilot-codex"):
        assert client.get(f"/v1/engines/{engine}/completions", body)["choices"][0]["text"] == COMPLETION
    assert client.get("/copilot_internal/v2/token")["token"]


TABBY = {
    "model": "m",
    "prompt": "f(",
    "suffix": None,
    "max_tokens": 20,
    "temperature": 0.0,
    "stream": True,
    "presence_penalty": 0.0,
}
CONTINUE = {"model": "m", "prompt": "f(", "max_tokens": 20, "temperature": 0.0, "top_p": 1, "stream": True,
            "stop": ["/src/", "#- coding: utf-8", "```", "\n\n\n"], "frequency_penalty": 0, "presence_penalty": 0}  # fmt: skip
MINUET = {"model": "m", "prompt": "f(", "suffix": "", "stream": True, "max_tokens": 20, "temperature": 0, "stop": ["\n\n"]}


@pytest.mark.parametrize("fields", [TABBY, CONTINUE, MINUET])
@pytest.mark.parametrize("path", ["/completions", "/v1/completions"])
def test_streams_of_editors_have_a_text_in_each_event_and_a_reason_in_the_last(client, path, fields):
    *chunks, end = client.get_events(path, fields)
    assert end == "[DONE]" and "".join(chunk["choices"][0]["text"] for chunk in chunks) == COMPLETION
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-2:] == [None, "stop"]


def test_lm_evals_batch_has_one_entry_more_than_each_prompt(client, scripted):
    prompts = [scripted.tokenizer.encode(text) for text in ("f(", "x = (", "é")]
    body = {"model": "m", "prompt": prompts, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True}
    for choice, ids in zip(client.get("/v1/completions", body)["choices"], prompts, strict=True):
        assert all(len(values) == len(ids) + 1 for values in choice["logprobs"].values())
