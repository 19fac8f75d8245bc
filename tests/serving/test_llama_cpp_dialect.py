"""llama.cpp's dialect as llama.vim, llama.vscode, Tabby and Continue send and read it."""

import re
from pathlib import Path

import pytest
import torch
from infilling_vocabularies import cl100k
from scripted_checkpoint import COMPLETION, CONTEXT_LENGTH, KEYS

from neox_code.config.model import ModelConfig
from neox_code.generation.engine import Engine
from neox_code.generation.infilling import ContextFile, build_infilling_prompt
from neox_code.generation.loading import LoadedModel
from neox_code.generation.request import Request
from neox_code.generation.token_healing import TokenHealing
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid

PREFIX, MIDDLE, SUFFIX = "import os\n\n\ndef f(x):\n", "    return ", "\n\n\nprint(f(1))\n"
TIMINGS = [f"timings/{phase}_{unit}" for phase in ("prompt", "predicted") for unit in ("n", "ms", "per_token_ms", "per_second")]
VIM = {
    "id_slot": 0,
    "input_prefix": PREFIX,
    "input_suffix": SUFFIX,
    "input_extra": [{"text": "A = 1\n", "time": [1, 2], "filename": "a.py"}],
    "prompt": MIDDLE,
    "n_predict": 12,
    "stop": [],
    "n_indent": 0,
    "top_k": 40,
    "top_p": 0.9,
    "samplers": ["top_k", "top_p", "infill"],
    "stream": False,
    "cache_prompt": True,
    "t_max_prompt_ms": 100_000,
    "t_max_predict_ms": 100_000,
    "response_fields": ["content", *TIMINGS, "truncated", "tokens_cached", "no_such_field"],
}


def complete_greedily(loaded, ids, maximum_tokens=12) -> str:
    engine = Engine(loaded)
    kept, repeat_bytes = engine.healing.split(ids)
    (row,) = engine.add(Request(tuple(kept), maximum_tokens, repeat_bytes=repeat_bytes))
    while row.stop_reason is None:
        engine.step()
    return row.text


def test_llama_vim_finds_the_content_of_a_real_infilling(infilling_client, with_infilling):
    warm = infilling_client.get("/infill", VIM | {"n_predict": 0, "t_max_predict_ms": 1, "response_fields": [""]})
    assert warm == {}
    raw = infilling_client.get_text("/infill", VIM)
    assert re.search(r'"content"\s*:"', raw)
    answer = infilling_client.get("/infill", VIM)
    assert list(answer) == [name for name in VIM["response_fields"] if name != "no_such_field"]
    healing = TokenHealing(with_infilling.tokenizer)
    prompt = build_infilling_prompt(healing, PREFIX, SUFFIX, 400, [ContextFile("a.py", "A = 1\n")], heals=False)
    assert prompt.reads_suffix and not any(prompt.left_out.values())
    ids = [*prompt.ids, *with_infilling.tokenizer.encode(MIDDLE)]
    assert complete_greedily(with_infilling, ids).startswith(answer["content"]) and answer["content"]
    whole = infilling_client.get("/infill", VIM | {"response_fields": []})
    kept, repeated = healing.split(ids)
    assert (whole["prompt"], repeated) == (with_infilling.tokenizer.decode(kept), b" ")
    assert (answer["timings/prompt_n"], whole["timings"]["cache_n"]) == (1, len(kept) - 1), "the prompt had been read"
    assert answer["tokens_cached"] == len(kept) + whole["tokens_predicted"], "the keys and values of all but the last token"
    typed = infilling_client.get("/infill", VIM | {"prompt": MIDDLE + "x", "response_fields": ["timings/cache_n"]})
    assert typed == {"timings/cache_n": len(kept) - 1}, "a key changes nothing before its own line"
    assert infilling_client.get("/props")["infill"]["reads_suffix"] is True


def test_a_template_of_infilling_tokens_in_the_prompt_is_read_as_tokens(infilling_client, with_infilling):
    text = "<|fim_prefix|>{}<|fim_suffix|>{}<|fim_middle|>"
    found = infilling_client.get("/completion", {"prompt": text.format("a\n", "\nb"), "n_predict": 12})
    tokenizer = with_infilling.tokenizer
    ids = build_infilling_prompt(TokenHealing(tokenizer), "a\n", "\nb", 400, heals=False).ids
    assert (found["prompt"], found["tokens_evaluated"]) == (tokenizer.decode(ids), len(ids))
    assert found["content"] == complete_greedily(with_infilling, ids)
    named = infilling_client.get("/v1/completions", {"prompt": "x = '<|fim_prefix|>'", "max_tokens": 1})
    assert named["usage"]["prompt_tokens"] == len("x = '<|fim_prefix|>'"), "a name alone is text"


