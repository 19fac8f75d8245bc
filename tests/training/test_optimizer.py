"""Optimizers against their published formulas, computed here with numpy, and in a run that stops and goes on."""

import dataclasses
import sys
from functools import partial

import numpy as np
import pytest
import torch
from distributed_runs import losses_of
from transformers.optimization import Adafactor

from neox_code.config.model import ModelConfig
from neox_code.config.optimizer import OptimizerConfig
from neox_code.errors import ConfigError
from neox_code.machine import cpu_computes_bf16
from neox_code.parallel.grid import single_process_grid
from neox_code.training import optimizer as optimizers
from neox_code.training.optimizer import Lion

RATE, DECAY = 0.01, 0.3
MODEL = ModelConfig(num_layers=1, hidden_size=24, num_attention_heads=4, max_position_embeddings=8)


def build_optimizer(section, parameters, model=MODEL):
    named = parameters if isinstance(parameters[0], tuple) else [(f"weight_{index}", each) for index, each in enumerate(parameters)]
    optimizer = optimizers.build_optimizer(section, named, model, single_process_grid())
    for group in optimizer.param_groups:  # as the engine does
        group["lr"] = section.lr * group["lr_ratio"]
    return optimizer


def lion(weight, momentum, gradient, _, betas=(0.9, 0.99)):
    """Algorithm 2 of arXiv 2302.06675."""
    direction = np.sign(betas[0] * momentum + (1 - betas[0]) * gradient)
    return weight - RATE * (direction + DECAY * weight), betas[1] * momentum + (1 - betas[1]) * gradient


def sgd(weight, momentum, gradient, step, share=0.8):
    """Momentum in the form of Sutskever et al. (2013) that keeps the rate outside, with decay in the gradient."""
    gradient = gradient + DECAY * weight
    momentum = share * momentum + gradient if step else gradient
    return weight - RATE * momentum, momentum


def adam(weight, moments, gradient, step, betas=(0.9, 0.95), eps=1e-8):
    """Algorithm 2 of arXiv 1711.05101: decay is decoupled."""
    first, second = moments if step else (0.0, 0.0)
    first, second = betas[0] * first + (1 - betas[0]) * gradient, betas[1] * second + (1 - betas[1]) * gradient**2
    unbiased = first / (1 - betas[0] ** (step + 1)), second / (1 - betas[1] ** (step + 1))
    return weight - RATE * (unbiased[0] / (np.sqrt(unbiased[1]) + eps) + DECAY * weight), (first, second)


