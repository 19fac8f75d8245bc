"""A layout of the same model and the same step that fits the memory of a GPU. Imports no torch.

    proposal = smaller_layout(config, planned_world(config), gpu_memory_gib=16, entries=50257)
    proposal.changes                    # {"train_micro_batch_size_per_gpu": 1, "checkpoint_activations": True}

Smaller micro batches come first, which cost nothing but time; then recomputation, which costs a third more of it; then tensor
parallelism, within a machine; then pipeline stages (takeaway 1 of Narayanan et al. 2021).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from neox_code.config.derive import padded_vocab_size
from neox_code.config.neox import NeoXConfig
from neox_code.errors import ConfigError
from neox_code.planning.memory import Layout, Memory, memory_per_gpu
from neox_code.planning.planned_world import PlannedWorld, planned_world

MACHINE = 8
"""GPUs of one machine, where nothing is known of it: tensor parallelism over slower links does not pay."""


@dataclass(frozen=True)
class Proposal:
    changes: dict[str, Any]
    """Keys and their values, to be set."""

    world: PlannedWorld
    layout: Layout
    memory: Memory


def fits(memory: Memory, gpu_memory_gib: float) -> bool:
    return memory.total <= gpu_memory_gib * 2**30


def memory_of(config: NeoXConfig, layout: Layout, entries: int) -> Memory:
    return memory_per_gpu(config, layout, padded_vocab_size(entries, config.model.make_vocab_size_divisible_by, layout.tensor_size))


def smaller_layout(config: NeoXConfig, world: PlannedWorld, gpu_memory_gib: float, entries: int) -> Proposal | None:
    """The first layout that fits, with as many samples a step; None where there is none."""
    for layout in layouts(config, world):
        if fits(memory_of(config, layout, entries), gpu_memory_gib):
            proposal = checked(config, changes_for(config, Layout.of(config, world.ranks), layout), entries)
            if proposal is not None and fits(proposal.memory, gpu_memory_gib):
                return proposal
    return None


def checked(config: NeoXConfig, changes: dict[str, Any], entries: int) -> Proposal | None:
    """What the configuration with the changes comes to, by the same way as any other; None where they break a rule of it."""
    try:
        changed = config.replace(**changes)
        world = planned_world(changed)
        layout = Layout.of(changed, world.ranks)
    except ConfigError:
        return None
    return Proposal(changes, world, layout, memory_of(changed, layout, entries))


def layouts(config: NeoXConfig, world: PlannedWorld) -> Iterator[Layout]:
    """All layouts of the same step over this world, or over a larger one where its size is not given."""
    first = Layout.of(config, world.ranks)
    samples = first.micro_batch_size * first.accumulation_steps * first.data_size
    machine = max(map(len, world.hosts.values())) if world.is_given else MACHINE
    for stages in multiples(first.pipeline_size, config.model.num_layers):
        for tensor_size in multiples(first.tensor_size, max(machine, first.tensor_size)):
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


def multiples(size: int, whole: int) -> list[int]:
    """Multiples of a size that divide the whole, and the size itself.

    >>> multiples(1, 12), multiples(2, 8), multiples(3, 8)
    ([1, 2, 3, 4, 6, 12], [2, 4, 8], [3])
    """
    return [size, *(number for number in range(2 * size, whole + 1, size) if whole % number == 0)]


def changes_for(config: NeoXConfig, first: Layout, layout: Layout) -> dict[str, Any]:
    """The keys that make one layout the other; what follows from the others is left to follow."""
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
