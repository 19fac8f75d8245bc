"""Trackers write a run's metrics on rank 0: to a JSON Lines file, TensorBoard, Weights & Biases, and trackio.

Several runs may share a file or folder: each row has the name of its run, and each run has its own folder for TensorBoard.

Names are GPT-NeoX's: train/lm_loss, train/learning_rate, runtime/tokens_per_sec, validation/lm_loss, ...
"""

import os
import re
import time
from collections.abc import Callable, Mapping
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from neox_code.config.neox import NeoXConfig
from neox_code.config.training import TrainingConfig
from neox_code.errors import ConfigError
from neox_code.files import append_json_line, read_json_lines, write_json_lines
from neox_code.logs import get_logger, is_rank_zero

log = get_logger(__name__)


class Tracker(Protocol):
    def log(self, iteration: int, scalars: Mapping[str, float]) -> None: ...

    def rewind(self, iteration: int) -> None:
        """Remove the rows after an iteration, to which training returns, if the tracker can."""

    def close(self) -> None: ...


class JsonLinesTracker:
    """Tracker that appends a row per call to a file: {"run": NAME, "iteration": 10, "train/lm_loss": 2.5, ...}.

    `time` is the time of the row in Unix seconds and `start` that of the start of the process, which is another after a restart. If
    the run resumes at iteration `begin`, its later rows and an incomplete last line are removed. Other runs' rows are kept.
    """

    def __init__(self, path: Path, run: str, begin: int):
        self.path, self.run, self.start = path, run, round(time.time(), 3)
        self.rewind(begin)

    def log(self, iteration: int, scalars: Mapping[str, float]) -> None:
        times = {"time": round(time.time(), 3), "start": self.start}
        append_json_line(self.path, {"run": self.run, "iteration": iteration, **times, **scalars})

    def rewind(self, iteration: int) -> None:
        rows = list(read_json_lines(self.path)) if self.path.exists() else []
        kept = [row for row in rows if row.get("run") != self.run or row["iteration"] <= iteration]
        if len(kept) < len(rows) or (self.path.exists() and self.path.read_bytes()[-1:] not in (b"", b"\n")):
            write_json_lines(self.path, kept)

    def close(self) -> None: ...


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rows of the run that wrote to a metrics file last."""
    rows = list(read_json_lines(path))
    return [row for row in rows if row.get("run") == rows[-1].get("run")]


class TensorBoardTracker:
    """Tracker that writes event files in FOLDER/RUN. If the run resumes at iteration `begin`, its later points are hidden."""

    def __init__(self, folder: str, run: str, begin: int):
        self.folder = str(Path(folder) / run)
        self.rewind(begin)

    def log(self, iteration: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, iteration)

    def rewind(self, iteration: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(self.folder, purge_step=iteration + 1)

    def close(self) -> None:
        self.writer.close()


class WandbTracker:
    """A Weights & Biases run. The key is read from WANDB_API_KEY or from the file of `wandb login`, and never written.

    The run's id at Weights & Biases is the end of the run's name, at most 64 characters. Checkpoints contain the name, so that a
    resumed run has the same id.
    """

    def __init__(self, config: NeoXConfig, run: str):
        try:
            import wandb
        except ImportError:
            raise ConfigError("use_wandb is true, but the package wandb is missing. Run: pip install -e '.[wandb]'") from None
        training = config.training
        self.run = wandb.init(
            project=training.wandb_project,
            group=training.wandb_group,
            name=training.wandb_run_name,
            entity=training.wandb_team,
            id=run[-64:],
            resume="allow",
        )

    def log(self, iteration: int, scalars: Mapping[str, float]) -> None:
        self.run.log(dict(scalars), step=iteration)

    def rewind(self, iteration: int) -> None: ...

    def close(self) -> None:
        self.run.finish()


class TrackioTracker:
    """A run in trackio's database on this machine, a folder of SQLite files. `trackio show` opens its page."""

    def __init__(self, config: NeoXConfig, run: str):
        try:
            import trackio
        except ImportError:
            raise ConfigError("use_trackio is true, but the package trackio is missing. Run: pip install -e '.[trackio]'") from None
        self.run = trackio.init(project=config.training.trackio_project, name=run, resume="allow")

    def log(self, iteration: int, scalars: Mapping[str, float]) -> None:
        self.run.log(dict(scalars), step=iteration)

    def rewind(self, iteration: int) -> None: ...

    def close(self) -> None:
        self.run.finish()


def make_run_name(training: TrainingConfig) -> str:
    """Return a name for a new run: `wandb_run_name` or the folder of `save`, and the time.

    The name is unique among the runs of a machine: code-20260131-154500-4711.
    """
    name = training.wandb_run_name or Path(training.save or "run").resolve().name
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', name)}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"


def has_wandb_login() -> bool:
    """Return True if Weights & Biases has a key for its server or needs none. Otherwise it would prompt for a key on a terminal."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, NetrcParseError):
        return False


class Tolerant:
    """A wrapper of a tracker: failures do not end training. The first failure is logged as a warning; later rows are still tried.

    If the tracker cannot be built, training continues without it. A missing package is still an error.
    """

    def __init__(self, name: str, build: Callable[[], Tracker]):
        self.name, self.has_failed = name, False
        self.tracker: Tracker | None = None
        self.run_or_warn(lambda: setattr(self, "tracker", build()))

    def run_or_warn(self, action: Callable[[], object]) -> None:
        """Run the action; turn its first exception into a warning."""
        try:
            action()
        except ConfigError:
            raise
        except Exception as error:
            if not self.has_failed:
                reason = str(error).strip().splitlines() or [type(error).__name__]
                log.warning("%s cannot be written (%s); training continues without it", self.name, reason[0])
            self.has_failed = True

    def log(self, iteration: int, scalars: Mapping[str, float]) -> None:
        tracker = self.tracker
        if tracker is not None:
            self.run_or_warn(lambda: tracker.log(iteration, scalars))

    def rewind(self, iteration: int) -> None:
        tracker = self.tracker
        if tracker is not None:
            self.run_or_warn(lambda: tracker.rewind(iteration))

    def close(self) -> None:
        if self.tracker is not None:
            self.run_or_warn(self.tracker.close)


def build_trackers(config: NeoXConfig, run: str, begin: int) -> list[Tracker]:
    """Return the configured trackers, for a run that continues after iteration `begin`."""
    if not is_rank_zero():
        return []
    training = config.training
    trackers: list[Tracker] = []
    metrics = training.metrics_file or (Path(training.save) / "metrics.jsonl" if training.save else None)
    if metrics:
        trackers.append(Tolerant(f"metrics_file {metrics}", lambda: JsonLinesTracker(Path(metrics), run, begin)))
    if training.tensorboard_dir:
        folder = training.tensorboard_dir
        trackers.append(Tolerant(f"tensorboard_dir {folder}", lambda: TensorBoardTracker(folder, run, begin)))
    if training.use_wandb and has_wandb_login():
        trackers.append(Tolerant("the run at Weights & Biases", lambda: WandbTracker(config, run)))
    elif training.use_wandb:
        log.warning("use_wandb: no login (WANDB_API_KEY or `wandb login`); training continues without Weights & Biases")
    if training.use_trackio:
        trackers.append(Tolerant("the run at trackio", lambda: TrackioTracker(config, run)))
    return trackers
