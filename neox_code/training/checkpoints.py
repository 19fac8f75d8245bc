"""Save and resume a run. The package `checkpoint` reads and writes the files.

    checkpoints = open_checkpoints(config, tokenizer, sizes, grid)
    state = checkpoints.resume(engine, loaders)
    with checkpoints.finishing(suspend_watchdog):
        if checkpoints.is_due(state, is_last, is_safe):
            checkpoints.save(engine, state)          # threads write, while the next steps run

Every function here is called on every rank.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from neox_code.adapters.attach import find_base
from neox_code.adapters.files import encode_peft_config, make_peft_config, make_sample, write_adapter
from neox_code.checkpoint.engine_files import call_before_update, collect_files
from neox_code.checkpoint.layout import (
    ADAPTER_CONFIG,
    ADAPTER_FOLDER,
    HUGGING_FACE_FOLDER,
    MERGED_CONFIG,
    TRAINING_LOCK,
    VOCABULARY_FOLDER,
    make_partial_step_name,
    make_step_name,
    model_file,
)
from neox_code.checkpoint.load import load_checkpoint, require_loadable
from neox_code.checkpoint.model_folder import MODEL_FILE, make_model_file
from neox_code.checkpoint.record import SCORED_ROWS, RunRecord
from neox_code.checkpoint.resume import Start, check_start, find_start, list_changes
from neox_code.checkpoint.save import PendingSave, SaveFailure, prepare_save
from neox_code.checkpoint.serialization import load_file
from neox_code.checkpoint.vocabulary_rows import choose_padding_mask, count_scored_rows
from neox_code.checkpoint.weights import read_weights
from neox_code.config.assembly import DEFAULT
from neox_code.config.derive import BatchSizes, compute_padded_vocab_size
from neox_code.config.neox import NeoXConfig
from neox_code.conversion.convert import convert
from neox_code.conversion.options import ConversionOptions
from neox_code.data.identity import read_data_identity
from neox_code.data.loaders import Loaders
from neox_code.data.order_log import record_move
from neox_code.errors import NeoXError
from neox_code.files import folder_lock, read_json
from neox_code.logs import get_logger, is_rank_zero
from neox_code.pages.number_formats import format_size
from neox_code.parallel.collectives import is_true_on_any_rank, run_on_rank_zero
from neox_code.parallel.grid import ParallelGrid, read_device_name
from neox_code.tokenizer.comparison import describe_vocabulary
from neox_code.tokenizer.protocol import Tokenizer
from neox_code.tokenizer.vocabulary_file import find_vocabulary_files
from neox_code.training.engine import Engine
from neox_code.training.save_steps import is_save_step
from neox_code.training.state import TrainingState
from neox_code.training.trackers import make_run_name

log = get_logger(__name__)


@dataclasses.dataclass
class Checkpoints:
    config: NeoXConfig
    """The run's configuration. `mask_padded_vocab` has the value with which the model of the first checkpoint was trained."""
    sizes: BatchSizes
    vocab_size: int
    grid: ParallelGrid
    start: Start
    """The checkpoint and the iteration from which the run begins."""
    record: RunRecord
    """The content for run.json in the checkpoints of this run, with the training state at the start."""
    changes: list[str]
    """A line for each difference between this run's configuration and that of the checkpoint from which the run begins."""
    model_arguments: Mapping[str, Any]
    """Values that GPT-NeoX compares with its own configuration when it loads a checkpoint."""
    companions: Mapping[str, bytes]
    """Path in a checkpoint -> content of a configuration or vocabulary file; empty on ranks other than 0."""
    last_save: float = 0.0
    """Time of the last save, or of the start of the run, in seconds of the monotonic clock."""
    is_postponed: bool = False
    """True if a save is due and waits for a finite loss."""
    pending: PendingSave | None = None
    """The save whose files are being written."""
    waited_seconds: float = 0.0
    """Seconds that training waited for the pending save."""
    safe_iteration: int = 0
    """Iteration of the newest complete checkpoint, or of the start of the run: a failure loses the steps after it."""
    allowed_steps: int | None = None
    """Number of steps that may be lost while saves fail; None while they succeed."""

    @property
    def padded_vocab_size(self) -> int:
        return self.record.layout["padded_vocab_size"]

    @property
    def scored_rows(self) -> int:
        """Number of vocabulary rows, counted from the first row, that enter the softmax."""
        return self.record.layout[SCORED_ROWS]

    def resume(self, engine: Engine, loaders: Loaders) -> TrainingState:
        """Load the run's first checkpoint into engine and loaders. Return its training state, or a new state without a checkpoint.

        Raise CheckpointError if the checkpoint cannot be loaded, DataError if too few samples are left.
        """
        loaded = load_checkpoint(engine, self.start, self.config.model, self.vocab_size, self.grid)
        state = TrainingState.from_dict({} if self.start.resets else loaded)
        state = state.convert_sample_count(self.start.sample_length, self.config.model.sample_length)
        loaders.train.seek(state.consumed_samples)
        loaders.train.require((self.config.training.num_steps - state.iteration) * self.sizes.accumulation_steps)
        self.last_save, self.safe_iteration = time.monotonic(), state.iteration
        return state

    def rewind(self, engine: Engine, loaders: Loaders, state: TrainingState) -> bool:
        """Load the newest checkpoint of this run, whose iteration `state` then has; the next sample stays that of `state`.

        Return False without a checkpoint. Call it on every rank.
        """
        with suppress(SaveFailure):
            self.finish()
        folder = Path(self.config.training.save or "") / make_step_name(self.safe_iteration)
        if not self.config.training.save or not run_on_rank_zero(lambda: folder.is_dir()):
            return False
        loaded = load_checkpoint(engine, Start(folder, self.record), self.config.model, self.vocab_size, self.grid)
        before = TrainingState.from_dict(loaded)
        state.iteration, state.skipped_steps = before.iteration, before.skipped_steps
        loaders.train.seek(state.consumed_samples)
        loaders.train.require((self.config.training.num_steps - state.iteration) * self.sizes.accumulation_steps)
        run_on_rank_zero(lambda: record_move(folder.parent, state.iteration, state.consumed_samples))
        return True

    def maybe_save_initial(self, engine: Engine, state: TrainingState) -> None:
        """Save before the first step if `extra_save_iters` contains 0."""
        training = self.config.training
        if training.save and 0 in training.extra_save_iters and state.iteration == 0 and not self.start.is_in_folder(training.save):
            self.save(engine, state)

    def is_due(self, state: TrainingState, is_last: bool, is_safe: bool) -> bool:
        """Return True if a checkpoint must be saved after the last step. The result is the same on all ranks.

        If the step is not safe to save, because its loss is not finite or in a spike, a due save is postponed.
        """
        is_best = self.config.training.keep_best_checkpoint and state.best_iteration == state.iteration
        is_due = is_last or self.is_interval_over(state) or self.is_postponed or self.loses_too_much(state) or is_best
        self.is_postponed = is_due and not is_safe
        return bool(self.config.training.save) and is_due and not self.is_postponed

    def is_interval_over(self, state: TrainingState) -> bool:
        """Return True if a save is due by the configured number of steps, extra steps or seconds (rank 0's clock)."""
        training = self.config.training
        if is_save_step(state.iteration, training):
            return True
        if training.checkpoint_interval_seconds is None:
            return False
        is_time = time.monotonic() - self.last_save >= training.checkpoint_interval_seconds
        return is_true_on_any_rank(is_rank_zero() and is_time)

    def loses_too_much(self, state: TrainingState) -> bool:
        """Return True if saves fail, and a failure of the run would lose more steps than is allowed."""
        return self.allowed_steps is not None and state.iteration - self.safe_iteration >= self.allowed_steps

    def save(self, engine: Engine, state: TrainingState) -> None:
        """Begin to write a checkpoint of the state to `save`; wait for an earlier one first.

        If the earlier one failed, log a warning. Raise SaveFailure if too many steps would be lost and this save fails too.
        """
        try:
            self.finish()
        except SaveFailure as error:
            self.allow_failure(error, state)
        is_last_attempt = self.loses_too_much(state)
        try:
            self.begin(engine, state)
            if is_last_attempt:
                self.finish()
        except SaveFailure as error:
            if is_last_attempt:
                raise
            self.allow_failure(error, state)

    def begin(self, engine: Engine, state: TrainingState) -> None:
        """Start the threads that write a checkpoint. Raise SaveFailure on all ranks if the folder cannot be written."""
        begin = time.monotonic()
        training = self.config.training
        assert training.save is not None
        save = Path(training.save)
        run_on_rank_zero(lambda: prepare_save(save, state.iteration, self.companions))
        client_state = state.as_dict() | {"args": self.model_arguments}
        files = collect_files(engine, self.grid, save, make_partial_step_name(state.iteration), client_state)
        record = dataclasses.replace(self.record, state=state.as_dict())
        self.pending = PendingSave(
            files,
            self.grid,
            save,
            record,
            self.companions,
            training.keep_last_n_checkpoints,
            self.write_copies,
        )
        self.last_save = time.monotonic()
        self.waited_seconds = self.last_save - begin
        if self.pending.snapshot.has_copies:
            call_before_update(engine, self.wait_for_copies)
        else:
            self.wait_for_copies()

    def write_copies(self, folder: Path) -> None:
        """Write a checkpoint's model or adapter in the formats of others."""
        if self.config.adapter.keeps_base:
            write_adapter_copies(folder, self.config)
        elif self.config.training.save_huggingface:
            write_hugging_face_copy(folder)

    def wait_for_copies(self) -> None:
        """Wait until the pending save needs the engine's tensors no more."""
        if self.pending is not None:
            begin = time.monotonic()
            self.pending.snapshot.wait()
            self.waited_seconds += time.monotonic() - begin

    def finish(self, timeout_seconds: float | None = None) -> None:
        """Wait for the pending save. Raise SaveFailure, the same on all ranks, if it failed."""
        pending, self.pending = self.pending, None
        if pending is None:
            return
        begin = time.monotonic()
        folder = pending.finish(timeout_seconds)
        waited = self.waited_seconds + time.monotonic() - begin
        self.safe_iteration, self.allowed_steps = pending.record.iteration, None
        log.info(
            "saved %s: %s written in %.1f s, training waited %.2f s",
            folder,
            format_size(pending.snapshot.num_bytes),
            pending.seconds,
            waited,
        )

    def allow_failure(self, error: SaveFailure, state: TrainingState) -> None:
        """Log the failure of a save, after which training continues."""
        if self.allowed_steps is None:
            limit = self.config.training.max_unsaved_steps
            self.allowed_steps = limit or MOST_FAILED_SAVES * max(1, state.iteration - self.safe_iteration)
        log.log(
            logging.WARNING if is_rank_zero() else logging.DEBUG,
            "iteration %d | a save failed: %s Training continues until %d steps would be lost (max_unsaved_steps), now %d",
            state.iteration,
            error,
            self.allowed_steps,
            state.iteration - self.safe_iteration,
        )

    @contextmanager
    def finishing(self, suspend_watchdog: Callable[[], object]) -> Iterator[None]:
        """Wait for the pending save at the end of the block, also after an exception, then only for a limited time."""
        try:
            yield
        except BaseException as failure:
            suspend_watchdog()
            limit = self.config.parallelism.stop_timeout_seconds if isinstance(failure, NeoXError) else SECONDS_AFTER_A_CRASH
            with suppress(SaveFailure):
                self.finish(limit)
            raise
        suspend_watchdog()
        self.finish()


