"""Which ranks and steps draw the same random numbers of adapters."""

import itertools

import torch

from neox_code.parallel.grid import ParallelGrid
from neox_code.parallel.seeds import seed_adapters


def draw_numbers(iteration: int, stage: int, data_rank: int, tensor_rank: int) -> tuple[float, ...]:
    rank = tensor_rank + 2 * data_rank + 4 * stage
    seed_adapters(1234, ParallelGrid(pipeline_size=2, data_size=2, tensor_size=2, rank=rank), iteration)
    return tuple(torch.rand(4).tolist())


def test_only_the_ranks_of_a_tensor_group_draw_the_same_numbers_in_a_step():
    places = list(itertools.product(range(50), range(2), range(2)))
    first, second = ([draw_numbers(*place, tensor_rank) for place in places] for tensor_rank in (0, 1))
    assert first == second
    assert len(set(first)) == len(places)
