"""Divided layers on two ranks against the plain ones, forward and backward; rank arithmetic against DeepSpeed's."""

import itertools

import pytest
import torch
from deepspeed.runtime.pipe.topology import PipeModelDataParallelTopology
from distributed_runs import run_ranks

from neox_code.config.parallelism import ParallelismConfig
from neox_code.model.embedding import make_head_input
from neox_code.model.initialization import make_normal
from neox_code.model.loss import WeightedLoss, compute_token_losses, make_vocab_shard
from neox_code.parallel.grid import ParallelGrid, single_process_grid
from neox_code.parallel.seeds import seed_layer
from neox_code.parallel.startup import startup

VOCAB_SIZE, PADDED = 13, 16
IDS = torch.randint(0, VOCAB_SIZE, (2, 300), generator=torch.Generator().manual_seed(0))


def run_network(grid: ParallelGrid) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Run embedding, column layer, row layer, tied head and loss; return losses and the gradients of this rank's parts."""
    fill = make_normal(0.5)
    with seed_layer(1, 0):
        embedding = grid.layers.vocab_embedding(PADDED, 6, torch.float32, fill)
        column = grid.layers.column_linear(6, 8, torch.float32, fill)
        row = grid.layers.row_linear(8, 6, torch.float32, fill)
    with torch.no_grad():
        row.bias.add_(torch.arange(6) / 10)
    hidden = embedding(IDS)
    hidden = hidden + row(torch.tanh(column(hidden)))
    shard, labels = make_vocab_shard(VOCAB_SIZE, PADDED, grid), IDS.roll(-1, 1)
    losses = compute_token_losses(grid.layers.tied_logits(hidden, embedding.weight), labels, shard)
    WeightedLoss(shard)(make_head_input(hidden, embedding, grid), (labels, torch.arange(600.0).view(2, 300) / 600**2)).backward()
    modules = {"embedding": embedding, "column": column, "row": row}
    assert {name for module in modules.values() for name in module.state_dict()} == {"weight", "bias"}
    gradients = {f"{name}.{key}": p.grad for name, module in modules.items() for key, p in module.named_parameters()}
    return losses.detach(), gradients


def run_divided_network() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    with startup(ParallelismConfig(model_parallel_size=2)) as grid:
        return run_network(grid)


def test_two_tensor_ranks_compute_the_values_of_one_process():
    losses, gradients = run_network(single_process_grid())
    ranks = run_ranks(2, run_divided_network)
    for rank_losses, _ in ranks:
        torch.testing.assert_close(rank_losses, losses)
    dims = {"embedding.weight": 0, "column.weight": 0, "column.bias": 0, "row.weight": 1}
    for name, expected in gradients.items():
        parts = [rank_gradients[name] for _, rank_gradients in ranks]
        whole = torch.cat(parts, dims[name]) if name in dims else parts[1]
        torch.testing.assert_close(whole, expected)


@pytest.mark.parametrize("sizes", list(itertools.product([1, 2], [1, 2, 3], [1, 2])))
def test_the_order_of_ranks_is_that_of_deepspeed(sizes):
    pipeline, data, tensor = sizes
    topology = PipeModelDataParallelTopology(num_pp=pipeline, num_mp=tensor, num_dp=data)
    for rank in range(pipeline * data * tensor):
        grid = ParallelGrid(pipeline_size=pipeline, data_size=data, tensor_size=tensor, rank=rank)
        assert (grid.pipeline_stage, grid.data_rank, grid.tensor_rank) == tuple(topology.get_coord(rank))
