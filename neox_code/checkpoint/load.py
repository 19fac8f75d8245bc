"""Load a checkpoint into a training engine, on every rank."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed import DeepSpeedEngine
from deepspeed.runtime.zero.utils import ZeRORuntimeException

from neox_code.checkpoint.buffers import sum_row_biases
from neox_code.checkpoint.consistency import check_size
from neox_code.checkpoint.engine_files import WeightsOnlyEngine
from neox_code.checkpoint.layout import (
    find_configuration,
    has_zero_3_files,
    is_adapter_checkpoint,
    is_universal,
    list_model_files,
    model_file,
)
from neox_code.checkpoint.optimizer_files import SavedSizes, read_optimizer_state
from neox_code.checkpoint.optimizer_state import load_optimizer_state
from neox_code.checkpoint.record import is_count
from neox_code.checkpoint.resume import Start
from neox_code.checkpoint.serialization import load_file
from neox_code.checkpoint.universal import LOSS_SCALE
from neox_code.checkpoint.weights import has_summed_row_biases, load_weights, read_weights
from neox_code.config.model import ModelConfig
from neox_code.errors import CheckpointError
from neox_code.logs import get_logger
from neox_code.parallel.grid import ParallelGrid

log = get_logger(__name__)


def require_loadable(start: Start, model: ModelConfig) -> None:
    """Raise CheckpointError unless the names and sizes in a checkpoint's files fit the model. Call it before the model is built."""
    folder = start.folder
    if folder is None:
        return
    if is_adapter_checkpoint(folder):
        pass  # its shapes are compared when they are loaded, and the base is another folder
    elif has_zero_3_files(folder):
        check_size(folder, model)
    else:
        read_weights(folder, model, names_only=True)
    if not start.resets:
        load_client_state(folder, is_checked=True)


def load_checkpoint(engine: Any, start: Start, model: ModelConfig, vocab_size: int, grid: ParallelGrid) -> dict[str, Any]:
    """Load weights and optimizer state into the engine, on every rank; return the client state, {} for a start from scratch.

    The checkpoint may have any layout over ranks. With ZeRO stage 3 it must have this run's layout.
    """
    folder = start.folder
    if folder is None:
        return {}
    if not isinstance(engine, DeepSpeedEngine) and engine.config.adapter.keeps_base:
        return load_trained_parameters(engine, start, model, vocab_size, grid)
    if not start.loads_optimizer:
        load_weights_alone(engine, folder, model, vocab_size, grid)
        if start.resets:
            return {}
        return dict(start.record.state) if start.record else load_client_state(folder)
    has_average = bool(start.stored and start.stored.values.get("average_decay"))  # DeepSpeed's own loading expects no such state
    if start.is_resharded or has_average or not isinstance(engine, DeepSpeedEngine):
        return load_resharded(engine, start, model, vocab_size, grid)
    engine.checkpoint_engine = WeightsOnlyEngine(engine._config)
    try:
        with redirect_stdout(io.StringIO()) as printed, keep_optimizer_settings(engine.optimizer):
            _, state = engine.load_checkpoint(str(folder.parent), tag=folder.name)
    except ZeRORuntimeException as error:
        raise CheckpointError(
            f"{folder} was written by another number of data-parallel ranks: {str(error).splitlines()[0]} "
            "Use the same number, or load only the weights with no_load_optim: true."
        ) from None
    except (RuntimeError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder} does not fit this model and layout: {read_first_line(error).rstrip('.')}. "
            f"Use the configuration in {find_configuration(folder)} and the number of ranks that wrote it."
        ) from None
    if has_summed_row_biases(model, folder):
        sum_row_biases(engine.module, grid)
    log.debug("%s", printed.getvalue())
    log.info("loaded %s", folder)
    return state or {}


def load_resharded(engine: Any, start: Start, model: ModelConfig, vocab_size: int, grid: ParallelGrid) -> dict[str, Any]:
    """Load weights and optimizer state of any layout into the engine, on every rank; return the client state."""
    folder = start.folder
    assert folder is not None
    states = read_optimizer_state(folder, model)
    load_weights(engine.module, folder, model, vocab_size, grid)
    load_optimizer_state(engine, states, model, vocab_size, grid)
    loss_scale = states.read_global_state().get(LOSS_SCALE)
    if not isinstance(engine, DeepSpeedEngine):
        if loss_scale and engine.loss_scale is not None:
            engine.loss_scale.load(loss_scale if isinstance(loss_scale, Mapping) else vars(loss_scale))
    elif loss_scale and hasattr(engine.optimizer, "loss_scaler"):  # DeepSpeed's bf16 optimizer has none
        with keep_optimizer_settings(engine.optimizer):
            engine.optimizer.loss_scaler = loss_scale
    state = load_client_state(folder)
    for name in ENGINE_COUNTS:
        setattr(engine, name, int(state.get(name, 0)))
    writer = "in the universal format" if is_universal(folder) else f"by {SavedSizes.from_folder(folder)}"
    stage = f", ZeRO {start.stored.values.get('zero_stage', 0)}" if start.stored else ""
    if start.is_resharded:
        log.info("%s was written %s%s: its optimizer state is resharded", folder, writer, stage)
    else:
        log.info("loaded %s", folder)
    return state


