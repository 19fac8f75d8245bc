"""Build the loaders of a fine-tuning from its files of rows.

data = read_row_data(config, tokenizer)                            # on every rank; encodes the rows once
first = data.make_samples(config, tokenizer.eod_id)                # the first epoch
count_steps(len(first), config, sizes)                             # num_epochs in steps
loaders = build_row_loaders(data, config, sizes, tokenizer, grid)
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from neox_code.config.derive import BatchSizes
from neox_code.config.neox import NeoXConfig
from neox_code.corpus.sources.row_files import find_row_files
from neox_code.data.batch import collate
from neox_code.data.index_cache import IndexCache
from neox_code.data.loaders import BatchLoader, Loaders, choose_cache_folder, choose_dropout_key, count_token_bytes
from neox_code.data.megatron_datasets import EpochSamples, SampleDataset, enter_once_per_host, log_middles
from neox_code.errors import DataError
from neox_code.finetuning.middles import RowMiddles, build_row_middles
from neox_code.finetuning.samples import RowSamples, WholeBatches, collate_padded
from neox_code.finetuning.selection import Indices, RowPieces, divide_by_projects, drop_evaluated, limit_lengths
from neox_code.finetuning.token_rows import REPORTED_ROWS, TokenRows, load_token_rows
from neox_code.logs import format_plural, get_logger
from neox_code.parallel.collectives import run_on_rank_zero
from neox_code.parallel.grid import ParallelGrid
from neox_code.tokenizer.protocol import Tokenizer

log = get_logger(__name__)

SPLITS = ("train", "valid", "test")
CACHE_FOLDER = "rows"


@dataclass(frozen=True)
class RowData:
    """The rows of the splits: of each split its rows and the pieces that are read."""

    splits: dict[str, tuple[TokenRows, RowPieces]]
    identity: dict[str, Any]
    """The identity of the files, in the form of data/identity.py."""
    middles: dict[str, RowMiddles | None]
    """The rearrangement of the rows of each split for infilling."""

    def make_samples(self, config: NeoXConfig, eod_id: int, epoch: int = 0, split: str = "train") -> RowSamples:
        """Return the samples of an epoch of a split."""
        rows, pieces = self.splits[split]
        seed = [config.training.seed, epoch]
        return RowSamples(rows, pieces, config.model.sample_length, eod_id, config.finetuning.pack_rows, seed, self.middles[split])


def read_row_data(config: NeoXConfig, tokenizer: Tokenizer) -> RowData:
    """Return the rows of all splits, encoded on rank 0 and read from its cache on the others. Raise DataError for bad rows."""
    made: list[RowData] = []

    def make() -> RowData:
        folder = choose_cache_folder(config)
        return make_row_data(config, tokenizer, IndexCache(folder / CACHE_FOLDER if folder else None, 0))

    run_on_rank_zero(lambda: made.append(make()))
    with enter_once_per_host():
        return made[0] if made else make()


def make_row_data(config: NeoXConfig, tokenizer: Tokenizer, cache: IndexCache) -> RowData:
    """Read, divide and select the rows of all splits."""
    section = config.finetuning
    middles = {split: build_row_middles(config, tokenizer, split) for split in SPLITS}
    loaded: dict[str, tuple[TokenRows, Indices]] = {}
    identity: dict[str, Any] = {}
    for split in SPLITS:
        key = f"{split}_rows"
        if names := getattr(section, key):
            rows, identity[key] = load_token_rows(find_row_files(names, key), section, tokenizer, cache)
            loaded[split] = rows, np.arange(len(rows))
    rows, chosen = loaded["train"]
    if section.valid_share and "valid" not in loaded:
        chosen, held_out = divide_by_projects(rows, section.valid_share, config.training.seed)
        loaded["valid"] = rows, held_out
    others = [pair for split, pair in loaded.items() if split != "train"]
    loaded["train"] = rows, drop_evaluated(rows, chosen, others, section.project_column is not None)
    splits = {}
    for split, (rows, chosen) in loaded.items():
        own = middles[split]  # whose rows have more tokens and the end-of-document token, also where they are cut
        longest = config.model.sample_length - (0 if own is None else 1 + own.most_added)
        keeps_targets = own is not None and own.is_given
        pieces = limit_lengths(rows, chosen, longest, section.long_rows, f"{split}_rows", keeps_targets)
        if not len(pieces.rows):
            raise DataError(f"{split}_rows: no row is left. Correct the path, or change long_rows or valid_share.")
        if section.pack_rows:
            require_separable(rows, tokenizer.eod_id)
        splits[split] = rows, pieces
        tokens = int(pieces.lengths.sum())
        log.info("%s: %s, %s tokens", split, format_plural(len(np.unique(pieces.rows)), "row"), f"{tokens:,}")
    return RowData(splits, {"sample_order": config.data.sample_order, "split": None, "weights": {}, "files": identity}, middles)


def require_separable(rows: TokenRows, eod_id: int) -> None:
    """Raise DataError if a row has an end-of-document token inside, at which packed samples would divide it."""
    places = np.flatnonzero(rows.tokens == eod_id)
    if len(places):
        found = np.unique(np.searchsorted(rows.ends, places, side="right"))
        raise DataError("\n".join([
            *(f"{rows.place(row)} has an end-of-document token inside." for row in found[:REPORTED_ROWS].tolist()),
            f"{format_plural(len(found), 'row')} cannot be packed: each such token begins a row. Use another token in row_template "
            "or set pack_rows: false.",
        ]))  # fmt: skip


def build_row_loaders(data: RowData, config: NeoXConfig, sizes: BatchSizes, tokenizer: Tokenizer, grid: ParallelGrid) -> Loaders:
    """Return the loaders of the splits. Call it on every rank."""
    build = partial(data.make_samples, config, tokenizer.eod_id)
    train: SampleDataset = EpochSamples(build, config.training.num_steps * sizes.train_batch_size)
    if middles := data.middles["train"]:
        log_middles(train, middles.transform)
    evaluated = [
        WholeBatches(build(0, split), sizes.train_batch_size) if split in data.splits and config.training.eval_iters else None
        for split in ("valid", "test")
    ]
    collate_rows = (
        collate
        if config.finetuning.pack_rows
        else partial(collate_padded, eod_id=tokenizer.eod_id, multiple=choose_multiple(config, grid))
    )
    load = partial(
        BatchLoader,
        micro_batch_size=sizes.micro_batch_size,
        grid=grid,
        num_workers=config.data.num_workers,
        dropout_key=choose_dropout_key(config),
    )
    valid, test = (None if samples is None else load(samples, collate_samples=collate_rows) for samples in evaluated)
    return Loaders(load(train, collate_samples=collate_rows), valid, test, count_token_bytes(tokenizer))


def choose_multiple(config: NeoXConfig, grid: ParallelGrid) -> int:
    """Return the number of which the length of a padded batch is a multiple. Pipelines and compiled blocks need one length."""
    if config.parallelism.pipe_parallel_size > 1 or config.model.torch_compile:
        return config.model.sample_length
    return grid.tensor_size


def count_steps(num_samples: int, config: NeoXConfig, sizes: BatchSizes) -> int:
    """Return the number of steps of `num_epochs` passes through the training samples."""
    assert config.finetuning.num_epochs is not None
    return max(1, math.ceil(config.finetuning.num_epochs * num_samples / sizes.train_batch_size))
