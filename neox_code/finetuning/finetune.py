"""Fine-tuning from start to end, beside `training/pretrain.py`: rows in place of token files, and the weights of a base model."""

from neox_code.adapters.attach import prepare_adapters
from neox_code.config.neox import NeoXConfig
from neox_code.finetuning.row_loaders import build_row_loaders, count_steps, read_row_data
from neox_code.launch.stop_signals import StopRequest
from neox_code.logs import get_logger
from neox_code.model.form import make_training_form
from neox_code.model.gpt import DTYPES, build_layers
from neox_code.model.loss import WeightedLoss, make_vocab_shard
from neox_code.parallel.collectives import barrier
from neox_code.parallel.grid import read_memory_bytes
from neox_code.parallel.startup import require_same_everywhere, startup
from neox_code.planning.memory import require_memory
from neox_code.tokenizer.registry import build_tokenizer
from neox_code.training.checkpoints import lock_save_folder, open_checkpoints
from neox_code.training.engine import build_engine, build_module
from neox_code.training.loop import Run
from neox_code.training.loss_guard import LossGuard
from neox_code.training.meter import Meter
from neox_code.training.optimizer import build_optimizer
from neox_code.training.pretrain import log_start
from neox_code.training.state import TrainingState
from neox_code.training.trackers import build_trackers

log = get_logger(__name__)


def finetune(config: NeoXConfig, stop: StopRequest | None = None) -> TrainingState:
    """Fine-tune the model in `load` on this rank, together with all other ranks. Return the training state at the end.

    `config` is the result of `NeoXConfig.for_finetuning`. If `stop` receives a signal, the run saves a checkpoint and ends early,
    and `stop.was_followed` is True.
    """
    with startup(config.parallelism) as grid, lock_save_folder(config.training.save):
        require_same_everywhere(config.to_yaml())
        tokenizer = build_tokenizer(config.data)
        sizes = config.batch_sizes(grid.data_size)
        data = read_row_data(config, tokenizer)
        first = data.make_samples(config, tokenizer.eod_id)
        if config.finetuning.num_epochs is not None:
            config = config.replace("num_epochs", train_iters=count_steps(len(first), config, sizes), num_epochs=None)
        checkpoints = open_checkpoints(config, tokenizer, sizes, grid, data.identity)
        config, padded = checkpoints.config, checkpoints.padded_vocab_size
        training, model = config.training, config.model
        require_memory(config, grid.world_size, padded, read_memory_bytes(grid.device))
        log_start(config, checkpoints)
        state = TrainingState.from_dict(checkpoints.record.state)
        if state.is_finished(training):
            place = f"{checkpoints.start.folder} is at iteration {state.iteration} of train_iters {training.train_iters}"
            log.info("%s: nothing is left to do", place)
            return state
        loaders = build_row_loaders(data, config, sizes, tokenizer, grid)
        form = make_training_form(model, config.parallelism, tokenizer.eod_id)
        fills = not config.adapter.keeps_base  # else the base is loaded
        layers = build_layers(model, tokenizer.vocab_size, padded, grid, DTYPES[model.precision], training.seed, fills, form)
        loss = WeightedLoss(make_vocab_shard(checkpoints.scored_rows, padded, grid), model.z_loss_coefficient)
        module = build_module(layers, loss, config, grid)
        prepare_adapters(module, config, tokenizer.vocab_size, grid)
        optimizer = build_optimizer(config.optimizer, module.named_parameters(), model, grid)
        engine = build_engine(module, optimizer, config, sizes, grid)
        state = checkpoints.resume(engine, loaders)
        meter = Meter(config, sizes, padded, grid, build_trackers(config, checkpoints.record.run, state.iteration))
        meter.tokens_per_step = round(sizes.train_batch_size * first.num_inputs / len(first))
        guard = LossGuard(config)
        Run(config, sizes, grid, engine, loaders, state, meter, checkpoints, guard, stop or StopRequest()).run_to_the_end()
        meter.close()
        barrier()  # a launcher may end the other ranks as soon as one has ended
    return state