def test_files_beside_it_change_an_infilling_and_a_long_one_loses_text_instead_of_failing(infilling_client):
    answer = infilling_client.get("/infill", VIM | {"input_extra": [], "response_fields": []})
    assert "A = 1" not in answer["prompt"]
    answer = infilling_client.get("/infill", VIM | {"input_prefix": 300 * "a = 1\n" + PREFIX, "response_fields": []})
    assert PREFIX in answer["prompt"] and SUFFIX in answer["prompt"] and 0 < answer["prompt"].count("a = 1") < 300


def test_without_infilling_tokens_the_prefix_is_completed_up_to_the_suffix(client):
    fields = {"input_prefix": "x\n", "prompt": "f(", "input_suffix": "):\nend\n", "n_predict": 20}
    answer = client.get("/infill", fields)
    assert (answer["content"], answer["stop_type"]) == (COMPLETION[: COMPLETION.index(")")], "word")
    properties = client.get("/props")
    assert properties["infill"]["reads_suffix"] is False and "suffix" in properties["infill"]["note"]
    assert properties["default_generation_settings"]["n_ctx"] == CONTEXT_LENGTH
    same = client.get("/v1/completions", {"prompt": "x\nf(", "suffix": "):\nend\n", "max_tokens": 20, "temperature": 0})
    assert same["choices"][0]["text"] == answer["content"]


def test_completion_takes_prompts_stops_copies_and_biases(client, scripted):
    dot = scripted.tokenizer.encode(".")[0]
    answer = client.get("/completion", {"prompt": "f(", "stop": ["é"], "n_predict": 20, "return_tokens": True})
    assert (answer["content"], answer["stop_type"], answer["stopping_word"]) == ("a, ", "word", "é")
    assert scripted.tokenizer.decode(answer["tokens"]).startswith("a, é")
    several = client.get("/completion", {"prompt": ["f(", [*scripted.tokenizer.encode("x"), "("]], "n_predict": 20, "n_cmpl": 2})
    assert [each["content"] for each in several] == 4 * [COMPLETION]
    for bias in ({str(dot): False, "#": 90}, [[dot, False], ["#", 90]]):
        assert client.get("/completion", {"prompt": "x", "n_predict": 3, "logit_bias": bias})["content"] == "###"
    assert client.get("/completion", {"prompt": "f(", "n_indent": 1})["content"] == COMPLETION, "a tab"
    assert client.get("/completion", {"prompt": "f(", "n_indent": 2})["content"] == COMPLETION[: COMPLETION.index("\r\n")]
    full = client.get("/completion", {"prompt": "x"})
    assert (full["content"], full["truncated"], full["stop_type"]) == ((CONTEXT_LENGTH - 2) * ".", True, "limit")
    short = client.get("/completion", {"prompt": "x", "t_max_predict_ms": 0.001})
    assert len(short["content"]) < len(full["content"]) and short["stop_type"] == "limit"
    assert client.get("/completion", {"prompt": 60 * "x", "t_max_prompt_ms": 0.001})["content"] == ""


def test_the_probabilities_of_a_completion_are_those_of_openais_dialect(client, scripted):
    fields = {"prompt": "xf(", "temperature": 0.0, "n_probs": 3}
    whole = client.get("/completion", fields)
    entries = whole["completion_probabilities"]
    assert b"".join(bytes(entry["bytes"]) for entry in entries).decode() == whole["content"] == COMPLETION
    expected = client.get("/v1/completions", {"prompt": "xf(", "temperature": 0, "logprobs": 3})["choices"][0]["logprobs"]
    assert [entry["logprob"] for entry in entries] == expected["token_logprobs"][:-1], "all but the end of the document"
    assert [entry["id"] for entry in entries] == scripted.tokenizer.encode(COMPLETION)
    for entry, top in zip(entries, expected["top_logprobs"], strict=False):
        assert list(entry) == ["id", "token", "bytes", "logprob", "top_logprobs"]
        assert [each["logprob"] for each in entry["top_logprobs"]] == list(top.values())
        assert {"id": entry["id"], "logprob": entry["logprob"]}.items() <= entry["top_logprobs"][0].items()
    *events, last = client.get_events("/completion", fields | {"stream": True})
    assert [each for event in events for each in event["completion_probabilities"]] == entries
    assert [token for event in events for token in event["tokens"]] == scripted.tokenizer.encode(COMPLETION)
    assert [events[-1][f"tokens_{name}"] for name in ("predicted", "evaluated")] == [len(entries), 3] and last["tokens"] == []
    cut = client.get("/completion", fields | {"stop": ["é"], "response_fields": ["content", "completion_probabilities"]})
    assert cut == {"content": "a, ", "completion_probabilities": entries[:3]}
    assert "completion_probabilities" not in client.get("/completion", {"prompt": "f("})
    infill = client.get("/infill", {"input_prefix": "f(", "input_suffix": "", "n_probs": 1, "n_predict": 2})
    assert [entry["token"] for entry in infill["completion_probabilities"]] == ["a", ","]


