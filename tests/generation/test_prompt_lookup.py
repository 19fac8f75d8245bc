"""Guessed tokens against the engine without guesses: a model that has learned some code, and real code as prompts."""

from pathlib import Path

import pytest
import torch
from generation.test_engine import GREEDY, RESIDUALS, make_loaded
from torch.nn import functional as F

from neox_code.generation import engine as engine_module
from neox_code.generation import sampling as sampling_module
from neox_code.generation.engine import Engine
from neox_code.generation.loading import LoadedModel, prepare_for_inference
from neox_code.generation.request import Request, SamplingSettings
from neox_code.generation.stop_rules import StopStrings

CONTEXT = 256
WARM = SamplingSettings(temperature=0.3, top_p=0.95)
PENALIZED = SamplingSettings(temperature=0.5, repetition_penalty=1.05, frequency_penalty=0.02)


def read_bytes(module) -> torch.Tensor:
    return torch.tensor([min(byte, 127) for byte in Path(module.__file__).read_bytes()])


@pytest.fixture
def trained(build_gpt, model_config):
    """A model of bytes that has read one module of the package."""
    model = model_config(hidden_size=128, num_layers=2, max_position_embeddings=CONTEXT, **RESIDUALS)
    gpt, code = build_gpt(model), read_bytes(engine_module)
    optimizer, generator = torch.optim.Adam(gpt.parameters(), lr=3e-3), torch.Generator().manual_seed(0)
    for _ in range(80):
        begins = torch.randint(0, len(code) - 97, (8,), generator=generator)
        ids_BS = torch.stack([code[begin : begin + 97] for begin in begins])
        loss = F.cross_entropy(gpt(ids_BS[:, :-1]).flatten(0, 1), ids_BS[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return gpt, model


def complete(loaded: LoadedModel, prompts, lookup_tokens: int, **settings) -> tuple[list[tuple], int]:
    """Return what each row has generated, and the number of passes of the model."""
    engine = Engine(loaded, lookup_tokens=lookup_tokens)
    rows = [row for index, ids in enumerate(prompts) for row in engine.add(Request(tuple(ids), index=index, **settings))]
    passes = 0
    while not engine.is_idle:
        engine.step()
        passes += 1
    assert all(entry.cache.length == len(entry.ids) for entry in engine.prefixes.entries)
    kept = sorted(entry.ids.tolist() for entry in engine.prefixes.entries)
    return [(row.tokens, row.text, row.stop_reason, row.logprobs, kept) for row in rows], passes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_guesses_change_nothing_but_the_number_of_passes(trained, dtype):
    gpt, model = trained
    loaded = make_loaded(prepare_for_inference(gpt.to(dtype), torch.device("cpu")), model, dtype)
    code = read_bytes(sampling_module).tolist()
    prompts = [code[begin : begin + length] for begin, length in ((0, 190), (900, 60), (2000, 120), (3100, 7))]
    stop = (StopStrings(("return",)),)
    for settings in (
        {"sampling": GREEDY},
        {"sampling": WARM},
        {"sampling": PENALIZED, "stop": stop},
        {"sampling": WARM, "num_samples": 2},
    ):
        settings |= {"maximum_tokens": 70, "seed": 5, "top_logprobs": 2 if dtype is torch.bfloat16 else None}
        for batch in (prompts, prompts[:1]):
            plain, plain_passes = complete(loaded, batch, 0, **settings)
            guessed, passes = complete(loaded, batch, 7, **settings)
            assert guessed == plain
            assert passes <= (0.95 if len(batch) == 1 else 1) * plain_passes
