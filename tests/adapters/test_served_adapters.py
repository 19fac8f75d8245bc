"""Adapters of others in use: merged by generate and convert, several served from one base, refused for another base."""

import dataclasses

import pytest
import torch
from random_base import write_random_adapter, write_random_base
from serving.conftest import serve

from neox_code.adapters.files import read_adapter
from neox_code.commands.convert import main as convert_main
from neox_code.config.neox import NeoXConfig
from neox_code.errors import CheckpointError, ConfigError
from neox_code.generation.engine import Engine
from neox_code.generation.loading import load_model
from neox_code.generation.request import Request

LLAMA = {"norm": "rmsnorm", "activation": "swiglu", "use_bias_in_attn_linear": False, "num_kv_heads": 2}
PROMPTS = ((5, 6, 7, 8), (300, 4, 9), (17, 17, 18, 30, 31, 32))


@pytest.fixture(params=["fp32", "bfloat16"])
def config(request, job, tmp_path):
    """A base with three adapters, one of them with DoRA."""
    made = NeoXConfig.load([job(**LLAMA, load=str(tmp_path / "base"), precision=request.param)])
    write_random_base(made, tmp_path / "base", 640)
    for seed, name in enumerate(("lua", "kotlin", "r")):
        keys = {"lora_rank": 4, "lora_alpha": 8, "use_dora": name == "kotlin", "save": str(tmp_path / name)}
        write_random_adapter(made.replace(**keys, precision="fp32"), tmp_path / name / "adapter", 640, seed)
    return made


def complete(loaded, pairs):
    """The tokens for pairs of a prompt and an adapter, all in one batch."""
    engine = Engine(loaded)
    rows = [engine.add(Request(prompt, 12, adapter=adapter, ignore_eod=True))[0] for prompt, adapter in pairs]
    while any(row.stop_reason is None for row in rows):
        engine.step()
    return [tuple(row.tokens) for row in rows]


def test_rows_of_several_adapters_in_one_batch_equal_those_of_each_alone(config, tmp_path):
    folders = [str(tmp_path / name / "adapter") for name in ("lua", "kotlin", "r")]
    loaded = load_model(config.replace(adapters=folders), serves=True)
    names = (None, "lua", "kotlin", "r")
    pairs = [(prompt, name) for prompt in PROMPTS[:2] for name in names]
    together = complete(loaded, pairs)
    assert together == [complete(loaded, [pair])[0] for pair in pairs]
    assert together == complete(loaded, pairs[::-1])[::-1]
    assert len(set(together[:4])) == 4
    assert together[::4] == complete(load_model(config), [(prompt, None) for prompt in PROMPTS[:2]])
    if config.model.precision == "fp32":  # the merged weights are rounded to bf16
        for place, folder in enumerate(folders, 1):
            merged = load_model(config.replace(adapters=[folder]))
            assert together[place::4] == complete(merged, [(prompt, None) for prompt in PROMPTS[:2]])


def test_the_model_field_of_a_request_chooses_the_adapter(config, tmp_path):
    loaded = load_model(config.replace(adapters=[str(tmp_path / "lua" / "adapter"), str(tmp_path / "r" / "adapter")]), serves=True)
    with serve(loaded) as client:
        assert [entry["id"] for entry in client.get("/v1/models")["data"]] == ["neox-code", "lua", "r"]
        body = {"prompt": list(PROMPTS[0]), "max_tokens": 8, "temperature": 0, "ignore_eos": True}
        answers = {name: client.get("/v1/completions", body | {"model": name}) for name in ("neox-code", "lua", "r")}
        texts = {name: answer["choices"][0]["text"] for name, answer in answers.items()}
        assert len(set(texts.values())) == 3
        assert answers["lua"]["model"] == "lua"
        own = {"prompt": list(PROMPTS[0]), "n_predict": 8, "temperature": 0, "ignore_eos": True, "model": "lua"}
        assert client.get("/completion", own)["content"] == texts["lua"]


def test_convert_merges_and_another_base_is_refused(config, tmp_path):
    if config.model.precision != "fp32":
        pytest.skip("the files do not depend on the precision of the configuration")
    adapter = tmp_path / "kotlin" / "adapter"
    vocabulary = [f"--set=vocab_file={config.data.vocab_file}", f"--set=merge_file={config.data.merge_file}"]
    words = [str(tmp_path / "base"), str(tmp_path / "merged"), "--to", "huggingface", *vocabulary]
    assert convert_main([*words, "--merge-adapter", str(adapter)]) == 0
    merged = load_model(config.replace(load=str(tmp_path / "merged")))
    served = load_model(config.replace(adapters=[str(adapter)]), serves=True)
    tokens = torch.tensor([PROMPTS[2]])
    expected = merged.gpt(tokens)
    with served.apply("kotlin"):
        torch.testing.assert_close(served.gpt(tokens), expected, atol=1e-5 * expected.abs().max().item(), rtol=0)
    other = write_random_base(config, tmp_path / "other", 640)
    path = other / "layer_02-model_00-model_states.pt"
    saved = torch.load(path)
    saved["mlp.dense_h_to_4h.weight"] *= 1.001  # one matrix of the base, trained a little further
    torch.save(saved, path)
    expected = r"kotlin/adapter is an adapter for another base than .*other: 1 of \d+ weights differ, for example sequential.2.mlp"
    with pytest.raises(CheckpointError, match=expected):
        load_model(config.replace(load=str(other), adapters=[str(adapter)]))
    narrow = dataclasses.replace(config.model, hidden_size=32)
    with pytest.raises(CheckpointError, match=r"this model needs \(.*another base"):
        read_adapter(adapter, narrow)
    with pytest.raises(ConfigError, match="only serve takes several"):
        load_model(config.replace(adapters=[str(adapter), str(tmp_path / "lua" / "adapter")]))
    with pytest.raises(CheckpointError, match="it is no adapter"):
        load_model(config.replace(adapters=[str(tmp_path / "base")]))
