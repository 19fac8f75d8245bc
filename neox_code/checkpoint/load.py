"""Reading a checkpoint into a training engine, on every rank."""

from typing import Any

from deepspeed import DeepSpeedEngine
from deepspeed.runtime.zero.utils import ZeRORuntimeException

from neox_code.checkpoint.engine_files import WeightsOnlyEngine
from neox_code.checkpoint.resume import Start
from neox_code.errors import CheckpointError
from neox_code.logs import get_logger

log = get_logger(__name__)


def load_checkpoint(engine: DeepSpeedEngine, start: Start) -> dict[str, Any]:
    """Load weights and optimizer state into the engine, on every rank; return the client state, {} for a start from scratch.

    The layout over ranks must be that of the save; without the optimizer's state the number of data-parallel ranks need not.
    """
    folder = start.folder
    if folder is None:
        return {}
    engine.checkpoint_engine = WeightsOnlyEngine(engine._config)
    weights_only = not start.loads_optimizer
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
