"""Pretraining, start to end: read this file first. Each line builds one thing and hands it on."""

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from neox_code.checkpoint.layout import MERGED_CONFIG, TRAINING_LOCK, VOCABULARY_FOLDER
from neox_code.checkpoint.load import load_checkpoint
from neox_code.checkpoint.record import RunRecord
from neox_code.checkpoint.resume import Start, check_start, find_start
from neox_code.checkpoint.save import save_checkpoint
from neox_code.config.assembly import DEFAULT
from neox_code.config.derive import padded_vocab_size
from neox_code.config.neox import NeoXConfig
from neox_code.config.remarks import remarks_of
from neox_code.data.identity import data_identity
from neox_code.data.loaders import build_loaders
from neox_code.files import folder_lock
from neox_code.launch.stop_signals import StopRequest
from neox_code.logs import copy_log, get_logger, is_rank_zero
from neox_code.parallel.collectives import barrier, run_on_rank_zero
from neox_code.parallel.grid import ParallelGrid
from neox_code.parallel.startup import require_same_everywhere, startup
from neox_code.tokenizer.comparison import describe_vocabulary
from neox_code.tokenizer.protocol import Tokenizer
from neox_code.tokenizer.registry import build_tokenizer, vocabulary_files
from neox_code.training.engine import build_engine
from neox_code.training.loop import Run
from neox_code.training.state import TrainingState
from neox_code.training.trackers import build_trackers, new_run_name

log = get_logger(__name__)


def pretrain(config: NeoXConfig, stop: StopRequest | None = None) -> TrainingState:
    """Train the configured model on this rank together with all others; return where it ended.

    A signal that `stop` has received ends the run early, and saves; `stop.was_followed` is True then.
    """
    training, model = config.training, config.model
    with startup(config.parallelism) as grid, held_for_training(training.save):
        require_same_everywhere(config.to_yaml())
        tokenizer = build_tokenizer(config.data)
        companions = companion_files(config) if is_rank_zero() else {}
        padded = padded_vocab_size(tokenizer.vocab_size, model.make_vocab_size_divisible_by, grid.tensor_size)
        sizes = config.batch_sizes(grid.data_size)
        start, record, changes = run_on_rank_zero(lambda: begin(config, tokenizer, grid))
        if training.log_dir:
            copy_log(Path(training.log_dir) / record.run)
        for remark in remarks_of(config):
            log.info("%s", remark)
        for change in changes:
            log.info("changed since %s: %s", start.folder, change)
        reached = TrainingState.from_dict(record.state)
        if reached.is_finished(training):
            limit = f" or train_seconds {training.train_seconds:g}" if training.train_seconds else ""
            place = f"{start.folder} is at iteration {reached.iteration} of train_iters {training.train_iters}{limit}"
            log.info("%s: nothing is left to do", place)
            return reached
        loaders = build_loaders(config, sizes, tokenizer, grid)
        engine = build_engine(config, tokenizer.vocab_size, grid)
        loaded = load_checkpoint(engine, start, tokenizer.vocab_size, grid)
        state = TrainingState.from_dict({} if start.resets else loaded).for_sample_length(start.sample_length, model.sample_length)
        loaders.train.seek(state.consumed_samples)
        loaders.train.require((training.train_iters - state.iteration) * sizes.accumulation_steps)
        trackers = build_trackers(config, record.run, state.iteration)

        def save(state: TrainingState) -> Path:
            client_state = state.as_dict() | {"args": model_arguments(config, padded)}
            now = dataclasses.replace(record, state=state.as_dict())
            return save_checkpoint(engine, training.save, client_state, now, companions, training.keep_last_n_checkpoints)

        if 0 in training.extra_save_iters and training.save and state.iteration == 0 and not start.is_in(training.save):
            save(state)
        state = Run(engine, loaders, state, config, sizes, padded, grid, trackers, save, stop or StopRequest()).to_the_end()
        for tracker in trackers:
            tracker.close()
        barrier()  # a launcher may end the other ranks as soon as one has ended
    return state


@contextmanager
def held_for_training(save: str | None) -> Iterator[None]:
    """Hold `save` for this run, on rank 0. Raises LaunchError on every rank where another run holds it."""

    def warn(reason: str) -> None:
        log.warning("save (%s) lies on a file system without locks (%s): nothing keeps a second run out of it", save, reason)

    with ExitStack() as stack:
        if save:
            run_on_rank_zero(lambda: stack.enter_context(folder_lock(save, TRAINING_LOCK, warn)))
        yield


def begin(config: NeoXConfig, tokenizer: Tokenizer, grid: ParallelGrid) -> tuple[Start, RunRecord, list[str]]:
    """Return where the run begins, what its checkpoints will record of it, and what has changed since. For rank 0."""
    training = config.training
    layout = {
        "pipe_parallel_size": grid.pipeline_size,
        "model_parallel_size": grid.tensor_size,
        "data_parallel_size": grid.data_size,
    }
    values = {**config.values(), "train_batch_size": config.batch_sizes(grid.data_size).train_batch_size}
    start = find_start(training, layout, values)
    data = data_identity(config.data)
    changes = check_start(start, layout, config, values, tokenizer, data)
    state = start.record.state if start.record and not start.resets else {"iteration": start.iteration}
    record = RunRecord(
        state=TrainingState.from_dict(state).as_dict(),
        run=start.run or new_run_name(training),
        started_from=start.started_from,
        config=values,
        origins={name: origin for name, origin in config.origins.items() if origin != DEFAULT},
        tokenizer=describe_vocabulary(tokenizer),
        data=data,
        layout=layout,
    )
    return start, record, changes


def companion_files(config: NeoXConfig) -> dict[str, bytes]:
    """Return the run's configuration and vocabulary, as they are now, by their paths in a checkpoint."""
    files = {f"configs/{Path(source).name}": Path(source).read_bytes() for source in config.sources}
    files[f"configs/{MERGED_CONFIG}"] = config.to_yaml().encode()
    return files | {f"{VOCABULARY_FOLDER}/{name}": path.read_bytes() for name, path in vocabulary_files(config.data).items()}


def model_arguments(config: NeoXConfig, padded: int) -> dict[str, object]:
    """What GPT-NeoX compares with its own configuration when it loads a checkpoint."""
    model = config.model
    return {
        "num_layers": model.num_layers,
        "hidden_size": model.hidden_size,
        "num_attention_heads": model.num_attention_heads,
        "max_position_embeddings": model.max_position_embeddings,
        "make_vocab_size_divisible_by": model.make_vocab_size_divisible_by,
        "padded_vocab_size": padded,
        "tokenizer_type": config.data.tokenizer_type,
        "model_parallel_size": config.parallelism.model_parallel_size,
    }
