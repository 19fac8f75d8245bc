"""The loss on validation data. Every validation reads the same samples, so that the losses can be compared."""

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

    Return None if all tokens are masked or a stop is requested. Call `advance()` after each batch. `is_stop_requested` must return
    the same value on all ranks.
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