MOST_FAILED_SAVES = 3
"""Default of `max_unsaved_steps`, in multiples of the steps that were not saved when the first failure was noticed."""

SECONDS_AFTER_A_CRASH = 5.0
"""Seconds to wait for a save of a run that failed: the other ranks may have ended."""


def open_checkpoints(
    config: NeoXConfig, tokenizer: Tokenizer, sizes: BatchSizes, grid: ParallelGrid, data: Mapping[str, Any] | None = None
) -> Checkpoints:
    """Return the checkpoints of this run. Rank 0 finds the first checkpoint and compares it with the configuration.

    `data` is the identity of the training data; None: that of the configured token files. Raise CheckpointError or ConfigError if
    the run cannot begin (see `checkpoint.resume`).
    """
    start, config, record, changes = run_on_rank_zero(lambda: find_resume_point(config, tokenizer, sizes, grid, data))
    training = config.training
    if training.save_huggingface and training.save and start.folder and start.is_in_folder(training.save) and is_rank_zero():
        write_hugging_face_copy(start.folder)  # a run that was killed between the checkpoint and this folder
    return Checkpoints(
        config,
        sizes,
        tokenizer.vocab_size,
        grid,
        start,
        record,
        changes,
        model_arguments=make_model_arguments(config, record.layout["padded_vocab_size"]),
        companions=read_companion_files(config, tokenizer.vocab_size) if is_rank_zero() else {},
    )


