"""The contestants of the fine-tuning benchmark, without the packages that the peers import (those are in `finetuning`)."""

from collections.abc import Sequence

from neox_code.benchmarks.training_contest import make_benchmark_config
from neox_code.config.neox import NeoXConfig

RANK = 16
"""Rank of LoRA, unless the configuration sets one."""

RATE = 1e-4
"""Learning rate, unless the configuration sets one; it has no effect on the time."""

PEER = "transformers-peft"
PEERS = (PEER, "transformers-peft-our-allocator")


def make_adapter_config(words: Sequence[str]) -> NeoXConfig:
    """Return the configuration of the benchmark of training, with LoRA in all linear layers of the blocks."""
    config = make_benchmark_config(words)
    config = config if config.optimizer.lr else config.replace(lr=RATE)
    return config if config.adapter.lora_rank else config.replace(lora_rank=RANK, lora_alpha=2 * RANK)
