"""Random numbers: which ranks draw the same and which draw their own.

initialization   from (seed, layer index): the same full weights in every layout
hidden dropout   the same on the ranks of a tensor group (they hold the same activations), different over data and stages
attention dropout  different on every rank (tensor ranks hold different heads)
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from neox_code.parallel.grid import ParallelGrid


@contextmanager
def layer_seed(seed: int, layer_index: int) -> Iterator[None]:
    """Within the block the CPU generator is a function of seed and layer alone; afterwards it is what it was before."""
    state = torch.get_rng_state()
    torch.manual_seed(seed * 10_007 + layer_index)
    try:
        yield
    finally:
        torch.set_rng_state(state)


def seed_dropout(seed: int, grid: ParallelGrid) -> None:
    """Seeds torch's default generators for this rank's activations."""
    torch.manual_seed(seed + 1_000_003 * grid.pipeline_stage + 7919 * grid.data_rank)


class TensorRankGenerator:
    """A second stream of random numbers that differs over tensor ranks; `with generator.fork():` draws from it.

    One stream a process, seeded on first use from the default one, so that it follows `seed_dropout` and a restored state.
    """

    def __init__(self, grid: ParallelGrid):
        self.grid = grid

    @contextmanager
    def fork(self) -> Iterator[None]:
        """The default generator, moved to a place of its own for this rank and call, and put back afterwards."""
        if self.grid.tensor_size == 1:
            yield
            return
        draw = int(torch.randint(2**40, (1,)).item())
        devices = [self.grid.device] if self.grid.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(draw * self.grid.tensor_size + self.grid.tensor_rank)
            yield


def random_states() -> dict[str, torch.Tensor]:
    """The states of torch's generators, for a checkpoint."""
    states = {"torch_rng_state": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda_rng_state"] = torch.cuda.get_rng_state()
    return states


def restore_random_states(states: dict[str, torch.Tensor]) -> None:
    """The inverse of `random_states`; a CUDA state is left on a machine without a GPU."""
    torch.set_rng_state(states["torch_rng_state"].cpu())
    if "cuda_rng_state" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda_rng_state"].cpu())
