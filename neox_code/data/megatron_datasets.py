"""The door to megatron-core's GPT datasets: token files become shuffled samples of equal length, blended by weight.

    train, valid, test = build_datasets(config.data, sequence_length, (1000, 100, 100), tokenizer, seed, cache="indices")
    train[0]["tokens"], train[0]["labels"], train[0]["loss_mask"]        # each [S]

Documents are shuffled over all epochs, joined, and cut into windows of S + 1 tokens; label i is the token after token i.
"""

import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
from torch.utils.data import Dataset

from neox_code.config.data import DataConfig
from neox_code.data.indexed_dataset import IndexedDataset
from neox_code.data.splits import split_string
from neox_code.errors import DataError
from neox_code.logs import get_logger, is_rank_zero
from neox_code.parallel.collectives import barrier
from neox_code.tokenizer.protocol import Tokenizer

log = get_logger(__name__)
logging.getLogger("megatron.core.datasets").setLevel(logging.ERROR)  # it warns of every index that is not kept

SPLITS = ("train", "valid", "test")

IN_MEMORY = ""
"""What megatron-core calls no folder for indices; None would mean one beside the token file."""

INDICES = "sample_indices"
"""Folder within the cache that is this module's own, and that it may delete."""


@dataclass(frozen=True)
class TokenizerFacts:
    """What megatron-core reads of a tokenizer."""

    vocab_size: int
    eod: int
    pad: int
    unique_identifiers: dict[str, str]


def build_datasets(
    data: DataConfig,
    sequence_length: int,
    num_samples: Sequence[int],
    tokenizer: Tokenizer,
    seed: int,
    cache: str | Path | None,
) -> tuple[Dataset | None, Dataset | None, Dataset | None]:
    """Training, validation and test samples; None where none are asked for or the shares leave no documents.

    Their indices are kept in `cache`, or in memory alone where it is None.
    Must be called on every rank. Raises DataError where a token file is missing, damaged or shorter than one sample.
    """
    blends = [blend(data, split) if count else None for split, count in zip(SPLITS, num_samples, strict=True)]
    for prefix in sorted({prefix for paths, _ in filter(None, blends) for prefix in paths} or {data.data_path or ""}):
        check_token_file(prefix, sequence_length)
    sources = (
        {"blend": ([data.data_path], None), "split": split_string(data.split)} if data.data_path else {"blend_per_split": blends}
    )
    indices = Path(cache) / INDICES if cache else None
    dataset_config = GPTDatasetConfig(
        random_seed=seed,
        sequence_length=sequence_length,
        path_to_cache=str(indices) if indices else IN_MEMORY,
        tokenizer=TokenizerFacts(tokenizer.vocab_size, tokenizer.eod_id, padding_mark(tokenizer), tokenizer.identity),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=data.eod_mask_loss,
        create_attention_mask=False,
        **sources,
    )
    with whole_folder(indices), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built = BlendedMegatronDatasetBuilder(GPTDataset, list(num_samples), lambda: True, dataset_config).build()
    datasets = [dataset if dataset is not None and len(dataset) > 0 else None for dataset in built]
    for split, count, dataset in zip(SPLITS, num_samples, datasets, strict=True):
        if count and dataset is None:
            log.info("%s: no documents in this share (split %s); it is left out", split, split_string(data.split))
    return tuple(datasets)


def padding_mark(tokenizer: Tokenizer) -> int:
    """The id that is masked in the loss. Where padding is the end-of-document token, none: ends of documents are learnt."""
    return tokenizer.pad_id if tokenizer.pad_id != tokenizer.eod_id else -1


def blend(data: DataConfig, split: str) -> tuple[list[str], list[float] | None] | None:
    """Paths and weights of one split from its `*_data_paths`; None where the config has none."""
    paths = list(getattr(data, f"{split}_data_paths"))
    weights = list(getattr(data, f"{split}_data_weights")) or [1.0] * len(paths)
    return (paths, weights if len(paths) > 1 else None) if paths else None


def check_token_file(prefix: str, sequence_length: int) -> None:
    """Raises DataError unless PREFIX.bin and PREFIX.idx are there, whole, and hold at least one sample."""
    tokens = int(IndexedDataset(prefix).sizes.sum(dtype="int64"))
    if tokens <= sequence_length:
        raise DataError(
            f"{prefix}.bin holds {tokens:,} tokens, one sample needs {sequence_length + 1:,}. Add documents, or lower seq_length."
        )


@contextmanager
def whole_folder(indices: Path | None) -> Iterator[None]:
    """A folder of indices that is complete or made anew: a killed writer leaves no marker, and the next run empties the folder."""
    if indices is None:
        yield
        return
    marker = indices / "complete"
    if is_rank_zero():
        if not marker.exists():
            shutil.rmtree(indices, ignore_errors=True)
        indices.mkdir(parents=True, exist_ok=True)
        marker.unlink(missing_ok=True)
    barrier()
    yield
    barrier()
    if is_rank_zero():
        marker.touch()
