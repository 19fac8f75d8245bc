"""The loss on validation data: the same samples every time, so that figures compare."""

from collections.abc import Callable

from neox_code.data.loaders import BatchLoader
from neox_code.parallel.grid import ParallelGrid
from neox_code.training.engine import Engine
from neox_code.training.step import Evaluate


def validate(
    engine: Engine, evaluate: Evaluate, loader: BatchLoader, eval_iters: int, grid: ParallelGrid, advance: Callable[[], object]
) -> float:
    """Mean loss in nats over the first `eval_iters` batches, each followed by `advance()`. Leaves the training data's place."""
    loader.seek(0)
    batches = iter(loader)
    total = 0.0
    for _ in range(eval_iters):
        total += evaluate(engine, batches, grid)
        advance()
    return total / eval_iters
