"""Where a run's figures go: a JSON Lines file, TensorBoard, Weights & Biases. Rank zero writes, the others have none.

Names are GPT-NeoX's: train/lm_loss, train/learning_rate, runtime/tokens_per_sec, validation/lm_loss, ...
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from neox_code.config.neox import NeoXConfig
from neox_code.errors import ConfigError
from neox_code.files import append_json_line, read_json_lines, write_json_lines
from neox_code.logs import is_rank_zero


class Tracker(Protocol):
    def log(self, iteration: int, scalars: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class JsonLinesTracker:
    """One row per call: {"iteration": 10, "train/lm_loss": 2.5, ...}. Rows past the iteration of a resume are dropped first."""

    def __init__(self, path: Path, begin: int):
        self.path = path
        rows = [row for row in read_json_lines(path) if row["iteration"] <= begin] if path.exists() and begin else []
        write_json_lines(path, rows)

    def log(self, iteration: int, scalars: Mapping[str, float]) -> None:
        append_json_line(self.path, {"iteration": iteration, **scalars})

    def close(self) -> None: ...


class TensorBoardTracker:
    """Event files; `begin` hides the points of an earlier run past a resume."""

    def __init__(self, folder: str, begin: int):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(folder, purge_step=begin + 1)

    def log(self, iteration: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, iteration)

    def close(self) -> None:
        self.writer.close()


class WandbTracker:
    """A Weights & Biases run; the key comes from WANDB_API_KEY alone and is written nowhere."""

    def __init__(self, config: NeoXConfig):
        try:
            import wandb
        except ImportError:
            raise ConfigError("use_wandb is true, but the package wandb is missing. Run: pip install -e '.[wandb]'") from None
        training = config.training
        self.run = wandb.init(
            project=training.wandb_project, group=training.wandb_group, name=training.wandb_run_name, entity=training.wandb_team
        )

    def log(self, iteration: int, scalars: Mapping[str, float]) -> None:
        self.run.log(dict(scalars), step=iteration)

    def close(self) -> None:
        self.run.finish()


def build_trackers(config: NeoXConfig, begin: int) -> list[Tracker]:
    """The configured trackers, for a run that goes on after iteration `begin`."""
    if not is_rank_zero():
        return []
    training = config.training
    trackers: list[Tracker] = []
    metrics = training.metrics_file or (Path(training.save) / "metrics.jsonl" if training.save else None)
    if metrics:
        trackers.append(JsonLinesTracker(Path(metrics), begin))
    if training.tensorboard_dir:
        trackers.append(TensorBoardTracker(training.tensorboard_dir, begin))
    if training.use_wandb:
        trackers.append(WandbTracker(config))
    return trackers