@pytest.mark.parametrize(
    ("formula", "settings"),
    [
        (lion, {"optimizer_type": "lion"}),
        (sgd, {"optimizer_type": "sgd", "momentum": 0.8}),
        (adam, {"optimizer_type": "adam", "betas": (0.9, 0.95)}),
        (adam, {"optimizer_type": "adamw", "betas": (0.9, 0.95)}),
    ],
)
def test_ten_steps_of_lion_equal_the_published_formula(formula, settings):
    random = np.random.default_rng(1)
    weight = random.normal(size=(3, 5))
    parameter = torch.nn.Parameter(torch.tensor(weight))
    optimizer = build_optimizer(OptimizerConfig(lr=RATE, weight_decay=DECAY, **settings), [parameter])
    state = np.zeros_like(weight)
    for step in range(10):
        gradient = random.normal(size=weight.shape)
        weight, state = formula(weight, state, gradient, step)
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        np.testing.assert_allclose(parameter.detach().numpy(), weight, rtol=1e-9, atol=1e-12)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon is in torch 2.9 and later")
def test_five_steps_of_muon_equal_torchs_with_each_of_queries_keys_and_values_a_matrix_of_its_own():
    """Two heads shared by four, and heads that share nothing, whose rows are interleaved; the other parameters have AdamW."""
    for kv_heads in (4, 2):
        model = dataclasses.replace(MODEL, num_kv_heads=kv_heads, precision="bfloat16")
        shapes = {
            "2.attention.query_key_value.weight": (24 + 2 * 6 * kv_heads, 24),
            "2.mlp.dense_h_to_4h.weight": (96, 24),
            "2.mlp.dense_4h_to_h.weight": (24, 96),
            "3.attention.dense.weight": (24, 24),
            "4.word_embeddings.weight": (40, 24),
            "5.final_linear.weight": (40, 24),
            "6.norm.weight": (24,),
        }
        generator = torch.Generator().manual_seed(1)
        named = [(name, torch.nn.Parameter(torch.randn(shape, generator=generator))) for name, shape in shapes.items()]
        rates = {"muon_lr": 0.02, "embedding_lr": 0.03, "head_lr": 0.001}
        ours = build_optimizer(
            OptimizerConfig(lr=RATE, weight_decay=DECAY, betas=(0.9, 0.95), optimizer_type="muon", **rates), named, model
        )
        split = partial(split_query_key_value, kv_heads=kv_heads)
        copies = {name: [part.clone() for part in (split(value) if "query" in name else [value.detach()])] for name, value in named}
        adjusted = {"lr": 0.02, "momentum": 0.95, "weight_decay": DECAY, "adjust_lr_fn": "match_rms_adamw"}
        matrices = [torch.nn.Parameter(part) for _, parts in list(copies.items())[:4] for part in parts]
        others = [torch.nn.Parameter(copies[name][0]) for name in list(shapes)[4:]]
        muon = torch.optim.Muon(matrices, **adjusted)
        decays = zip(others, (0.03, 0.001, RATE), (DECAY, DECAY, 0.0), strict=True)
        adam = torch.optim.AdamW(
            [{"params": [each], "lr": lr, "weight_decay": decay} for each, lr, decay in decays], betas=(0.9, 0.95)
        )
        for _ in range(5):
            gradients = []
            for name, parameter in named:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
                gradients += split(parameter.grad) if "query" in name else [parameter.grad]
            for parameter, gradient in zip([*matrices, *others], gradients, strict=True):
                parameter.grad = gradient.clone()
            for optimizer in (ours, muon, adam):
                optimizer.step()
        found = [part for name, value in named for part in (split(value) if "query" in name else [value.detach()])]
        tolerance = 1e-6 if cpu_computes_bf16() else 5e-3  # a CPU that emulates bf16 orthogonalizes in fp32
        for own, peer in zip(found, [*matrices, *others], strict=True):
            torch.testing.assert_close(own, peer.detach(), rtol=0, atol=tolerance)


def split_query_key_value(rows, kv_heads):
    """Return queries, keys and values, head by head: by the rows' order that model.attention describes."""
    heads = rows.detach().view(-1, 6, 24)
    if kv_heads == 4:
        return [torch.cat([heads[3 * head + part] for head in range(4)]) for part in range(3)]
    return [heads[:4].reshape(-1, 24), heads[4 : 4 + kv_heads].reshape(-1, 24), heads[4 + kv_heads :].reshape(-1, 24)]


def test_muon_divides_by_the_gradient_scale_and_keeps_everything_after_a_gradient_that_is_not_finite():
    weights = [torch.nn.Parameter(torch.full((3, 4), 2.0)) for _ in range(2)]
    first, second = (
        build_optimizer(OptimizerConfig(lr=RATE, weight_decay=DECAY, optimizer_type="muon"), [("2.mlp.dense_h_to_4h.weight", each)])
        for each in weights
    )
    gradient = torch.arange(12.0).view(3, 4)
    second.grad_scale, second.found_inf = torch.tensor(8.0), torch.tensor(0.0)
    for optimizer, weight, scale in zip((first, second), weights, (1, 8), strict=True):
        weight.grad = gradient * scale
        optimizer.step()
    assert torch.equal(*weights)
    before, momentum = weights[1].clone(), second.state[weights[1]]["momentum_buffer"].clone()
    second.found_inf.fill_(1.0)
    weights[1].grad = torch.full((3, 4), float("nan"))
    second.step()
    assert torch.equal(weights[1], before) and torch.equal(second.state[weights[1]]["momentum_buffer"], momentum)


def test_lion_skips_weights_without_a_gradient_and_restores_its_state():
    used, unused = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    optimizer = Lion([used, unused], lr=0.5)
    used.grad = torch.tensor([1.0, 0.0])
    assert optimizer.step(lambda: 3.0) == 3.0
    assert used.tolist() == [0.5, 1.0]
    assert unused.tolist() == [1.0, 1.0]
    again = Lion([used, unused], lr=0.5)
    again.load_state_dict(optimizer.state_dict())
    torch.testing.assert_close(again.state[used]["exp_avg"], torch.tensor([0.01, 0.0]))


