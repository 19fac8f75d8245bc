"""Trace some steps of a run: `profile`, `profile_step_start` and `profile_step_stop`. The file opens in Perfetto."""

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from neox_code.config.training import TrainingConfig
from neox_code.logs import get_logger

log = get_logger(__name__)

FOLDER = "profile"


class Profile:
    """Call `begin_step` and `end_step` around each step, with its number."""

    def __init__(self, training: TrainingConfig, rank: int):
        self.first, self.last = training.profile_step_start, training.profile_step_stop
        folder = training.save or training.tensorboard_dir
        self.path = Path(folder) / FOLDER / f"rank{rank}.json.gz" if training.profile and folder else None
        if training.profile and not folder and rank == 0:
            log.warning("profile: there is no folder for the trace. Set save.")
        self.profiler: profile | None = None

    def begin_step(self, step: int) -> None:
        """Start the trace before its first step. A run that resumes within these steps writes no trace."""
        if self.path is not None and step == self.first:
            gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
            self.profiler = profile(activities=[ProfilerActivity.CPU, *gpu], record_shapes=True)
            self.profiler.start()

    def end_step(self, step: int) -> None:
        """Write the trace after its last step. A failure is logged."""
        if self.profiler is None or self.path is None or step < self.last:
            return
        profiler, self.profiler = self.profiler, None
        profiler.stop()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            profiler.export_chrome_trace(str(self.path))
            log.info("profile: steps %d to %d are in %s", self.first, self.last, self.path)
        except (OSError, RuntimeError) as error:
            log.warning("profile: %s was not written: %s", self.path, error)
