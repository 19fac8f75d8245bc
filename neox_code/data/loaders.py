"""Build the loaders that return this rank's batches. A resumed run calls `loaders.train.seek(consumed_samples)`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from neox_code.config.derive import BatchSizes
from neox_code.config.neox import NeoXConfig
from neox_code.data.batch import Batch, collate
from neox_code.data.megatron_datasets import (
    SampleDataset,
    build_datasets,
    build_unseen_samples,
    build_validation_languages,
    choose_masked_padding_id,
)
from neox_code.data.packed_samples import Sample
from neox_code.data.sampler import ConsecutiveSampler
from neox_code.errors import DataError
from neox_code.launch.stop_signals import ignore_group_signals
from neox_code.parallel.counter_numbers import derive_keys, make_key
from neox_code.parallel.grid import ParallelGrid
from neox_code.tokenizer.protocol import Tokenizer


class Reader(Dataset):
    """A dataset that returns the numbers of the samples with them.

    It returns a DataError instead of raising it, so that a worker passes it to the main process without a trace."""

    def __init__(self, dataset: SampleDataset):
        self.dataset = dataset

    def __getitems__(self, indices: list[int]) -> tuple[list[int], list[Sample]] | DataError:
        try:
            return indices, [self.dataset[index] for index in indices]
        except DataError as error:
            return error


def collate_or_pass_error(
    found: tuple[list[int], list[Sample]] | DataError,
    collate_samples: Callable[[Sequence[Sample]], Batch],
    dropout_key: int | None,
) -> Batch | DataError:
    """Return the samples as a batch, with a key of the run also the keys of their dropout masks; return an error unchanged."""
    if isinstance(found, DataError):
        return found
    numbers, samples = found
    inputs, others = collate_samples(samples)
    if dropout_key is None:
        return inputs, others
    assert isinstance(inputs, torch.Tensor)
    return (inputs, derive_keys(torch.tensor(dropout_key), torch.tensor(numbers))), others


def choose_dropout_key(config: NeoXConfig) -> int | None:
    """Return the run's key of the masks of dropout; None without dropout."""
    return make_key(config.training.seed) if config.model.hidden_dropout or config.model.attention_dropout else None


class BatchLoader:
    """Loader of one dataset's micro batches for one data rank. `seek` sets the first sample. Iterations share worker processes.

    With `dropout_key` each row has a key, which depends on this one and the number of its sample.

    The middle stages of a pipeline read no data and have no workers.
    """

    def __init__(
        self,
        dataset: SampleDataset,
        micro_batch_size: int,
        grid: ParallelGrid,
        num_workers: int,
        collate_samples: Callable[[Sequence[Sample]], Batch] = collate,
        dropout_key: int | None = None,
    ):
        self.dataset = dataset
        self.sampler = ConsecutiveSampler(len(dataset), micro_batch_size, grid.data_rank, grid.data_size)
        is_read = grid.pipeline_stage in (0, grid.pipeline_size - 1)
        self.loader = DataLoader(
            Reader(dataset),
            batch_sampler=self.sampler,
            num_workers=num_workers if is_read else 0,
            persistent_workers=is_read and num_workers > 0,
            collate_fn=partial(collate_or_pass_error, collate_samples=collate_samples, dropout_key=dropout_key),
            pin_memory=grid.device.type == "cuda",
            worker_init_fn=ignore_group_signals,
        )

    def seek(self, consumed_samples: int) -> None:
        """Make the next iteration begin after `consumed_samples` samples, counted over all ranks."""
        self.sampler.seek(consumed_samples)

    def require(self, batches: int) -> None:
        """Ensure that each rank can read `batches` more micro batches. Raise DataError if the dataset cannot be extended so far."""
        needed = batches * self.sampler.micro_batch_size * self.sampler.data_size
        end = self.sampler.consumed_samples + needed
        if end > self.sampler.num_samples:
            self.dataset.extend(end)
            self.sampler.num_samples = len(self.dataset)
        if batches > len(self.sampler):
            raise DataError(
                f"there are {self.sampler.num_samples:,} training samples, for train_iters steps of train_batch_size. "
                f"{self.sampler.consumed_samples:,} are consumed, and the remaining steps need {needed:,}. "
                "Set train_batch_size to the value at the start of the run, or start a new run from its weights (finetune: true)."
            )

    def __iter__(self) -> Iterator[Batch]:
        """Return micro batches. Raise DataError if a sample cannot be read or a worker process ends.

        The workers are started by this call, since torch draws their seed from the generator that also seeds adapters.
        """
        return check_batches(iter(self.loader))


