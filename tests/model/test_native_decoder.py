"""Tokens that compiled code reads, against one plain pass of torch, and alone against beside others."""

import dataclasses

import pytest
import torch
from model.test_variants import VARIANTS, make_tokens, make_variant

from neox_code.config.model import ModelConfig
from neox_code.generation.loading import prepare_for_inference
from neox_code.model.gpt import GPT
from neox_code.model.kv_cache import CacheView, RowCache
from neox_code.native_library import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler")

MODELS = {name: make_variant(name) for name in VARIANTS}
for name in ("relu", "softsign", "silu", "geglu", "glu", "bilinear"):
    MODELS[name] = dataclasses.replace(MODELS["rotary"], activation=name, intermediate_size=288)
MODELS["tanh gelu"] = dataclasses.replace(MODELS["rotary"], bias_gelu_fusion=True)
MODELS["tied"] = dataclasses.replace(MODELS["llama"], no_weight_tying=False)
MODELS["parallel residual with a gate"] = dataclasses.replace(MODELS["gated"], gpt_j_residual=True)
models = pytest.mark.parametrize("name", MODELS)

COUNTS = [(20, 13), *[(1, 1)] * 7, (10, 1), (3, 19)]
"""Tokens of two rows that each pass reads."""


def read_in_passes(gpt: GPT, model: ModelConfig, texts: torch.Tensor, counts: list[tuple[int, ...]]) -> torch.Tensor:
    """Return the logits of all tokens of the rows, [rows, S, V]."""
    dtype = next(gpt.parameters()).dtype
    caches = [RowCache(model, dtype, capacity=8) for _ in texts]
    found: list[list[torch.Tensor]] = [[] for _ in texts]
    for numbers in counts:
        pieces = [row[cache.length :][:count] for row, cache, count in zip(texts, caches, numbers, strict=True)]
        logits_1SV = gpt.exact_logits(gpt.hidden(torch.cat(pieces)[None], CacheView(caches, numbers)))
        for row, part in zip(found, logits_1SV[0].split(numbers), strict=True):
            row.append(part)
    return torch.stack([torch.cat(parts) for parts in found])


@models
@torch.inference_mode()
def test_logits_equal_those_of_a_plain_pass(build_gpt, name):
    gpt, texts = build_gpt(MODELS[name]), make_tokens()
    expected = gpt(texts)
    prepare_for_inference(gpt, torch.device("cpu"))
    assert gpt.decoder is not None
    torch.testing.assert_close(read_in_passes(gpt, MODELS[name], texts, COUNTS), expected, atol=1e-5, rtol=0)


@models
@pytest.mark.parametrize("kind", ["fp32", "bf16", "8-bit"])
@torch.inference_mode()
def test_a_token_has_the_same_bits_beside_any_others_and_with_any_number_of_threads(build_gpt, name, kind):
    """Read a text one token at a time, in pieces beside another text, and in pieces of eight tokens with three threads."""
    gpt, texts = build_gpt(MODELS[name]), make_tokens()
    gpt = prepare_for_inference(gpt.bfloat16() if kind == "bf16" else gpt, torch.device("cpu"), kind == "8-bit")
    assert gpt.decoder is not None
    alone = read_in_passes(gpt, MODELS[name], texts[:1], [(1,)] * 40)
    counts = [(3, 2), (8, 8), (6, 7), (1, 8), (8, 1), (8, 8), (6, 6)]
    assert torch.equal(read_in_passes(gpt, MODELS[name], texts, counts)[:1], alone)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(read_in_passes(gpt, MODELS[name], texts[:1], [(8,)] * 5), alone)
    finally:
        torch.set_num_threads(threads)


@models
@torch.inference_mode()
def test_rounding_to_bf16_and_to_8_bits_costs_no_more_than_in_torch(build_gpt, name):
    gpt, texts = build_gpt(MODELS[name]), make_tokens()
    exact = gpt(texts)
    for dtype, load_in_8bit in ((torch.bfloat16, False), (torch.float32, True)):
        rounded = prepare_for_inference(build_gpt(MODELS[name], dtype), torch.device("cpu"), load_in_8bit)
        ours, torchs = read_in_passes(rounded, MODELS[name], texts, [(8, 8)] * 5), rounded(texts).float()
        assert (ours - exact).norm() < 1.1 * (torchs - exact).norm() < 0.1 * exact.norm()


@pytest.mark.parametrize("kind", ["fp32", "bf16", "8-bit"])
@torch.inference_mode()
def test_a_long_prompt_has_the_same_bits_in_one_pass_in_chunks_and_token_by_token(build_gpt, kind):
    """Read 600 tokens beside shorter texts, in pieces with two threads, and one by one; compare them with torch's plain pass."""
    model = dataclasses.replace(MODELS["alibi of six heads in groups"], kv_channels=80, max_position_embeddings=640)
    gpt = build_gpt(model)
    texts = torch.randint(0, 250, (3, 600), generator=torch.Generator().manual_seed(1))
    exact = gpt(texts[:1])
    gpt = prepare_for_inference(gpt.bfloat16() if kind == "bf16" else gpt, torch.device("cpu"), kind == "8-bit")
    whole = read_in_passes(gpt, model, texts[:1], [(600,)])
    assert (whole - exact).norm() < (1e-5 if kind == "fp32" else 0.1) * exact.norm()
    assert torch.equal(read_in_passes(gpt, model, texts[:1], [(1,)] * 600), whole)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(read_in_passes(gpt, model, texts, [(9, 7, 100), (100, 93, 1), (491, 500, 499)])[:1], whole)
    finally:
        torch.set_num_threads(threads)
