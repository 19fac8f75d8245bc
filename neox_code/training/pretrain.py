"""Pretraining from start to end: read this file first. Each line builds one thing and passes it on."""

from pathlib import Path

from neox_code.adapters.attach import prepare_adapters
from neox_code.config.neox import NeoXConfig
from neox_code.config.remarks import list_remarks
from neox_code.data.loaders import build_loaders
from neox_code.data.order_log import make_order_entry, maybe_record_order
from neox_code.launch.stop_signals import StopRequest
from neox_code.logs import get_logger, is_rank_zero, log_to_folder
from neox_code.model.form import make_training_form
from neox_code.model.gpt import DTYPES, build_layers
from neox_code.model.loss import WeightedLoss, make_vocab_shard
from neox_code.parallel.collectives import barrier
from neox_code.parallel.grid import read_memory_bytes
from neox_code.parallel.startup import require_same_everywhere, startup
from neox_code.planning.memory import require_memory
from neox_code.tokenizer.registry import build_tokenizer
from neox_code.training.checkpoints import Checkpoints, lock_save_folder, open_checkpoints
from neox_code.training.engine import build_engine, build_module
from neox_code.training.loop import Run
from neox_code.training.loss_guard import LossGuard
from neox_code.training.meter import Meter
from neox_code.training.optimizer import build_optimizer
from neox_code.training.state import TrainingState
from neox_code.training.trackers import build_trackers

log = get_logger(__name__)


def pretrain(config: NeoXConfig, stop: StopRequest | None = None) -> TrainingState:
    """Train the configured model on this rank, together with all other ranks. Return the training state at the end.

    If `stop` receives a signal, the run saves a checkpoint and ends early, and `stop.was_followed` is True.
    """
    with startup(config.parallelism) as grid, lock_save_folder(config.training.save):
        require_same_everywhere(config.to_yaml())
        tokenizer = build_tokenizer(config.data)
        sizes = config.batch_sizes(grid.data_size)
        checkpoints = open_checkpoints(config, tokenizer, sizes, grid)
        config, padded = checkpoints.config, checkpoints.padded_vocab_size
        training, model = config.training, config.model
        require_memory(config, grid.world_size, padded, read_memory_bytes(grid.device))
        log_start(config, checkpoints)
        state = TrainingState.from_dict(checkpoints.record.state)
        if state.is_finished(training):
            limit = f" or train_seconds {training.train_seconds:g}" if training.train_seconds else ""
            place = f"{checkpoints.start.folder} is at iteration {state.iteration} of train_iters {training.train_iters}{limit}"
            log.info("%s: nothing is left to do", place)
            return state
        loaders = build_loaders(config, sizes, tokenizer, grid)
        form = make_training_form(model, config.parallelism, tokenizer.eod_id)
        fills = not config.adapter.keeps_base  # else the base is loaded
        layers = build_layers(model, tokenizer.vocab_size, padded, grid, DTYPES[model.precision], training.seed, fills, form)
        loss = WeightedLoss(make_vocab_shard(checkpoints.scored_rows, padded, grid), model.z_loss_coefficient)
        module = build_module(layers, loss, config, grid)
        prepare_adapters(module, config, tokenizer.vocab_size, grid)
        optimizer = build_optimizer(config.optimizer, module.named_parameters(), model, grid)
        engine = build_engine(module, optimizer, config, sizes, grid)
        state = checkpoints.resume(engine, loaders)
        if training.save and is_rank_zero():
            begin = state.iteration, state.consumed_samples
            entry = make_order_entry(config, sizes, grid.data_size, begin, tokenizer.eod_id, checkpoints.record.data)
            maybe_record_order(training.save, entry)
        trackers = build_trackers(config, checkpoints.record.run, state.iteration)
        meter = Meter(config, sizes, padded, grid, trackers)
        checkpoints.maybe_save_initial(engine, state)
        guard = LossGuard(config)
        Run(config, sizes, grid, engine, loaders, state, meter, checkpoints, guard, stop or StopRequest()).run_to_the_end()
        meter.close()
        barrier()  # a launcher may end the other ranks as soon as one has ended
    return state


def log_start(config: NeoXConfig, checkpoints: Checkpoints) -> None:
    """Begin the log file of this rank; log remarks on the configuration and the changes since the checkpoint."""
    if config.training.log_dir:
        log_to_folder(Path(config.training.log_dir) / checkpoints.record.run)
    for remark in list_remarks(config):
        log.info("%s", remark)
    for change in checkpoints.changes:
        log.info("changed since %s: %s", checkpoints.start.folder, change)
