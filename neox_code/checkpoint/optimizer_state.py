"""Load the optimizer state of a checkpoint into an engine of any layout.

    states = read_optimizer_state(folder, model)
    load_optimizer_state(engine, states, model, vocab_size, grid)          # this rank's share of each parameter

The states are read from files of any layout by checkpoint/optimizer_files.py.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import torch
from deepspeed import DeepSpeedEngine
from torch import nn

from neox_code.checkpoint.consistency import has_finite_values
from neox_code.checkpoint.merge_ranks import get_name_in_whole_model
from neox_code.checkpoint.optimizer_files import ZeroFiles, require_states
from neox_code.checkpoint.universal import AVERAGE, MASTER, STEP, UniversalFiles
from neox_code.checkpoint.weights import make_rank_part
from neox_code.config.model import ModelConfig
from neox_code.errors import CheckpointError
from neox_code.parallel.grid import ParallelGrid


class Fragment(NamedTuple):
    """The part of a parameter that a data rank updates."""

    parameter: nn.Parameter
    source: int
    """Position of the part's first element in the flat parameter."""
    size: int
    """Number of elements."""
    target: int
    """Position of the part's first element in the rank's flat tensors."""


class ZeroGroup:
    """A parameter group of DeepSpeed's optimizer, with the interface of training.flat_group.FlatGroup."""

    def __init__(self, parameters: list[nn.Parameter], master: torch.Tensor, keys: Collection[str]):
        self.parameters, self.master = parameters, master
        self.moments = {key: torch.zeros_like(master) for key in keys if key != MASTER}

    def list_fragments(self) -> Iterator[Fragment]:
        for parameter in self.parameters:
            if place := parameter._hp_mapping:  # type: ignore[attr-defined]  # None if other data ranks have it all
                source, target = place.lp_fragment_address, place.hp_fragment_address
                yield Fragment(parameter, source.start, target.numel, target.start)


def list_groups(engine: Any, list_keys: Callable[[nn.Parameter], Collection[str]]) -> list[Any]:
    """Return the parameter groups of an engine with their flat tensors. `list_keys` returns the names of the tensors in a state.

    DeepSpeed's optimizer gets an average of the weights from training.weight_average.
    """
    if not isinstance(engine, DeepSpeedEngine):
        return engine.groups
    optimizer = engine.optimizer
    parameters = optimizer.bf16_groups if hasattr(optimizer, "bf16_groups") else optimizer.bit16_groups
    flats = [group["params"][0].data for group in optimizer.param_groups]
    return [ZeroGroup(members, flat, list_keys(members[0])) for members, flat in zip(parameters, flats, strict=True)]


def load_optimizer_state(
    engine: Any, states: UniversalFiles | ZeroFiles, model: ModelConfig, vocab_size: int, grid: ParallelGrid
) -> None:
    """Fill the engine's optimizer with this rank's part of the state and of the fp32 weights. Hyperparameters stay unchanged.

    Raise CheckpointError if a parameter is missing, or its state has another shape or non-finite values.
    """
    names = {parameter: get_name_in_whole_model(name) for name, parameter in engine.module.named_parameters()}
    require_states(states, (name for parameter, name in names.items() if parameter.requires_grad))
    groups = list_groups(engine, lambda parameter: states.list_keys(names[parameter]))
    filled: dict[int, dict[str, Any]] = {}
    for index, group in enumerate(groups):
        tensors = {MASTER: group.master, **group.moments}
        stored = set(states.list_keys(names[group.parameters[0]]))
        if missing := sorted(tensors.keys() - stored - {AVERAGE}):
            raise CheckpointError(
                f"{states.folder} holds no {missing[0]}, which this optimizer needs. "
                "Load the weights alone with no_load_optim: true."
            )
        for parameter, source, count, target in group.list_fragments():
            name = names[parameter]
            for key, tensor in tensors.items():
                whole = states.read(name, key if key in stored else MASTER)  # an average begins with the weights
                if not has_finite_values(whole):
                    raise CheckpointError(f"{key} of {name} has non-finite values in {states.folder}. Choose another checkpoint.")
                part = make_rank_part(states.folder, name, whole, parameter.shape, model, vocab_size, grid).flatten()
                tensor[target : target + count].copy_(part[source : source + count])
        step = states.read_step(names[group.parameters[0]])
        filled[index] = group.moments | ({} if step is None else {STEP: step})
        if step is not None and not isinstance(engine, DeepSpeedEngine):
            engine.set_updates(index, step)
    if isinstance(engine, DeepSpeedEngine):
        base = engine.optimizer.optimizer
        base.load_state_dict({"state": filled, "param_groups": base.state_dict()["param_groups"]})
