"""Speed of training a LoRA adapter, compared with PEFT on transformers' model of the same configuration.

    python -m neox_code.benchmarks.finetuning CONTESTANT CONFIG...        one contestant; `deepy.py benchmark finetuning` starts it

Both have a random frozen bf16 base, the same linear layers with adapters of the same rank, and fused AdamW. The peer runs as PEFT's
user would start it, with adapters in fp32; and with our settings of the memory allocator.
"""

import sys
from collections.abc import Sequence

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from neox_code.adapters.files import make_peft_config
from neox_code.benchmarks.finetuning_contest import PEER, make_adapter_config
from neox_code.benchmarks.peer import build_peer_model
from neox_code.benchmarks.timed_steps import OptimizerStep, build_our_step
from neox_code.benchmarks.training import LEARNING_RATE, run_matrix_products, run_rounds
from neox_code.benchmarks.training_contest import MATRICES, OURS, VOCAB_SIZE
from neox_code.config.derive import compute_padded_vocab_size
from neox_code.config.neox import NeoXConfig
from neox_code.errors import run_command
from neox_code.parallel.allocator import set_allocator
from neox_code.parallel.grid import select_device
from neox_code.parallel.startup import startup

UNUSED_KEYS = ("peft_type", "inference_mode")
"""Keys of an adapter_config.json that are not arguments of LoraConfig, or mean another thing in training."""


def build_peer_step(config: NeoXConfig, device: torch.device) -> tuple[nn.Module, OptimizerStep]:
    """Return transformers' model with PEFT's adapter, and a step of its training."""
    padded = compute_padded_vocab_size(VOCAB_SIZE, config.model.make_vocab_size_divisible_by, 1)
    base = build_peer_model(config.model, padded, torch.bfloat16).train()
    nn.Module.to(base, device)
    described = {key: value for key, value in make_peft_config(config, VOCAB_SIZE).items() if key not in UNUSED_KEYS}
    model = get_peft_model(base, LoraConfig(**described))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, betas=(0.9, 0.95), fused=True)

    def run(tokens_BS: torch.Tensor) -> None:
        model(input_ids=tokens_BS[:, :-1], labels=tokens_BS[:, :-1], use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return model, run


def main(argv: Sequence[str]) -> int:
    """Run one contestant."""
    name, *words = argv
    config, device = make_adapter_config(words), select_device()
    if name == MATRICES:
        run_matrix_products(config)
        return 0
    if name == OURS:
        with startup(config.parallelism) as grid:
            run_rounds(build_our_step(config, grid, VOCAB_SIZE), config, grid.device)
        return 0
    if name != PEER:
        set_allocator(device)
    run_rounds(build_peer_step(config, device)[1], config, device)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
