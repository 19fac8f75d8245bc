"""The loss on validation data: the same samples every time, so that figures compare."""

from neox_code.data.loaders import BatchLoader
from neox_code.parallel.grid import ParallelGrid
from neox_code.training.engine import Engine
from neox_code.training.step import Evaluate


def validate(engine: Engine, evaluate: Evaluate, loader: BatchLoader, eval_iters: int, grid: ParallelGrid) -> float:
    """Mean loss in nats over the first `eval_iters` batches. Leaves the training data's place as it was."""
    loader.seek(0)
    batches = iter(loader)
    return sum(evaluate(engine, batches, grid) for _ in range(eval_iters)) / eval_iters
