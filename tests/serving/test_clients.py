"""Requests of editors and libraries, against our server and llama.cpp's with the same model: one suite for both.

llama.cpp's server is `llama-server` on the PATH, or NEOX_CODE_TEST_LLAMA_SERVER.
"""

import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
from pathlib import Path

import openai
import pytest
import torch
from scripted_checkpoint import COMPLETION, CONTEXT_LENGTH, KEYS, scripted_gpt, write_checkpoint, write_vocabulary
from serving.conftest import Client, serve

from neox_code.commands.convert import main
from neox_code.config.model import ModelConfig
from neox_code.generation.loading import LoadedModel

LLAMA_SERVER = os.environ.get("NEOX_CODE_TEST_LLAMA_SERVER") or shutil.which("llama-server")
FURTHER = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "~~")
"""Infilling tokens, after which dots follow, and the one merge without which llama.cpp loads no vocabulary."""


@pytest.fixture(scope="module", params=["ours", "llama.cpp"])
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    if request.param == "ours":
        tokenizer = write_vocabulary(folder, *FURTHER)
        loaded = LoadedModel(
            scripted_gpt(tokenizer), tokenizer, ModelConfig(**KEYS), torch.device("cpu"), torch.float32, Path("global_step1")
        )
        with serve(loaded) as client:
            yield client
        return
    if LLAMA_SERVER is None:
        pytest.skip("no llama-server is on the PATH, and NEOX_CODE_TEST_LLAMA_SERVER names none")
    write_checkpoint(folder, *FURTHER)
    keys = KEYS | {"vocab_file": folder / "vocab.json", "merge_file": folder / "merges.txt"}
    settings = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
    assert main([str(folder / "checkpoints"), str(folder / "model.gguf"), "--to", "gguf", *settings]) == 0
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [LLAMA_SERVER, "-m", folder / "model.gguf", "--port", str(port), "-c", str(CONTEXT_LENGTH), "-np", "1", "--temp", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        client, end = Client(None, port), time.monotonic() + 60
        while True:
            try:
                client.get("/health")
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.05)
        yield client
        process.kill()


PHASES = [f"timings/{phase}_{unit}" for phase in ("prompt", "predicted") for unit in ("n", "ms", "per_token_ms", "per_second")]
VIM = {
    "id_slot": 0,
    "input_prefix": "x\n",
    "input_suffix": ")\nend\n",
    "input_extra": [{"text": "A\n", "time": [1, 2], "filename": "a.py"}],
    "prompt": "ab",
    "n_predict": 4,
    "stop": [],
    "n_indent": 0,
    "top_k": 40,
    "top_p": 0.9,
    "samplers": ["top_k", "top_p", "infill"],
    "stream": False,
    "cache_prompt": True,
    "t_max_prompt_ms": 100_000,
    "t_max_predict_ms": 100_000,
    "response_fields": ["content", *PHASES, "truncated", "tokens_cached"],
}


def test_llama_vim_finds_content_and_timings_with_its_own_pattern(server):
    raw = server.get_text("/infill", VIM)
    assert re.match(r"\s*{", raw) and re.search(r'"content"\s*:"', raw)
    answer = server.get("/infill", VIM)
    assert set(answer) == set(VIM["response_fields"]) and answer["content"] == "...." and answer["truncated"] is False
    assert (answer["timings/predicted_n"], answer["timings/prompt_n"]) == (4, 1)
    assert server.get("/infill", VIM | {"n_predict": 0, "t_max_predict_ms": 1, "response_fields": [""]}) == {}


