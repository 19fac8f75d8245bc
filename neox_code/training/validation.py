"""The loss on validation data: the same samples every time, so that figures compare."""

from collections.abc import Callable

from neox_code.data.loaders import BatchLoader
from neox_code.parallel.grid import ParallelGrid
from neox_code.training.engine import Engine
from neox_code.training.step import Evaluate


def validate(
    engine: Engine,
    evaluate: Evaluate,
    loader: BatchLoader,
    eval_iters: int,
    grid: ParallelGrid,
    advance: Callable[[], object],
    is_stop_requested: Callable[[], bool],
) -> float | None:
    """Return the mean loss in nats over the unmasked tokens of the first `eval_iters` batches.

    None where all are masked, and where it was stopped. Calls `advance()` after each batch. Leaves the training data's place.
    `is_stop_requested` returns the same on all ranks.
    """
    loader.seek(0)
    batches = iter(loader)
    total = tokens = 0.0
    for _ in range(eval_iters):
        loss, count = evaluate(engine, batches, grid)
        total += loss * count
        tokens += count
        advance()
        if is_stop_requested():
            return None
    return total / tokens if tokens else None