def test_biases_and_norms_have_no_weight_decay():
    matrix, vector = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
    optimizer = build_optimizer(OptimizerConfig(lr=0.5, weight_decay=0.1, optimizer_type="lion"), [matrix, vector])
    matrix.grad, vector.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    torch.testing.assert_close(matrix.detach(), torch.full((2, 2), 0.95))
    assert vector.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("kind", ["adam", "sgd", "lion"])
def test_eight_bit_states_without_bitsandbytes_name_the_package(monkeypatch, kind):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    section = OptimizerConfig(lr=1.0, optimizer_type=kind, use_bnb_optimizer=True)
    with pytest.raises(ConfigError, match=r"package bitsandbytes is missing\. Run: pip install"):
        build_optimizer(section, [torch.nn.Parameter(torch.ones(2, 2))])


def test_cpu_adam_without_a_compiler_names_what_to_install(monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("Ninja is required to load C++ extensions\nand more")

    monkeypatch.setattr("neox_code.training.optimizer.DeepSpeedCPUAdam", fails)
    with pytest.raises(ConfigError, match=r"\(Ninja is required to load C\+\+ extensions\)\. Install a C\+\+ compiler and ninja"):
        build_optimizer(OptimizerConfig(lr=1.0, optimizer_type="cpu_adam"), [torch.nn.Parameter(torch.ones(2, 2))])


@pytest.mark.parametrize("is_flat", [False, True])
@pytest.mark.parametrize("scale", [1e-4, 30.0])
def test_twenty_steps_of_adafactor_equal_those_of_transformers(is_flat, scale):
    """Large gradients of a weight that was updated by small ones are clipped."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(6, 8), (1, 5), (9, 1), (7,)]
    theirs = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    theirs[3].data.zero_()  # smaller than the smallest scale
    ours = [torch.nn.Parameter(each.detach().clone()) for each in theirs]
    section = OptimizerConfig(lr=RATE, weight_decay=DECAY, optimizer_type="adafactor")
    optimizer = build_optimizer(section, ours)
    flats = []
    if is_flat:  # as the engine has them
        for group in optimizer.param_groups:
            flats.append(torch.nn.Parameter(torch.cat([each.detach().flatten() for each in [*group["params"], torch.zeros(1)]])))
            group["params"] = flats[-1:]
    peer = Adafactor(
        [{"params": theirs[:3], "weight_decay": DECAY}, {"params": theirs[3:]}], lr=RATE, relative_step=False, scale_parameter=True
    )
    for step in range(20):
        gradients = [scale ** (step % 2) * torch.randn(shape, generator=generator) for shape in shapes]
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = gradient
        if is_flat:
            for flat, own in zip(flats, (gradients[:3], gradients[3:]), strict=True):
                flat.grad = torch.cat([each.flatten() for each in [*own, torch.zeros(1)]])
        else:
            for parameter, gradient in zip(ours, gradients, strict=True):
                parameter.grad = gradient.clone()
        optimizer.step()
        peer.step()
        found = flats if is_flat else [torch.cat([each.flatten() for each in part]) for part in (ours[:3], ours[3:])]
        for flat, part in zip(found, (theirs[:3], theirs[3:]), strict=True):
            expected = torch.cat([each.detach().flatten() for each in part])
            torch.testing.assert_close(flat.detach()[: len(expected)], expected, atol=1e-7, rtol=1e-5)


def test_adafactor_is_refused_on_several_ranks():
    with pytest.raises(ConfigError, match=r"adafactor is for one rank, and this run has 2\. Use --set num_gpus=1"):
        grid = dataclasses.replace(single_process_grid(), data_size=2)
        optimizers.build_optimizer(OptimizerConfig(lr=1.0, optimizer_type="adafactor"), [], MODEL, grid)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"type": "Lion", "params": {"lr": 1e-3}},
        {"type": "SGD", "params": {"lr": 0.3, "momentum": 0.9}},
        {"type": "Adafactor", "params": {"lr": 0.3}},
    ],
    ids=["lion", "sgd", "adafactor"],
)
def test_a_run_with_each_optimizer_learns_and_resumes(job, tmp_path, optimizer):
    file, save = job(optimizer=optimizer), tmp_path / "halves"
    whole = losses_of(1, file, tmp_path / "whole")
    losses_of(1, file, save, load=str(save), exit_interval=3)
    assert losses_of(1, file, save, load=str(save)) == whole
    assert whole[-1] < whole[0]
