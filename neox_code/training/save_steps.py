"""The steps after which a checkpoint is due, by the configuration."""

from neox_code.config.training import TrainingConfig


def is_save_step(iteration: int, training: TrainingConfig) -> bool:
    """Return True if a checkpoint is due after a step by `checkpoint_factor`, `checkpoint_scale` or `extra_save_iters`.

    >>> scale = TrainingConfig(checkpoint_factor=4, checkpoint_scale="log", extra_save_iters=(6,))
    >>> [step for step in range(1, 100) if is_save_step(step, scale)]
    [4, 6, 16, 64]
    """
    factor = training.checkpoint_factor
    if iteration in training.extra_save_iters:
        return True
    if not factor or iteration == 0:
        return False
    if training.checkpoint_scale == "log":
        while iteration % factor == 0:
            iteration //= factor
            if iteration == 1:
                return True
        return False
    return iteration % factor == 0
