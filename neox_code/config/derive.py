"""Compute numbers from other numbers of a configuration: ranks, batch sizes, padded vocabulary size. Pure functions.

compute_data_parallel_size(world_size=8, pipe_parallel_size=2, model_parallel_size=2)      # 2
derive_batch_sizes(128, 4, None, 8)        # BatchSizes(train_batch_size=128, micro_batch_size=4, accumulation_steps=4)
"""

from dataclasses import dataclass

from neox_code.errors import ConfigError


@dataclass(frozen=True)
class BatchSizes:
    """train_batch_size = micro_batch_size * accumulation_steps * data-parallel ranks, in samples."""

    train_batch_size: int
    micro_batch_size: int
    accumulation_steps: int


def compute_data_parallel_size(world_size: int, pipe_parallel_size: int, model_parallel_size: int) -> int:
    """Return the number of data-parallel copies of the model. Raise ConfigError if the ranks do not divide evenly into copies.

    >>> compute_data_parallel_size(8, 0, 2)
    4
    """
    stages = max(1, pipe_parallel_size)
    copies, left_over = divmod(world_size, stages * model_parallel_size)
    if left_over or not copies:
        raise ConfigError(
            f"{world_size} ranks are not a multiple of pipe_parallel_size * model_parallel_size = "
            f"{stages} * {model_parallel_size} = {stages * model_parallel_size}. "
            "Use another number of ranks (num_gpus, or slots in the hostfile), or change these sizes."
        )
    return copies


def derive_batch_sizes(
    train_batch_size: int | None,
    micro_batch_size: int | None,
    accumulation_steps: int | None,
    data_parallel_size: int,
) -> BatchSizes:
    """Return the three batch sizes, computed from those that are set. Accumulation steps are 1 if they cannot be computed.

    Raise ConfigError if the sizes do not divide evenly, or if neither batch size is set.

    >>> derive_batch_sizes(None, 4, None, 8)
    BatchSizes(train_batch_size=32, micro_batch_size=4, accumulation_steps=1)
    """
    ranks = data_parallel_size
    if train_batch_size is None:
        if micro_batch_size is None:
            raise ConfigError("neither train_batch_size nor train_micro_batch_size_per_gpu is set. Set one of them.")
        accumulation_steps = accumulation_steps or 1
        return BatchSizes(micro_batch_size * accumulation_steps * ranks, micro_batch_size, accumulation_steps)
    if micro_batch_size is None:
        accumulation_steps = accumulation_steps or 1
        micro_batch_size = divide_batch(train_batch_size, "gradient_accumulation_steps", accumulation_steps, ranks)
    elif accumulation_steps is None:
        accumulation_steps = divide_batch(train_batch_size, "train_micro_batch_size_per_gpu", micro_batch_size, ranks)
    product = micro_batch_size * accumulation_steps * ranks
    if product != train_batch_size:
        raise ConfigError(
            f"train_batch_size {train_batch_size} is not train_micro_batch_size_per_gpu * gradient_accumulation_steps * "
            f"data-parallel ranks = {micro_batch_size} * {accumulation_steps} * {ranks} = {product}. "
            "Remove one of the three keys, and it is derived from the others; or correct their values."
        )
    return BatchSizes(train_batch_size, micro_batch_size, accumulation_steps)


def compute_batch_size(consumed_samples: int, train_batch_size: int, rampup: tuple[int, int, int] | None) -> int:
    """Return the batch size after a number of samples, with `rampup_batch_size` by Megatron-LM's rule.

    >>> [compute_batch_size(samples, 32, (16, 8, 100)) for samples in (0, 49, 50, 99, 100)], compute_batch_size(0, 32, None)
    ([16, 16, 24, 24, 32], 32)
    """
    if rampup is None or consumed_samples >= rampup[2]:
        return train_batch_size
    first, increment, samples = rampup
    return first + increment * (consumed_samples * ((train_batch_size - first) // increment) // samples)


def list_batch_sizes(train_batch_size: int, rampup: tuple[int, int, int] | None) -> list[int]:
    """Return all batch sizes of a run, in their order.

    >>> list_batch_sizes(32, (16, 8, 100))
    [16, 24, 32]
    """
    return [train_batch_size] if rampup is None else list(range(rampup[0], train_batch_size + 1, rampup[1]))


def count_samples(steps: int, train_batch_size: int, rampup: tuple[int, int, int] | None) -> int:
    """Return the number of samples that the first steps of a run read.

    >>> count_samples(6, 32, (16, 8, 100)), count_samples(6, 32, None)
    (112, 192)
    """
    samples = 0
    while steps and rampup is not None and samples < rampup[2]:
        samples += compute_batch_size(samples, train_batch_size, rampup)
        steps -= 1
    return samples + steps * train_batch_size


def divide_batch(train_batch_size: int, name: str, factor: int, ranks: int) -> int:
    """Return the train batch size divided by a known factor and by the ranks. Raise ConfigError if the result is less than 1."""
    if train_batch_size < factor * ranks:
        raise ConfigError(
            f"train_batch_size {train_batch_size} must be at least {name} * data-parallel ranks = {factor} * {ranks} = "
            f"{factor * ranks}. Raise it, lower {name}, or start fewer ranks."
        )
    return train_batch_size // (factor * ranks)


def compute_padded_vocab_size(vocab_size: int, divisible_by: int, tensor_parallel_size: int) -> int:
    """Return the number of embedding rows: the vocabulary size, rounded up to a multiple of `divisible_by * tensor_parallel_size`.

    >>> compute_padded_vocab_size(50257, 128, 1), compute_padded_vocab_size(50257, 128, 2)
    (50304, 50432)
    """
    multiple = divisible_by * tensor_parallel_size
    return -(-vocab_size // multiple) * multiple
