"""The contestants of the training benchmark, without the packages that the peers import (those are in `training`)."""

from collections.abc import Sequence
from dataclasses import dataclass

from neox_code.checkpoint.model_folder import load_config
from neox_code.config.command_line import parse_command_line
from neox_code.config.neox import NeoXConfig
from neox_code.launch.command import ALLOCATOR

VOCAB_SIZE = 50_257


@dataclass(frozen=True)
class PeerVariant:
    has_our_allocator: bool = True
    has_masters: bool = False
    is_compiled: bool = False


OURS, MATRICES, UNTOUCHED, WITH_MASTERS = "neox-code", "matrices", "transformers", "transformers-fp32-masters"
PEERS = {
    UNTOUCHED: PeerVariant(has_our_allocator=False),
    "transformers-our-allocator": PeerVariant(),
    WITH_MASTERS: PeerVariant(has_masters=True),
    "transformers-compiled": PeerVariant(has_masters=True, is_compiled=True),
}


def list_peers(has_gpu: bool) -> list[str]:
    """Return the peers of a machine. Without a GPU torch.compile is left out: it takes minutes and gains nothing."""
    return [name for name, variant in PEERS.items() if has_gpu or not variant.is_compiled]


def make_environment(name: str) -> dict[str, str]:
    """Return the allocator's variables for a contestant, which it reads at its start."""
    has_ours = name in (OURS, MATRICES) or name.endswith("-our-allocator") or (name in PEERS and PEERS[name].has_our_allocator)
    return dict(ALLOCATOR) if has_ours else {}


def make_benchmark_config(words: Sequence[str]) -> NeoXConfig:
    """Return the configuration of one rank and one micro batch, in bf16."""
    config = load_config(parse_command_line(words, None))
    return config.replace(
        train_batch_size=None,
        train_micro_batch_size_per_gpu=config.training.train_micro_batch_size_per_gpu or 1,
        gradient_accumulation_steps=1,
        model_parallel_size=1,
        pipe_parallel_size=min(1, config.parallelism.pipe_parallel_size),
        precision="bfloat16",
    )
