"""Pretraining, start to end: read this file first. Each line builds one thing and hands it on."""

from pathlib import Path

from neox_code.checkpoint.layout import MERGED_CONFIG
from neox_code.checkpoint.load import load_latest
from neox_code.checkpoint.save import save_checkpoint
from neox_code.config.derive import padded_vocab_size
from neox_code.config.neox import NeoXConfig
from neox_code.data.loaders import build_loaders
from neox_code.parallel.startup import require_same_everywhere, startup
from neox_code.tokenizer.registry import build_tokenizer
from neox_code.training.engine import build_engine
from neox_code.training.loop import Run
from neox_code.training.state import TrainingState
from neox_code.training.trackers import build_trackers


def pretrain(config: NeoXConfig) -> TrainingState:
    """Trains the configured model on this rank together with all others; returns where it ended."""
    training, model = config.training, config.model
    with startup(config.parallelism) as grid:
        require_same_everywhere(config.to_yaml())
        tokenizer = build_tokenizer(config.data)
        padded = padded_vocab_size(tokenizer.vocab_size, model.make_vocab_size_divisible_by, grid.tensor_size)
        sizes = config.batch_sizes(grid.data_size)
        loaders = build_loaders(config, sizes, tokenizer, grid)
        engine = build_engine(config, tokenizer.vocab_size, grid)
        loaded = load_latest(engine, training)
        state = TrainingState() if training.finetune else TrainingState.from_dict(loaded)
        loaders.train.seek(state.consumed_samples)
        loaders.train.require((training.train_iters - state.iteration) * sizes.accumulation_steps)
        trackers = build_trackers(config, state.iteration)
        config_files = [(Path(source).name, Path(source).read_text(encoding="utf-8")) for source in config.sources]
        config_files.append((MERGED_CONFIG, config.to_yaml()))

        def save(state: TrainingState) -> Path:
            client_state = state.as_dict() | {"args": model_arguments(config, padded)}
            return save_checkpoint(
                engine, training.save, state.iteration, client_state, config_files, training.keep_last_n_checkpoints
            )

        state = Run(engine, loaders, state, config, sizes, padded, grid, trackers, save).to_the_end()
        for tracker in trackers:
            tracker.close()
    return state


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
