"""Find a layout that fits into the memory of a GPU, with the same model and the same step. Imports no torch.

    proposal = find_smaller_layout(config, plan_world(config), gpu_memory_gib=16, entries=50257)
    proposal.changes                    # {"train_micro_batch_size_per_gpu": 1, "checkpoint_activations": True}

The search tries smaller micro batches first, then recomputation, which makes a step a third longer, then tensor parallelism within
a machine, then pipeline stages (takeaway 1 of Narayanan et al. 2021).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from neox_code.config.derive import compute_padded_vocab_size
from neox_code.config.neox import NeoXConfig
from neox_code.errors import ConfigError
from neox_code.planning.memory import Layout, Memory, compute_memory_per_gpu
from neox_code.planning.planned_world import PlannedWorld, plan_world

MACHINE = 8
"""Assumed number of GPUs per machine. It limits tensor parallelism, which is too slow between machines."""


@dataclass(frozen=True)
class Proposal:
    changes: dict[str, Any]
    """Keys to set, with their values."""

    world: PlannedWorld
    layout: Layout
    memory: Memory


def fits_in_memory(memory: Memory, gpu_memory_gib: float) -> bool:
    return memory.total <= gpu_memory_gib * 2**30


def compute_memory(config: NeoXConfig, layout: Layout, entries: int) -> Memory:
    return compute_memory_per_gpu(
        config, layout, compute_padded_vocab_size(entries, config.model.make_vocab_size_divisible_by, layout.tensor_size)
    )


def find_smaller_layout(config: NeoXConfig, world: PlannedWorld, gpu_memory_gib: float, entries: int) -> Proposal | None:
    """Return the first layout that fits the GPU and has the same number of samples per step; None if there is none."""
    for layout in generate_layouts(config, world):
        if fits_in_memory(compute_memory(config, layout, entries), gpu_memory_gib):
            proposal = make_proposal(config, find_changes(config, Layout.from_config(config, world.ranks), layout), entries)
            if proposal is not None and fits_in_memory(proposal.memory, gpu_memory_gib):
                return proposal
    return None


def make_proposal(config: NeoXConfig, changes: dict[str, Any], entries: int) -> Proposal | None:
    """Return the layout and memory of the changed configuration; None if the changes break a rule of the configuration."""
    try:
        changed = config.replace(**changes)
        world = plan_world(changed)
        layout = Layout.from_config(changed, world.ranks)
    except ConfigError:
        return None
    return Proposal(changes, world, layout, compute_memory(changed, layout, entries))


def generate_layouts(config: NeoXConfig, world: PlannedWorld) -> Iterator[Layout]:
    """Yield all layouts over the ranks of `world` with the same number of samples per step. If no key or file sets the number of
    ranks, yield layouts with more ranks too."""
    first = Layout.from_config(config, world.ranks)
    samples = first.micro_batch_size * first.accumulation_steps * first.data_size
    machine = max(map(len, world.hosts.values())) if world.is_given else MACHINE
    for stages in find_multiples(first.pipeline_size, config.model.num_layers):
        for tensor_size in find_multiples(first.tensor_size, max(machine, first.tensor_size)):
            data_size, left_over = divmod(world.ranks, stages * tensor_size) if world.is_given else (first.data_size, 0)
            if left_over or not data_size:
                continue
            for recompute in sorted({first.recompute, True}):
                for micro_batch_size in range(first.micro_batch_size, 0, -1):
                    steps, left_over = divmod(samples, micro_batch_size * data_size)
                    if steps and not left_over:
                        layout = Layout(stages, tensor_size, data_size, micro_batch_size, steps, recompute, 1)
                        is_pipeline = stages > 1 or config.parallelism.pipe_parallel_size
                        yield (
                            replace(layout, recompute_interval=config.parallelism.checkpoint_num_layers) if is_pipeline else layout
                        )


def find_multiples(size: int, whole: int) -> list[int]:
    """Return a size and all its multiples that divide `whole`.

    >>> find_multiples(1, 12), find_multiples(2, 8), find_multiples(3, 8)
    ([1, 2, 3, 4, 6, 12], [2, 4, 8], [3])
    """
    return [size, *(number for number in range(2 * size, whole + 1, size) if whole % number == 0)]


def find_changes(config: NeoXConfig, first: Layout, layout: Layout) -> dict[str, Any]:
    """Return the keys, with values, that change layout `first` into `layout`. Keys with derived values are omitted."""
    is_derived = config.training.train_batch_size is not None and config.training.gradient_accumulation_steps is None
    wanted = {
        "train_micro_batch_size_per_gpu": (first.micro_batch_size, layout.micro_batch_size),
        "gradient_accumulation_steps": (first.accumulation_steps, layout.accumulation_steps),
        "checkpoint_activations": (first.recompute, layout.recompute),
        "model_parallel_size": (first.tensor_size, layout.tensor_size),
        "pipe_parallel_size": (first.pipeline_size, layout.pipeline_size),
    }
    changed = {key: after for key, (before, after) in wanted.items() if before != after}
    if is_derived:
        changed.pop("gradient_accumulation_steps", None)
    return changed
