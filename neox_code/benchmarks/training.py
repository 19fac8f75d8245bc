"""Training speed, compared with transformers' model of the same configuration (`peer.py`).

    python -m neox_code.benchmarks.training CONTESTANT CONFIG...        one contestant; started by `deepy.py benchmark training`

Each step has one micro batch of random tokens, with bf16 weights, SDPA and fused AdamW. Ours trains as `train` does, with fp32
master weights. The peer runs with bf16 weights alone as its user would start it, with our settings of the memory allocator, with
these and fp32 master weights, and on a GPU with all of this and torch.compile. `matrices` measures the machine's matrix products.
"""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn
from transformers import PreTrainedModel as Peer

from neox_code.benchmarks.contest import run_requested_rounds
from neox_code.benchmarks.peer import build_peer_model
from neox_code.benchmarks.timed_steps import OptimizerStep, build_our_step, make_random_tokens, synchronize
from neox_code.benchmarks.training_contest import MATRICES, OURS, PEERS, VOCAB_SIZE, PeerVariant, make_benchmark_config
from neox_code.config.derive import compute_padded_vocab_size
from neox_code.config.neox import NeoXConfig
from neox_code.errors import run_command
from neox_code.parallel.allocator import set_allocator
from neox_code.parallel.grid import select_device
from neox_code.parallel.startup import startup
from neox_code.training.throughput import read_peak_memory_gib

LEARNING_RATE = 1e-4
SECONDS_PER_ROUND = 2.0
"""Approximate time of a round, which has at least one step."""


def build_peer_step(model: Peer, has_masters: bool) -> OptimizerStep:
    """Return a step with bf16 weights and optimizer states, or one whose optimizer updates fp32 copies of the bf16 weights."""
    masters = [nn.Parameter(parameter.detach().float()) if has_masters else parameter for parameter in model.parameters()]
    optimizer = torch.optim.AdamW(masters, lr=LEARNING_RATE, betas=(0.9, 0.95), fused=True)

    def run(tokens_BS: torch.Tensor) -> None:
        model(input_ids=tokens_BS[:, :-1], labels=tokens_BS[:, :-1], use_cache=False).loss.backward()
        if not has_masters:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return
        with torch.no_grad():
            for master, parameter in zip(masters, model.parameters(), strict=True):
                assert parameter.grad is not None
                master.grad, parameter.grad = parameter.grad.float(), None
            optimizer.step()
            for master, parameter in zip(masters, model.parameters(), strict=True):
                parameter.copy_(master)

    return run


def run_peer_contestant(variant: PeerVariant, config: NeoXConfig) -> None:
    """Train transformers' model with the steps of `build_peer_step`."""
    device = select_device()
    if variant.has_our_allocator:
        set_allocator(device)
    padded = compute_padded_vocab_size(VOCAB_SIZE, config.model.make_vocab_size_divisible_by, 1)
    model = build_peer_model(config.model, padded, torch.bfloat16).train()
    nn.Module.to(model, device)
    if variant.is_compiled:
        model.compile()
    run_rounds(build_peer_step(model, variant.has_masters), config, device)


def run_our_contestant(config: NeoXConfig) -> None:
    with startup(config.parallelism) as grid:
        run_rounds(build_our_step(config, grid, VOCAB_SIZE), config, grid.device)


def run_matrix_products(config: NeoXConfig) -> None:
    """Measure products of large square bf16 matrices: the amount of a round is TFLOP, so that its speed is TFLOP/s."""
    device = select_device()
    size = MATRIX_SIZES[device.type]
    one, other = (torch.randn(size, size, device=device).to(torch.bfloat16) for _ in range(2))

    def measure(count: int) -> dict:
        begin, cpu_begin = time.perf_counter(), read_cpu_seconds()
        for _ in range(count):
            one @ other
        synchronize(device)
        times = {"seconds": time.perf_counter() - begin, "cpu_seconds": read_cpu_seconds() - cpu_begin}
        return times | {"amount": count * 2 * size**3 / 1e12, "memory_gib": read_peak_memory_gib()}

    measure(1)
    count = max(1, round(SECONDS_PER_ROUND / measure(1)["seconds"]))
    run_requested_rounds(partial(measure, count), f"bf16 matrices of {size} x {size}")


MATRIX_SIZES = {"cpu": 2048, "cuda": 8192}

CONTESTANTS: dict[str, Callable[[NeoXConfig], None]] = {
    OURS: run_our_contestant,
    MATRICES: run_matrix_products,
    **{name: partial(run_peer_contestant, variant) for name, variant in PEERS.items()},
}


def read_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def run_rounds(step: OptimizerStep, config: NeoXConfig, device: torch.device) -> None:
    """Run a warm-up step, then a round of steps for each request."""
    batch, sequence = config.training.train_micro_batch_size_per_gpu or 1, config.model.sample_length
    tokens_BS = make_random_tokens(batch, sequence, VOCAB_SIZE, device)

    def measure(steps: int) -> dict:
        synchronize(device)
        begin, cpu_begin = time.perf_counter(), read_cpu_seconds()
        for _ in range(steps):
            step(tokens_BS)
        synchronize(device)
        times = {"seconds": time.perf_counter() - begin, "cpu_seconds": read_cpu_seconds() - cpu_begin}
        return times | {"amount": steps * batch * sequence, "memory_gib": read_peak_memory_gib()}

    step(tokens_BS)
    steps = max(1, round(SECONDS_PER_ROUND / measure(1)["seconds"]))
    run_requested_rounds(partial(measure, steps), f"micro batch {batch} x {sequence} tokens")


def main(argv: Sequence[str]) -> int:
    """Run one contestant."""
    name, *words = argv
    CONTESTANTS[name](make_benchmark_config(words))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
