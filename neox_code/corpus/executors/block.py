"""The tasks of a stage as a block of a datatrove pipeline, each of datatrove's ranks one job.

SlurmPipelineExecutor([StageBlock(folder)], tasks=num_jobs, ...)
"""

from pathlib import Path

from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from neox_code.corpus.executors.group import run_group


class StageBlock(PipelineStep):
    """Does what the order in an attempt's folder says; it takes no documents and yields none."""

    name = "tasks"
    type = "neox-code"

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        run_group(self.folder, rank)
        return ()