def test_an_answer_and_the_events_of_a_stream_have_the_fields_of_llama_cpp(server):
    fields = {"prompt": "f(", "n_predict": 20, "n_probs": 1, "temperature": 0, "stop": ["q"]}
    whole = server.get("/completion", fields)
    assert whole["content"] == COMPLETION and (whole["stop"], whole["stop_type"], whole["stopping_word"]) == (True, "eos", "")
    numbers = {"tokens_predicted", "tokens_evaluated", "tokens_cached"}
    assert numbers | {"index", "id_slot", "model", "tokens", "generation_settings", "prompt", "has_new_line", "timings"} <= set(
        whole
    )
    assert (whole["tokens_evaluated"], whole["truncated"], whole["has_new_line"]) == (2, False, True)
    first = whole["completion_probabilities"][0]
    assert list(first) == ["id", "token", "bytes", "logprob", "top_logprobs"] and first["bytes"] == [97]
    assert list(first["top_logprobs"][0]) == ["id", "token", "bytes", "logprob"]
    *events, last = (event for event in server.get_events("/completion", fields | {"stream": True}))
    assert "".join(event["content"] for event in events) == COMPLETION and (last["content"], last["stop"]) == ("", True)
    assert all(event["stop"] is False and event["tokens"] and "completion_probabilities" in event for event in events[:-1])
    cut = server.get("/completion", {"prompt": "f(", "temperature": 0, "stop": ["é"]})
    assert (cut["content"], cut["stop_type"], cut["stopping_word"]) == ("a, ", "word", "é")


TABBY = {"seed": 2**63 - 1, "prompt": "f(", "n_predict": 20, "temperature": 0.0, "stream": True, "penalty_last_n": 0,
         "presence_penalty": 0.0}  # fmt: skip
CONTINUE = TABBY | {"mirostat": 0, "top_k": 1, "seed": -1, "repeat_penalty": 1.0}


@pytest.mark.parametrize("fields", [TABBY, CONTINUE])
@pytest.mark.parametrize("path", ["/completion", "/completions"])
def test_tabby_and_continue_read_each_event_of_a_stream(server, path, fields):
    events = server.get_events(path, fields)
    assert "".join(event["content"] for event in events) == COMPLETION
    assert [event["stop"] for event in events] == [False] * (len(events) - 1) + [True]


def test_openais_client_reads_texts_streams_and_errors(server):
    fields = {"model": "any", "prompt": "f(", "max_tokens": 20, "temperature": 0}
    address = {"base_url": f"{server.url}/v1", "api_key": "none", "max_retries": 0}
    with openai.OpenAI(**address, _strict_response_validation=True) as client:
        answer = client.completions.create(**fields)
        assert (answer.choices[0].text, answer.choices[0].finish_reason) == (COMPLETION, "stop")
        assert answer.usage.prompt_tokens == 2
        assert client.completions.create(**fields | {"max_tokens": 2}).choices[0].finish_reason == "length"
        assert client.completions.create(**fields, stop=["é"]).choices[0].text == "a, "
        with pytest.raises(openai.BadRequestError):
            client.completions.create(**fields | {"temperature": "hot"})
        assert len(list(client.models.list())) == 1
    with openai.OpenAI(**address) as client:  # the schema of strict validation has no null as finish_reason
        chunks = list(client.completions.create(**fields, stream=True, stream_options={"include_usage": True}))
        assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == COMPLETION
        assert chunks[-1].usage.prompt_tokens == 2


def test_tokens_health_and_properties_are_read_by_llama_vscode(server):
    ids = server.get("/tokenize", {"content": "a(é"})["tokens"]
    assert server.get("/detokenize", {"tokens": ids})["content"] == "a(é" and len(ids) == 4
    pieces = server.get("/tokenize", {"content": "a(é", "with_pieces": True})["tokens"]
    assert [each["piece"] for each in pieces] == ["a", "(", [0xC3], [0xA9]]
    assert server.get("/health") == {"status": "ok"}
    properties = server.get("/props")
    assert properties["default_generation_settings"]["n_ctx"] == CONTEXT_LENGTH and properties["total_slots"] >= 1
    assert {"id", "n_ctx", "speculative", "is_processing"} <= set(server.get("/slots")[0])
    status, error = server.get_error("/completion", {"prompt": "x", "n_predict": "x"})
    assert (status, error["code"], error["type"]) == (400, 400, "invalid_request_error")