def write_hugging_face_copy(folder: Path) -> None:
    """Write a checkpoint's model for transformers into its subfolder `huggingface`, if it is missing. Log a failure."""
    output = folder / HUGGING_FACE_FOLDER
    if output.exists():
        return
    try:
        convert(folder, output, "huggingface", ConversionOptions())
    except Exception as error:  # the checkpoint itself is whole, whatever failed
        log.warning("%s was not written: %s: %s", output, type(error).__name__, error)


def write_adapter_copies(folder: Path, config: NeoXConfig) -> None:
    """Write a checkpoint's adapter in PEFT's format into the checkpoint, and as the newest into the folder of the run."""
    try:
        content = load_file(model_file(folder, 0))["module"]
        described = read_json(folder / ADAPTER_FOLDER / ADAPTER_CONFIG)
        sample = make_sample(read_weights(find_base(config), config.model, names_only=True))
        for place in (folder / ADAPTER_FOLDER, folder.parent / ADAPTER_FOLDER):
            write_adapter(place, described, config.model, content, sample)
    except (OSError, NeoXError) as error:  # the checkpoint itself is whole
        log.warning("the adapter of %s was not written: %s", folder, error)


def find_resume_point(
    config: NeoXConfig, tokenizer: Tokenizer, sizes: BatchSizes, grid: ParallelGrid, data: Mapping[str, Any] | None = None
) -> tuple[Start, NeoXConfig, RunRecord, list[str]]:
    """Return the run's start, its configuration, the record for its checkpoints, and the changes since the start's checkpoint.

    `mask_padded_vocab` of the configuration is that of the start's model. Call this function on rank 0.
    """
    training, model, vocab_size = config.training, config.model, tokenizer.vocab_size
    padded = compute_padded_vocab_size(vocab_size, model.make_vocab_size_divisible_by, grid.tensor_size)
    layout = {
        "pipe_parallel_size": grid.pipeline_size,
        "model_parallel_size": grid.tensor_size,
        "data_parallel_size": grid.data_size,
        "padded_vocab_size": padded,
    }
    values = {**config.values(), "train_batch_size": sizes.train_batch_size}
    start = find_start(training, layout, values)
    check_start(start, config, tokenizer)
    require_loadable(start, config.model)
    config, scored_rows = choose_scored_rows(config, start, vocab_size, padded)
    values |= {"mask_padded_vocab": config.model.mask_padded_vocab}
    if scored_rows > padded:  # a model of others has more padding
        layout["padded_vocab_size"] = -(-scored_rows // grid.tensor_size) * grid.tensor_size
        start = find_start(training, layout, values)
    data = dict(data or read_data_identity(config.data))
    changes = list_changes(start, layout, config, values, data)
    state = start.record.state if start.record and not start.resets else {"iteration": start.iteration}
    record = RunRecord(
        state=TrainingState.from_dict(state).as_dict(),
        run=start.run or make_run_name(training),
        started_from=start.started_from,
        config=values,
        origins={name: origin for name, origin in config.origins.items() if origin != DEFAULT},
        tokenizer=describe_vocabulary(tokenizer),
        data=data,
        layout={**layout, SCORED_ROWS: scored_rows},
        device=read_device_name(grid.device),
    )
    return start, config, record, changes


def choose_scored_rows(config: NeoXConfig, start: Start, vocab_size: int, padded: int) -> tuple[NeoXConfig, int]:
    """Return the configuration with `mask_padded_vocab` of the start's model, and the number of vocabulary rows in the softmax."""
    if start.folder is None:
        return config, vocab_size if config.model.mask_padded_vocab else padded
    config = choose_padding_mask(config, start.folder, start.stored)
    return config, count_scored_rows(config.model, vocab_size, start.folder, start.record)


@contextmanager
def lock_save_folder(save: str | None) -> Iterator[None]:
    """Lock the folder `save` for this run, on rank 0. Raise LaunchError on every rank if another run has locked it."""

    def warn(reason: str) -> None:
        log.warning("save (%s) is on a file system without locks (%s): a second run could write to it too", save, reason)

    with ExitStack() as stack:
        if save:
            run_on_rank_zero(lambda: stack.enter_context(folder_lock(save, TRAINING_LOCK, warn)))
        yield


def read_companion_files(config: NeoXConfig, vocab_size: int) -> dict[str, bytes]:
    """Return path in a checkpoint -> current content, for the run's configuration and vocabulary files."""
    files = {f"configs/{Path(source).name}": Path(source).read_bytes() for source in config.sources}
    files |= {f"configs/{MERGED_CONFIG}": config.to_yaml().encode(), MODEL_FILE: make_model_file(config)}
    if config.adapter.keeps_base:
        files[f"{ADAPTER_FOLDER}/{ADAPTER_CONFIG}"] = encode_peft_config(make_peft_config(config, vocab_size))
    return files | {f"{VOCABULARY_FOLDER}/{name}": path.read_bytes() for name, path in find_vocabulary_files(config.data).items()}


def make_model_arguments(config: NeoXConfig, padded_vocab_size: int) -> dict[str, Any]:
    """Return the values that GPT-NeoX compares with its own configuration when it loads a checkpoint."""
    model = config.model
    return {
        "num_layers": model.num_layers,
        "hidden_size": model.hidden_size,
        "num_attention_heads": model.num_attention_heads,
        "max_position_embeddings": model.max_position_embeddings,
        "make_vocab_size_divisible_by": model.make_vocab_size_divisible_by,
        "padded_vocab_size": padded_vocab_size,
        "tokenizer_type": config.data.tokenizer_type,
        "model_parallel_size": config.parallelism.model_parallel_size,
    }