def check_batches(batches: Iterator[Batch | DataError]) -> Iterator[Batch]:
    """Yield the batches. If an item is an error, raise it. Raise DataError if a worker process ends."""
    try:
        for batch in batches:
            if isinstance(batch, DataError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            f"a worker process that reads samples ended: {str(error).splitlines()[0].rstrip('.')}. Check that no program changed "
            "the token files, and that there is enough shared memory (in Docker: --shm-size). num_workers: 0 reads without workers."
        ) from error


@dataclass(frozen=True)
class LanguageRange:
    """The samples of one language in a loader."""

    language: str
    first_sample: int
    num_batches: int
    """Number of batches of a step, at most `eval_iters`."""


@dataclass(frozen=True)
class Loaders:
    train: BatchLoader
    valid: BatchLoader | None
    test: BatchLoader | None
    token_bytes: torch.Tensor
    """Number of bytes to which each id decodes, int64 [vocabulary]; 0 for special tokens."""
    valid_languages: BatchLoader | None = None
    """One loader with the validation samples of all languages, one language after the other."""
    language_ranges: tuple[LanguageRange, ...] = ()
    unseen: BatchLoader | None = None
    """Documents of the training files that training leaves out (`unseen_share`)."""


def build_loaders(config: NeoXConfig, sizes: BatchSizes, tokenizer: Tokenizer, grid: ParallelGrid) -> Loaders:
    """Return the loaders; all but that of training are None without `eval_iters` or documents. Call it on every rank."""
    training, data = config.training, config.data
    evaluated = training.eval_iters * sizes.train_batch_size
    shared = (tokenizer, training.seed, choose_cache_folder(config))
    numbers = (training.num_steps * sizes.train_batch_size, evaluated, evaluated)
    datasets = build_datasets(data, config.model.sample_length, numbers, *shared)
    has_padding = data.pack_impl == "best_fit" or data.fim_rate > 0 or choose_masked_padding_id(tokenizer) >= 0
    has_mask = data.eod_mask_loss or has_padding
    found = {}
    if data.valid_by_language and training.eval_iters:
        found = build_validation_languages(data, config.model.sample_length, *shared)
    joined, ranges = join_languages(found, sizes.train_batch_size, training.eval_iters)
    has_unseen = data.unseen_share and training.eval_iters
    left_out = build_unseen_samples(data, config.model.sample_length, evaluated, *shared) if has_unseen else None
    shared_arguments = (grid, data.num_workers, partial(collate, has_mask=has_mask), choose_dropout_key(config))
    train, valid, test, languages, unseen = (
        BatchLoader(dataset, sizes.micro_batch_size, *shared_arguments) if dataset is not None else None
        for dataset in (*datasets, joined, left_out)
    )
    if train is None:
        raise DataError("there are no training documents. Check split, or name train_data_paths.")
    return Loaders(train, valid, test, count_token_bytes(tokenizer), languages, ranges, unseen)


def count_token_bytes(tokenizer: Tokenizer) -> torch.Tensor:
    """Return the number of bytes of each token [V]; 0 for special tokens."""
    return torch.tensor([len(data) for data in tokenizer.read_token_bytes()])


def join_languages(
    languages: Mapping[str, SampleDataset], batch_size: int, eval_iters: int
) -> tuple[Any, tuple[LanguageRange, ...]]:
    """Return one dataset with whole batches of each language, and the ranges of the languages; (None, ()) without languages.

    A language with fewer samples than a batch repeats them to fill one batch.
    """
    if not languages:
        return None, ()
    parts, ranges, first = [], [], 0
    for language, dataset in languages.items():
        num_batches = min(eval_iters, max(1, len(dataset) // batch_size))
        dataset.extend(num_batches * batch_size)
        parts.append(Subset(cast("Dataset[Any]", dataset), range(num_batches * batch_size)))
        ranges.append(LanguageRange(language, first, num_batches))
        first += num_batches * batch_size
    return ConcatDataset(parts), tuple(ranges)


def choose_cache_folder(config: NeoXConfig) -> Path | None:
    """Return `data_cache_path`, else the folder `data_cache` in `save`. Return None if neither is set: indices stay in memory."""
    if config.data.data_cache_path:
        return Path(config.data.data_cache_path)
    return Path(config.training.save) / "data_cache" if config.training.save else None