def load_trained_parameters(engine: Any, start: Start, model: ModelConfig, vocab_size: int, grid: ParallelGrid) -> dict[str, Any]:
    """Load the parameters that were added to a base; a start from the base itself, which is loaded already, has none."""
    folder = start.folder
    assert folder is not None
    if not is_adapter_checkpoint(folder):
        return {}
    states = read_optimizer_state(folder, model) if start.loads_optimizer else None
    content = load_file(model_file(folder, 0)).get("module") or {}
    with torch.no_grad():
        for name, parameter in engine.module.named_parameters():
            if not parameter.requires_grad:
                continue
            if name not in content or content[name].shape != parameter.shape:
                raise CheckpointError(
                    f"{folder} has no {name} of shape {tuple(parameter.shape)}. Use the configuration that wrote it."
                )
            parameter.copy_(content[name])
    if states is None:
        engine.refresh_fp32_params()
    else:
        load_optimizer_state(engine, states, model, vocab_size, grid)
    state = load_client_state(folder)
    for key in ENGINE_COUNTS:
        setattr(engine, key, int(state.get(key, 0)))
    log.info("loaded the adapter of %s", folder)
    return state


LOSS_SCALE_STATE = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")
"""Attributes of DeepSpeed's dynamic loss scaler that change while it is used; the others are settings."""


@contextmanager
def keep_optimizer_settings(optimizer: Any) -> Iterator[None]:
    """Keep the configured hyperparameters while DeepSpeed loads a state; otherwise the checkpoint's would replace them.

    If the loss scale is dynamic both in the checkpoint and in this run, its state is taken from the checkpoint.
    """
    groups = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    names = ("clip_grad", "loss_scaler", "dynamic_loss_scale")  # the last two are not in every optimizer
    settings = {name: getattr(optimizer, name) for name in names if hasattr(optimizer, name)}
    yield
    for group, own in zip(optimizer.param_groups, groups, strict=True):
        group.update(own)
    if scaler := settings.get("loss_scaler"):
        loaded = optimizer.loss_scaler
        loaded = loaded if isinstance(loaded, Mapping) else vars(loaded)  # an object in files of older versions
        if scaler.dynamic and loaded["dynamic"]:
            vars(scaler).update({name: loaded[name] for name in LOSS_SCALE_STATE})
    vars(optimizer).update(settings)


def load_weights_alone(engine: Any, folder: Path, model: ModelConfig, vocab_size: int, grid: ParallelGrid) -> None:
    """Load weights of any layout into the engine and its optimizer's fp32 copies, on every rank."""
    parameters = list(engine.module.parameters())
    if any(hasattr(parameter, "ds_id") for parameter in parameters):  # ZeRO-3: parameters are whole in this context alone
        with deepspeed.zero.GatheredParameters(parameters, modifier_rank=0):
            if grid.rank == 0:
                load_weights(engine.module, folder, model, vocab_size)
    else:
        load_weights(engine.module, folder, model, vocab_size, grid)
    (engine.optimizer if isinstance(engine, DeepSpeedEngine) else engine).refresh_fp32_params()
    log.info("loaded the weights of %s", folder)


COUNTS = ("iteration", "consumed_samples", "consumed_tokens", "skipped_iterations", "training_seconds")
ENGINE_COUNTS = ("global_steps", "global_samples", "skipped_steps")
"""Names of the counters that DeepSpeed's engine stores in a training state; COUNTS has those of this package."""


def load_client_state(folder: Path, is_checked: bool = False) -> dict[str, Any]:
    """Return the training state of a checkpoint without its weights; {} if it has none. Raise CheckpointError if it is damaged."""
    path = list_model_files(folder).get(0)
    content = load_file(path, mmap=True, is_checked=is_checked) if path else {}
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} contains a {type(content).__name__}, not a training state. Copy the checkpoint again.")
    for key in (*COUNTS, *ENGINE_COUNTS):
        if key in content and not is_count(content[key]):
            raise CheckpointError(f"{path} has {key} {content[key]!r:.60}, which is no count. Copy the checkpoint again.")
    return {key: value for key, value in content.items() if key not in ("module", "optimizer")}


def read_first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # an assertion of DeepSpeed without a text finds no file
    return " ".join(lines[:2]) if lines else "files of its weights or of its training state are missing"
