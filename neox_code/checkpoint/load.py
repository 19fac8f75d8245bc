"""Reading a checkpoint into a training engine, on every rank."""

from pathlib import Path
from typing import Any

from deepspeed import DeepSpeedEngine
from deepspeed.runtime.zero.utils import ZeRORuntimeException

from neox_code.checkpoint.engine_files import WeightsOnlyEngine
from neox_code.checkpoint.layout import find_checkpoint, latest_file
from neox_code.config.training import TrainingConfig
from neox_code.errors import CheckpointError
from neox_code.logs import get_logger

log = get_logger(__name__)


def starting_point(training: TrainingConfig) -> Path | None:
    """The checkpoint to begin with; None for a start from scratch.

    `load` equal to `save` and without `latest` is a first start, and says so. Any other missing checkpoint is a CheckpointError.
    """
    if not training.load:
        return None
    is_own = training.save is not None and Path(training.load).resolve() == Path(training.save).resolve()
    if is_own and training.iteration is None and not latest_file(training.load).exists():
        log.info("no checkpoint in %s yet: training starts from scratch", training.load)
        return None
    return find_checkpoint(training.load, training.iteration)


def load_latest(engine: DeepSpeedEngine, training: TrainingConfig) -> dict[str, Any]:
    """Loads weights and optimizer state into the engine, on every rank; returns the client state, {} for a start from scratch.

    With `finetune` or `no_load_optim` the optimizer begins anew. The layout over ranks must be that of the save.
    """
    folder = starting_point(training)
    if folder is None:
        return {}
    engine.checkpoint_engine = WeightsOnlyEngine(engine._config)
    weights_only = training.finetune or training.no_load_optim
    try:
        _, state = engine.load_checkpoint(
            str(folder.parent), tag=folder.name, load_optimizer_states=not weights_only, load_module_only=weights_only
        )
    except ZeRORuntimeException as error:
        raise CheckpointError(
            f"{folder} was written by another number of data-parallel ranks: {str(error).splitlines()[0]} "
            "Use as many, or load the weights alone with no_load_optim: true."
        ) from None
    except (RuntimeError, AssertionError, KeyError) as error:
        raise CheckpointError(
            f"{folder} does not fit this model and layout: {first_line(error)} "
            f"Use the configuration in {folder / 'configs'}, and as many ranks as it was written by."
        ) from None
    log.info("loaded %s", folder)
    return state or {}


def first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) if lines else type(error).__name__
