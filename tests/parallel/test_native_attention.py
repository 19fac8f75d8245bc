"""Compiled causal attention against the plain formula in fp64, forward and backward."""

import os
from itertools import starmap

import pytest
import torch
from torch.nn import functional as F

from neox_code.native_library import find_compiler, load_library
from neox_code.parallel import native_attention as module
from neox_code.parallel.native_attention import HeadForm, load_attention, native_attention

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler")
needs_instructions = pytest.mark.skipif(load_attention() is None, reason="this processor has no instructions for bf16 products")

ALL = {"has_norms": True, "has_documents": True}
CASES = {
    "one token": {"length": 1, "heads": 1, "groups": 1, "head_dim": 64},
    "head of 64, several blocks": {"length": 300, "heads": 3, "groups": 3, "head_dim": 64, "half": 32},
    "head of 80, partly rotated, groups": {"length": 200, "heads": 4, "groups": 2, "head_dim": 80, "half": 10},
    "head of 128, norms": {"length": 257, "heads": 2, "groups": 2, "head_dim": 128, "half": 64, "has_norms": True},
    "groups, norms, documents": {
        "length": 130,
        "heads": 6,
        "groups": 2,
        "head_dim": 64,
        "half": 32,
        "has_norms": True,
        "has_documents": True,
    },
    "one group, long documents": {"length": 400, "heads": 2, "groups": 1, "head_dim": 64, "half": 32, "has_documents": True},
    "small head": {"length": 300, "heads": 2, "groups": 2, "head_dim": 8, "half": 2, "has_documents": True},
    "alibi, odd head": {"length": 161, "heads": 2, "groups": 2, "head_dim": 24, "has_documents": True, "has_slopes": True},
}


def compute_plainly(fused, form, rotary, scales, starts, slopes):
    """Return the context [B, S, M], computed step by step in the type of `fused`."""
    if form.is_grouped:
        query, key, value = fused.unflatten(-1, (-1, form.head_dim)).split([form.heads, form.groups, form.groups], -2)
    else:
        query, key, value = fused.unflatten(-1, (form.heads, 3 * form.head_dim)).split(form.head_dim, -1)
    if scales is not None:
        query, key = (F.rms_norm(x, (form.head_dim,), scale, form.epsilon) for x, scale in zip((query, key), scales, strict=True))
    if rotary is not None:
        cos, sin = rotary
        parts = (x.split([cos.shape[-1], cos.shape[-1], form.head_dim - 2 * cos.shape[-1]], -1) for x in (query, key))
        query, key = starmap(lambda a, b, rest: torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1), parts)
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    key, value = (x.repeat_interleave(form.heads // form.groups, 1) for x in (key, value))
    distance = torch.arange(fused.shape[1]) - torch.arange(fused.shape[1])[:, None]
    scores = query @ key.transpose(-1, -2) / form.head_dim**0.5
    if slopes is not None:
        scores = scores + fused.new_tensor(slopes)[:, None, None] * distance
    hidden = (distance > 0)[None] if starts is None else (distance > 0) | (torch.arange(fused.shape[1]) < starts[:, :, None])
    return (scores.masked_fill(hidden[:, None], -torch.inf).softmax(-1) @ value).transpose(1, 2).flatten(2)


def compute_errors(length, heads, groups, head_dim, half=0, has_norms=False, has_documents=False, has_slopes=False):
    """Return the relative errors of the context, and of the gradients of the fused projection and of the scales of the norms."""
    torch.manual_seed(1)
    form = HeadForm(heads, groups, head_dim, groups < heads, 1e-5)
    rows = torch.randn(length, 2, (heads + 2 * groups) * head_dim).bfloat16()
    inputs = [rows.transpose(0, 1)]  # as with sequence parallelism
    angles = torch.outer(torch.arange(length), 10000 ** -(torch.arange(half) / half)).bfloat16()[:, None]
    rotary = (angles.cos(), angles.sin()) if half else None
    if has_documents:
        starts = torch.where(torch.rand(2, length) < 0.02, torch.arange(length), 0).cummax(1).values.int()
        rotary = rotary and tuple(table.expand(2, length, 1, half) for table in rotary)
    else:
        starts = None
    inputs += [(1 + 0.3 * torch.randn(head_dim)).bfloat16() for _ in range(2 * has_norms)]
    slopes = [0.5 ** (head + 1) for head in range(heads)] if has_slopes else None

    def compute(function, dtype):
        given = [tensor.detach().to(dtype).requires_grad_() for tensor in inputs]
        exact_rotary = rotary and tuple(table.to(dtype) for table in rotary)
        context = function(given[0], form, exact_rotary, tuple(given[1:]) or None, starts, slopes)
        upstream = torch.randn(context.shape, generator=torch.Generator().manual_seed(2)).bfloat16()
        return context.detach(), *torch.autograd.grad(context, given, upstream.to(dtype))

    pairs = zip(compute(native_attention, torch.bfloat16), compute(compute_plainly, torch.float64), strict=True)
    return [((ours.double() - exact).norm() / exact.norm()).item() for ours, exact in pairs]


@needs_instructions
@pytest.mark.parametrize("name", CASES)
def test_context_and_gradients_are_those_of_the_plain_formula_within_the_rounding_of_bf16(name):
    assert max(compute_errors(**CASES[name])) < 2**-7.5


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the flags are those of x86")
@pytest.mark.parametrize(("flags", "is_fast"), [("-mno-amx-tile -mno-amx-bf16", True), ("-march=x86-64-v3", False)])
@needs_instructions
def test_processors_without_tiles_and_without_bf16_compute_the_same(tmp_path, monkeypatch, flags, is_fast):
    compiler = tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\nexec {find_compiler()} "$@" {flags} -O1\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library = load_library(module.SOURCE, flags)
    assert library.is_fast() == is_fast
    monkeypatch.setattr(module, "load_attention", lambda: library)
    assert max(max(compute_errors(**case)) for case in CASES.values()) < 2**-7.5


@needs_instructions
def test_results_do_not_depend_on_the_number_of_threads(monkeypatch):
    fused = torch.randn(2, 300, 3 * 3 * 32).bfloat16().requires_grad_()
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        context = native_attention(fused, HeadForm(3, 3, 32, False))
        results.append((context, *torch.autograd.grad(context, fused, torch.ones_like(context))))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@needs_instructions
def test_a_gradient_that_is_not_finite_is_kept():
    fused = torch.randn(1, 70, 3 * 32).bfloat16().requires_grad_()
    context = native_attention(fused, HeadForm(1, 1, 32, False))
    upstream = torch.zeros_like(context)
    upstream[0, 60, 3] = torch.inf
    assert not torch.autograd.grad(context, fused, upstream)[0].isfinite().all()


def test_other_tensors_have_the_layers_of_torch(monkeypatch):
    assert not module.is_native_attention(torch.empty(1, 2, 96))
    assert not module.is_native_attention(torch.empty(1, 96, 2, dtype=torch.bfloat16).transpose(1, 2))
    monkeypatch.setattr(module, "load_attention", lambda: None)
    assert not module.is_native_attention(torch.empty(1, 2, 96, dtype=torch.bfloat16))