def test_slots_show_what_runs_but_no_text(client):
    slots = client.get("/slots")
    assert [slot["id"] for slot in slots] == list(range(client.get("/props")["total_slots"]))
    assert not any(slot["is_processing"] for slot in slots)


def test_tokens_are_converted_in_both_dialects(client, scripted):
    eod = scripted.tokenizer.eod_id
    ids = scripted.tokenizer.encode("é<|endoftext|>")
    assert client.get("/tokenize", {"prompt": "é(", "add_special_tokens": False})["tokens"] == scripted.tokenizer.encode("é(")
    assert client.get("/tokenize", {"content": "é<|endoftext|>", "parse_special": False})["tokens"] == ids
    assert client.get("/tokenize", {"content": "é<|endoftext|>"})["tokens"] == [*ids[:2], eod]
    pieces = client.get("/tokenize", {"content": "é(", "with_pieces": True})["tokens"]
    assert [each["piece"] for each in pieces] == [[0xC3], [0xA9], "("]
    text = client.get("/detokenize", {"tokens": ids})
    assert text == {"content": "é<|endoftext|>", "prompt": "é<|endoftext|>"}
    info = client.get("/tokenizer_info")
    assert (info["eos_token"], info["chat_template"]) == ("<|endoftext|>", None)
    assert client.get("/tokenize", {"prompt": info["eos_token"]})["tokens"] == [eod]


def test_an_encoding_of_tiktoken_with_unused_ids_is_served(start):
    tokenizer, model = cl100k(), ModelConfig(**KEYS | {"hidden_size": 8, "num_layers": 1})
    gpt = GPT(build_layers(model, tokenizer.vocab_size, tokenizer.vocab_size, single_process_grid(), torch.float32)).eval()
    with start(LoadedModel(gpt, tokenizer, model, torch.device("cpu"), torch.float32, Path("global_step1"))) as client:
        answer = client.get(
            "/completion", {"prompt": "f(", "n_predict": 2, "n_probs": 2, "ignore_eos": True, "logit_bias": {"300": 100}}
        )
        assert len(answer["completion_probabilities"]) == 2, "300 is in a gap"
        assert "each stands for a token" in client.get_error("/completion", {"prompt": [100_270]})[1]["message"]
        assert client.get("/tokenize", {"content": "<|endofprompt|>"})["tokens"] == [100_276]


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/completion", {"prompt": 1}, "prompt"),
        ("/completion", {"prompt": []}, "prompt"),
        ("/completion", {"prompt": [70_000]}, "prompt"),
        ("/completion", {"prompt": "x", "min_p": 2}, "min_p"),
        ("/completion", {"prompt": "x", "repeat_penalty": 0}, "repeat_penalty"),
        ("/completion", {"prompt": "x", "logit_bias": [[1]]}, "logit_bias"),
        ("/completion", {"prompt": "x", "n_cmpl": 0}, "n_cmpl"),
        ("/completion", {"prompt": "x", "n_probs": 101}, "n_probs"),
        ("/infill", {"input_prefix": 5}, "input_prefix"),
        ("/infill", {"input_extra": ["x"]}, "input_extra"),
        ("/infill", {"prompt": ["x"]}, "prompt"),
        ("/tokenize", {"content": []}, "content"),
        ("/detokenize", {"tokens": [-1]}, "prompt"),
    ],
)
def test_a_wrong_field_is_refused_with_its_name_and_the_status_as_code(client, path, fields, param):
    status, error = client.get_error(path, fields)
    assert (status, error["code"], error["type"], error["param"]) == (400, 400, "invalid_request_error", param)
