"""Seeds of torch's generators. Some ranks share a seed:

initialization     from (seed, layer index): the same full weights in every layout
adapters           the same on the ranks of a tensor group (they hold the same activations), different over data ranks and stages

Dropout and noise of adapters are seeded before every step, so that a resumed run draws the same numbers as an uninterrupted run and
no generator state is saved. Dropout of the model itself has no generator (`model.dropout`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from neox_code.parallel.grid import ParallelGrid


@contextmanager
def seed_layer(seed: int, layer_index: int) -> Iterator[None]:
    """Within the `with` block, seed the CPU generator by the seed and the layer's index; restore its state afterwards."""
    state = torch.get_rng_state()
    torch.manual_seed(seed * 10_007 + layer_index)
    try:
        yield
    finally:
        torch.set_rng_state(state)


def seed_adapters(seed: int, grid: ParallelGrid, iteration: int) -> None:
    """Seed torch's default generators for adapters in this rank's next step. `iteration` is the number of steps done."""
    sequence = np.random.SeedSequence((seed, iteration, grid.pipeline_stage, grid.data_rank))
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))


class TensorRankGenerator:
    """A second stream of random numbers, different on each tensor rank. Numbers are drawn within `with generator.fork():`.

    Each `with` block draws its seed from the default generator, so `seed_adapters` determines the numbers.
    """

    def __init__(self, grid: ParallelGrid):
        self.grid = grid

    @contextmanager
    def fork(self) -> Iterator[None]:
        """Within the block, seed the default generator differently for each tensor rank and call. Restore its state afterwards."""
        if self.grid.tensor_size == 1:
            yield
            return
        draw = int(torch.randint(2**40, (1,)).item())
        devices = [self.grid.device] if self.grid.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(draw * self.grid.tensor_size + self.grid.tensor_rank)
            yield
