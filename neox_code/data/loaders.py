"""Batches for this rank, from the configuration; resume is `loaders.train.seek(consumed_samples)`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import DataLoader, Dataset

from neox_code.config.derive import BatchSizes
from neox_code.config.neox import NeoXConfig
from neox_code.data.batch import Batch, collate
from neox_code.data.megatron_datasets import build_datasets
from neox_code.data.sampler import ConsecutiveSampler
from neox_code.errors import DataError
from neox_code.parallel.grid import ParallelGrid
from neox_code.tokenizer.protocol import Tokenizer


class BatchLoader:
    """Micro batches of one dataset for one data rank, from any sample on."""

    def __init__(self, dataset: Dataset, micro_batch_size: int, grid: ParallelGrid, num_workers: int):
        self.sampler = ConsecutiveSampler(len(dataset), micro_batch_size, grid.data_rank, grid.data_size)
        self.loader = DataLoader(
            dataset,
            batch_sampler=self.sampler,
            num_workers=num_workers,
            collate_fn=collate,
            pin_memory=grid.device.type == "cuda",
        )

    def seek(self, consumed_samples: int) -> None:
        """The next `iter` starts after so many samples over all ranks."""
        self.sampler.seek(consumed_samples)

    def require(self, batches: int) -> None:
        """Raises DataError where fewer micro batches are left for each rank."""
        if batches > len(self.sampler):
            needed = batches * self.sampler.micro_batch_size * self.sampler.data_size
            raise DataError(
                f"there are {self.sampler.num_samples:,} training samples, for train_iters steps of train_batch_size. "
                f"{self.sampler.consumed_samples:,} are consumed, and the remaining steps need {needed:,}. "
                "Go on with the train_batch_size that the run began with, or begin anew with its weights (finetune: true)."
            )

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.loader)


@dataclass(frozen=True)
class Loaders:
    train: BatchLoader
    valid: BatchLoader | None
    test: BatchLoader | None


def build_loaders(config: NeoXConfig, sizes: BatchSizes, tokenizer: Tokenizer, grid: ParallelGrid) -> Loaders:
    """The three loaders; validation and test are None without `eval_iters` or documents. Called on every rank."""
    training, data = config.training, config.data
    evaluated = training.eval_iters * sizes.train_batch_size
    datasets = build_datasets(
        data,
        config.model.sample_length,
        (training.train_iters * sizes.train_batch_size, evaluated, evaluated),
        tokenizer,
        training.seed,
        cache_folder(config),
    )
    loaders = [
        BatchLoader(dataset, sizes.micro_batch_size, grid, data.num_workers) if dataset is not None else None
        for dataset in datasets
    ]
    if loaders[0] is None:
        raise DataError("there are no training documents. Check split, or name train_data_paths.")
    return Loaders(*loaders)


def cache_folder(config: NeoXConfig) -> Path | None:
    """`data_cache_path`, else `data_cache` in `save`, else none: the indices stay in memory."""
    if config.data.data_cache_path:
        return Path(config.data.data_cache_path)
    return Path(config.training.save) / "data_cache" if config.training.save else None
