"""Datasets of samples: token files become shuffled samples of equal length, blended by weight.

    train, valid, test = build_datasets(config.data, sequence_length, (1000, 100, 100), tokenizer, seed, cache="data_cache")
    train[0]["tokens"], train[0]["labels"], train[0]["loss_mask"]        # each [S]
    train.list_parts(0)                                                  # [DocumentPart(prefix, document, offset, length, place)]

With `pack_impl: packed` an epoch of a file is megatron-core's order of one epoch: its documents are shuffled, joined, and cut into
windows of S + 1 tokens that overlap by one (label i is the token after token i), and the windows are shuffled. T tokens give
n = (T - 1) // S samples. The tokens after the last sample are skipped in this epoch. The next epoch has another order of documents
and skips other tokens. With `pack_impl: best_fit` an epoch consists of n rows of whole documents (neox_code/data/packing.py).

    sample_order: per_epoch    sample i of a file is sample i % n of epoch i // n, for any number of samples. Epoch 0 is shuffled by
                               the seed, epoch e by (seed, e). In a blend, only the weights decide the file of sample i.
    sample_order: all_epochs   megatron-core's order, which depends on the number of samples: all epochs are shuffled together,
                               the last one separately if less than 80% of it is read
"""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import neox_code.parallel.megatron_core  # noqa: F401 - imports megatron.core first

# isort: split
from megatron.core import __version__ as megatron_version
from megatron.core.datasets import helpers
from megatron.core.datasets.blended_megatron_dataset_config import convert_split_vector_to_split_matrix, parse_and_normalize_split
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
from megatron.core.datasets.indexed_dataset import IndexedDataset as MegatronFile
from megatron.core.datasets.utils import Split, normalize
from numpy.typing import NDArray
from torch.utils.data import Dataset

from neox_code.config.data import DataConfig
from neox_code.data.fill_in_the_middle import MiddleTransform, build_document_transform, build_middle_transform, describe_counts
from neox_code.data.identity import hash_idx
from neox_code.data.index_cache import Arrays, IndexCache
from neox_code.data.indexed_dataset import IndexedDataset, get_bin_path, get_idx_path
from neox_code.data.packed_samples import PackedSamples, Sample, SampleSettings, check_ids, fit_to_length, make_sample
from neox_code.data.shares import (
    DocumentPart,
    Share,
    divide_by_hash,
    divide_by_language,
    hash_documents,
    list_languages,
    require_origins,
    sample_by_directory,
    weigh_by_documents,
)
from neox_code.data.splits import format_split
from neox_code.data.vocabulary import check_vocabulary
from neox_code.errors import DataError
from neox_code.logs import format_plural, get_logger
from neox_code.parallel.collectives import barrier, run_on_rank_zero
from neox_code.tokenizer.protocol import Tokenizer

log = get_logger(__name__)
logging.getLogger("megatron.core.datasets").setLevel(logging.ERROR)  # it warns about every index that it does not cache itself

SPLITS = ("train", "valid", "test")

IN_MEMORY = ""
"""Value of megatron-core's cache path that keeps sample indices in memory. None would mean a folder beside the token file."""

INDICES = "sample_indices"
"""Folder of the indices within the cache folder."""

INDEX_NAMES = ("document_index", "sample_index", "shuffle_index")

SURPLUS = 1.005
"""megatron-core's factor for blends: of each file it prepares this factor times the number of samples that the weights need."""

EPOCHS_IN_MEMORY = 2
"""Number of epochs of a file whose indices stay in memory: the current one and the previous one, which a worker may still read."""

LOGGED_SAMPLES = 32
"""Number of samples whose documents' rearrangement is counted in the log."""

ONE_FILE = "To divide one token file into training, validation and test, set data_path and split instead of the *_data_paths."


@dataclass(frozen=True)
class TokenizerFacts:
    """The attributes of a tokenizer that megatron-core reads."""

    vocab_size: int
    eod: int
    pad: int
    unique_identifiers: dict[str, str]


@dataclass(frozen=True)
class TokenSource:
    """A token file of a split, its weight in the blend, and the range of its documents as two fractions from 0 to 1."""

    prefix: str
    weight: float = 1.0
    part: tuple[float, float] = (0.0, 1.0)


class SampleSequence(Protocol):
    """Samples by index, with the parts of documents in each."""

    def list_parts(self, index: int) -> list[DocumentPart]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...


class SampleDataset(SampleSequence, Protocol):
    """Samples that can be lengthened: `extend` makes at least `num_samples`, if earlier samples would stay the same."""

    def extend(self, num_samples: int) -> None: ...


def build_datasets(
    data: DataConfig,
    sequence_length: int,
    num_samples: Sequence[int],
    tokenizer: Tokenizer,
    seed: int,
    cache: IndexCache | str | Path | None,
) -> tuple[SampleDataset | None, SampleDataset | None, SampleDataset | None]:
    """Return training, validation and test samples; None for a split of 0 samples or without documents.

    Sample indices are stored in the folder `cache`, or in memory if it is None. Call this function on every rank. Raise DataError
    if a token file is missing, damaged, shorter than one sample or of another vocabulary. For validation and test there are two
    exceptions, which log a warning: a split is omitted if none of its files exists, and a file shorter than one sample is omitted.
    """
    cache = open_cache(cache)
    hashes = run_on_rank_zero(partial(check_token_files, data, sequence_length, num_samples, tokenizer, cache.folder is not None))
    config = make_megatron_config(data, sequence_length, seed, read_facts(tokenizer))
    shares = [open_shares(data, split, hashes, config) if count else [] for split, count in zip(Split, num_samples, strict=True)]
    if transform := build_middle_transform(data, tokenizer):
        shares[0] = [
            (replace(share, transform=build_document_transform(transform, share.prefix)), weight) for share, weight in shares[0]
        ]
    with enter_once_per_host():
        train, valid, test = (
            build_split(data, split, own, count, config, cache)
            for split, own, count in zip(Split, shares, num_samples, strict=True)
        )
    if train is not None:
        log_padding(train)
    if train is not None and transform:
        log_middles(train, transform)
    return train, valid, test


def build_validation_languages(
    data: DataConfig, sequence_length: int, tokenizer: Tokenizer, seed: int, cache: IndexCache | str | Path | None
) -> dict[str, SampleDataset]:
    """Return the validation samples of each language, one epoch of them. Call this function on every rank.

    Languages with too few tokens for a window are left out. Raise DataError if a token file has no origins.
    """
    cache = open_cache(cache)
    hashes = run_on_rank_zero(partial(check_token_files, data, sequence_length, (0, 1, 0), tokenizer, cache.folder is not None))
    config = make_megatron_config(data, sequence_length, seed, read_facts(tokenizer))
    parts: dict[str, list[Share]] = {}
    for share, _ in open_shares(data, Split.valid, hashes, config):
        for part in list_languages(share, "valid_by_language"):
            if part.num_tokens > config.sequence_length or data.pack_impl == "best_fit":
                parts.setdefault(str(part.language), []).append(part)
            else:
                log.info("validation/%s leaves out %d tokens of %s", part.language, part.num_tokens, part.prefix)
    found: dict[str, SampleDataset] = {}
    with enter_once_per_host():
        for language, own in sorted(parts.items()):
            makers = [partial(make_samples, replace(data, sample_order="per_epoch"), part, config, cache) for part in own]
            counts = [len(make(1)) for make in makers]
            found[language] = makers[0](1) if len(own) == 1 else BlendedSamples(makers, counts, sum(counts), cache)
    return found


def build_unseen_samples(
    data: DataConfig, sequence_length: int, num_samples: int, tokenizer: Tokenizer, seed: int, cache: IndexCache | str | Path | None
) -> SampleDataset | None:
    """Return samples of the training files' documents that `unseen_share` leaves out of training, with the weights of training.

    Call this function on every rank. Shares with too few tokens for a window are left out. Return None if no share is left.
    """
    cache = open_cache(cache)
    hashes = run_on_rank_zero(partial(check_token_files, data, sequence_length, (1, 0, 0), tokenizer, cache.folder is not None))
    config = make_megatron_config(data, sequence_length, seed, read_facts(tokenizer))
    opened = open_shares(data, Split.train, hashes, config, is_unseen=True)
    shares = [(share, weight) for share, weight in opened if share.num_tokens > sequence_length]
    if data.language_weights:
        found = {part.language for share, _ in shares for part in list_languages(share, "language_weights")}
        data = replace(data, language_weights={name: weight for name, weight in data.language_weights.items() if name in found})
    number = format_plural(sum(len(share.documents) for share, _ in shares), "document")
    log.info("validation/unseen: %s, which training leaves out", number)
    with enter_once_per_host():
        return build_split(data, Split.train, shares, num_samples, config, cache)


def read_facts(tokenizer: Tokenizer) -> TokenizerFacts:
    return TokenizerFacts(tokenizer.vocab_size, tokenizer.eod_id, choose_masked_padding_id(tokenizer), tokenizer.identity)


def open_shares(
    data: DataConfig, split: Split, hashes: Mapping[str, str], config: GPTDatasetConfig, is_unseen: bool = False
) -> list[tuple[Share, float]]:
    """Return the shares of a split with their weights. `hashes` has the token files to read.

    Training shares have no documents of `unseen_share`; with `is_unseen` they have these documents alone.
    """
    opened = [
        (open_share(source, GPTDataset.build_low_level_dataset(source.prefix, config), hashes[source.prefix]), source.weight)
        for source in find_sources(data, split)
        if source.prefix in hashes
    ]
    if split == Split.train and data.unseen_share:
        opened = [(divide_by_hash(share, data.unseen_share)[is_unseen], weight) for share, weight in opened]
    return opened


@contextmanager
def enter_once_per_host() -> Iterator[None]:
    """Enter the block first on one rank of each host, which makes the indices that are kept. The other ranks then read them."""
    if not is_first_of_host():
        barrier()
    yield
    if is_first_of_host():
        barrier()


def build_training_samples(
    data: DataConfig, sequence_length: int, num_samples: int, seed: int, eod_id: int, hashes: Mapping[str, str]
) -> SampleDataset:
    """Return the training samples of a former run, without its vocabulary and in this process alone.

    Raise DataError if a token file is missing, or if its .idx file does not have the SHA-256 in `hashes`.
    """
    config = make_megatron_config(data, sequence_length, seed, TokenizerFacts(2**31, eod_id, -1, {}))
    for source in find_sources(data, Split.train):
        if IndexedDataset(source.prefix) and hash_idx(source.prefix) != hashes.get(source.prefix):
            raise DataError(f"{get_idx_path(source.prefix)} is not the file that the run read. Put that file in its place.")
    shares = open_shares(data, Split.train, dict.fromkeys(hashes, ""), config)
    samples = build_split(data, Split.train, shares, num_samples, config, IndexCache(None))
    assert samples is not None
    return samples


def open_cache(cache: IndexCache | str | Path | None) -> IndexCache:
    """Return the cache in the folder `cache`; a cache in memory for None."""
    return cache if isinstance(cache, IndexCache) else IndexCache(Path(cache) / INDICES if cache is not None else None)


def is_first_of_host() -> bool:
    """Return True on one rank of each host. With one visible GPU for each rank it is True on all; the cache's locks then decide."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def make_megatron_config(data: DataConfig, sequence_length: int, seed: int, tokenizer: TokenizerFacts) -> GPTDatasetConfig:
    """Return megatron-core's settings of samples."""
    return GPTDatasetConfig(
        random_seed=seed,
        sequence_length=sequence_length,
        path_to_cache=IN_MEMORY,
        tokenizer=tokenizer,
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=data.eod_mask_loss,
        create_attention_mask=False,
    )


def choose_masked_padding_id(tokenizer: Tokenizer) -> int:
    """Return the padding token's id, which is masked in the loss; -1 (no masking) if it is the end-of-document token."""
    return tokenizer.pad_id if tokenizer.pad_id != tokenizer.eod_id else -1


def find_sources(data: DataConfig, split: Split) -> list[TokenSource]:
    """Return the token files that the configuration has for one split. Files with weight 0 are omitted."""
    if data.data_path:
        part = convert_split_vector_to_split_matrix(parse_and_normalize_split(format_split(data.split)))[split.value]
        return [TokenSource(data.data_path, part=part)] if part else []
    paths = getattr(data, f"{SPLITS[split.value]}_data_paths")
    weights = getattr(data, f"{SPLITS[split.value]}_data_weights") or [1.0] * len(paths)
    return [TokenSource(path, weight) for path, weight in zip(paths, weights, strict=True) if weight]


def check_token_files(
    data: DataConfig, sequence_length: int, num_samples: Sequence[int], tokenizer: Tokenizer, is_hashed: bool
) -> dict[str, str]:
    """Return the token files to read, each with the hash of its .idx if `is_hashed`, else "". `build_datasets` lists the errors."""
    prefixes = set()
    for split, count in zip(Split, num_samples, strict=True):
        found = {source.prefix for source in find_sources(data, split)} if count else set()
        is_optional = split != Split.train and not data.data_path
        if found and is_optional and not any(path(prefix).exists() for prefix in found for path in (get_bin_path, get_idx_path)):
            name = SPLITS[split.value]
            log.warning(
                "%s data is left out: %s does not exist (%s_data_paths). %s", name, get_bin_path(min(found)), name, ONE_FILE
            )
            found = set()
        for prefix in sorted(found) if is_optional else ():
            if reason := explain_if_too_short(prefix, sequence_length):
                log.warning("%s: left out, %s", SPLITS[split.value], reason)
                found.remove(prefix)
        prefixes |= found
    used = [(Split.train, key) for key in ("language_weights", "language_alpha", "directory_alpha", "unseen_share")]
    for split, key in [*used, (Split.valid, "valid_by_language")]:
        for source in find_sources(data, split) if getattr(data, key) not in (None, False, {}) else ():
            if source.prefix in prefixes:
                require_origins(source.prefix, key)
    for prefix in sorted(prefixes):
        check_token_file(prefix, sequence_length, tokenizer, len(prefixes))
    return {prefix: hash_idx(prefix) if is_hashed else "" for prefix in sorted(prefixes)}


def check_token_file(prefix: str, sequence_length: int, tokenizer: Tokenizer, num_files: int) -> None:
    """Raise DataError unless PREFIX.bin and PREFIX.idx are complete, fit the tokenizer, and hold at least one sample."""
    if reason := explain_if_too_short(prefix, sequence_length):
        raise DataError(reason)
    check_vocabulary(IndexedDataset(prefix), tokenizer, num_files)


def explain_if_too_short(prefix: str, sequence_length: int) -> str | None:
    """Return an error sentence if a token file holds less than one sample, else None. Raise DataError if it is missing."""
    tokens = IndexedDataset(prefix).counts()["tokens"]
    if tokens > sequence_length:
        return None
    return f"{prefix}.bin holds {tokens:,} tokens, one sample needs {sequence_length + 1:,}. Add documents, or lower seq_length."


def open_share(source: TokenSource, file: MegatronFile, idx_hash: str) -> Share:
    """Return the part of a token file that a split reads. Documents are divided between splits as in megatron-core."""
    first, end = (round(edge * len(file.sequence_lengths)) for edge in source.part)
    return Share(source.prefix, file, idx_hash, np.arange(first, end, dtype=np.int32))


def build_split(
    data: DataConfig,
    split: Split,
    shares: Sequence[tuple[Share, float]],
    num_samples: int,
    config: GPTDatasetConfig,
    cache: IndexCache,
) -> SampleDataset | None:
    """Return the samples of one split from its shares and their weights; None if no share has a token."""
    shares = [(share, weight) for share, weight in shares if share.num_tokens]
    if not shares:
        if num_samples and data.data_path:
            name = SPLITS[split.value]
            log.info("%s is skipped: its share of %s has no documents (split %s)", name, data.data_path, format_split(data.split))
        return None
    if split == Split.train:
        if data.language_weights or data.language_alpha is not None:
            shares = divide_by_language(shares, data.language_weights, data.language_alpha)
        if data.directory_alpha is not None:
            shares = [(sample_by_directory(share, data.directory_alpha), weight) for share, weight in shares]
    if data.weight_by_num_documents:
        weights = weigh_by_documents([len(share.file.sequence_lengths) for share, _ in shares], data.weighted_sampler_alpha)
        shares = [(share, weight) for (share, _), weight in zip(shares, weights, strict=True)]
    for share, _ in shares:
        if share.num_tokens <= config.sequence_length and data.pack_impl == "packed":
            counts = f"{len(share.documents):,} documents of {share.prefix} have {share.num_tokens:,} tokens"
            needed = f"{config.sequence_length + 1:,} of one sample"
            log.warning("%s: the %s, fewer than the %s, so they are repeated in it", SPLITS[split.value], counts, needed)
    makers = [partial(make_samples, data, share, config, cache) for share, _ in shares]
    if len(makers) == 1:
        return makers[0](num_samples)
    return BlendedSamples(makers, [weight for _, weight in shares], num_samples, cache)


def make_samples(data: DataConfig, share: Share, config: GPTDatasetConfig, cache: IndexCache, num_samples: int) -> SampleDataset:
    """Return the samples of one share, packed and ordered as configured."""
    if data.sample_order == "all_epochs":
        return Windows(share, share.documents, config, cache, num_samples)
    settings = SampleSettings(config.sequence_length, config.tokenizer.vocab_size, config.tokenizer.eod, config.eod_mask_loss)
    return EpochSamples(partial(build_epoch, data, share, config, settings, cache), num_samples)


def build_epoch(
    data: DataConfig, share: Share, config: GPTDatasetConfig, settings: SampleSettings, cache: IndexCache, number: int
) -> "Windows | PackedSamples":
    """Return the samples of one epoch of a share."""
    documents = share.choose_documents(number, config.random_seed)
    seed = [config.random_seed, number] if number else config.random_seed
    if data.pack_impl == "best_fit":
        return PackedSamples(share, documents, settings, cache, seed)
    return Windows(share, documents, replace(config, random_seed=seed), cache, 1)


def log_padding(samples: SampleDataset) -> None:
    """Log the number of empty positions in the rows of each share."""
    for part in samples.parts if isinstance(samples, BlendedSamples) else [samples]:
        if isinstance(part, EpochSamples) and isinstance(rows := part.make_epoch(0), PackedSamples):
            place = rows.share.prefix + (f" ({rows.share.language})" if rows.share.language else "")
            positions = len(rows) * rows.settings.sequence_length
            empty = f"{rows.num_padding:,} of {positions:,} positions are empty ({rows.num_padding / positions:.2%})"
            log.info("%s: %s an epoch, %s", place, format_plural(len(rows), "row"), empty)


def log_middles(samples: SampleDataset, transform: MiddleTransform) -> None:
    """Log the shares of outcomes of `fim_rate` in the first samples."""
    number = min(LOGGED_SAMPLES, len(samples))
    for index in range(number):
        samples[index]
    counts = transform.counts
    log.info("documents of the first %d samples: %s", number, describe_counts(counts))
    counts.clear()


class Windows(GPTDataset):
    """megatron-core's samples of documents of one share: whole epochs for at least `num_samples`, shuffled together."""

    def __init__(self, share: Share, documents: NDArray[np.int32], config: GPTDatasetConfig, cache: IndexCache, num_samples: int):
        self.share, self.documents, self.cache = share, documents, cache
        self.eod_to_mask = config.tokenizer.eod if config.eod_mask_loss else None
        super().__init__(share.file, share.prefix, documents, num_samples, Split.train, config)

    def extend(self, num_samples: int) -> None:
        """Do nothing: the order of these samples depends on their number."""

    def _build_document_sample_shuffle_indices(self) -> tuple[NDArray[Any], ...]:
        """Return the document, sample and shuffle indices, from the cache if it has them."""

        def make() -> Arrays:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return dict(zip(INDEX_NAMES, super(Windows, self)._build_document_sample_shuffle_indices(), strict=True))

        documents, length = self.documents, self.config.sequence_length
        num_tokens = int(self.share.file.sequence_lengths[documents].sum(dtype=np.int64))
        key = {
            "megatron_core": megatron_version,
            "idx_sha256": self.share.idx_sha256,
            "documents": hash_documents(documents) if self.share.idx_sha256 else "",
            "sequence_length": length,
            "num_samples": self.num_samples,
            "seed": self.config.random_seed,
        }
        epochs = ceil((self.num_samples * length + 1) / num_tokens)
        num_entries = epochs * (len(documents) + num_tokens // length)
        return tuple(self.cache.get(key, num_entries, make)[name] for name in INDEX_NAMES)

    def _query_document_sample_shuffle_indices(self, idx: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the token ids [S + 1] and documents of a sample. Raise DataError for an id that the vocabulary does not have."""
        ids, documents = super()._query_document_sample_shuffle_indices(idx)
        check_ids(ids, self.config.tokenizer.vocab_size, self.share.prefix, documents)
        if self.share.transform is not None:
            pieces = [
                self.share.transform_part(ids[part.place : part.place + part.length], part, self.config.random_seed, idx)
                for part in self.list_parts(idx)
            ]
            ids = fit_to_length(pieces, len(ids), self.config.tokenizer.pad)
        return ids, documents

    def __getitem__(self, idx: int | None) -> Sample:
        """Return a sample, as megatron-core does, whose first sample's mask of padding stays in the mask of all others."""
        ids, _ = self._query_document_sample_shuffle_indices(idx or 0)
        return make_sample(ids.astype(np.int64), self.config.tokenizer.pad, 0, self.eod_to_mask)

    def list_parts(self, index: int) -> list[DocumentPart]:
        """Return the parts of documents in a sample, in order. The last token of a sample is only a label."""
        sample = self.shuffle_index[index]
        (first, begin), (last, end) = (tuple(map(int, self.sample_index[number])) for number in (sample, sample + 1))
        parts, place = [], 0
        for number in range(first, last + 1):
            document = int(self.document_index[number])
            offset = begin if number == first else 0
            length = (end + 1 if number == last else int(self.share.file.sequence_lengths[document])) - offset
            parts.append(DocumentPart(self.share.prefix, document, offset, length, place))
            place += length
        return [part for part in parts if part.length]


class EpochSamples(Dataset):
    """Samples of one share. Each epoch is shuffled alone, so a longer run does not change sample i.

    All epochs have the length of epoch 0. Sampling by directory makes epochs of slightly different lengths: the samples at the end
    of a longer epoch are skipped, and a shorter epoch begins again.
    """

    def __init__(self, build_epoch: Callable[[int], SampleSequence], num_samples: int):
        self.build_epoch = build_epoch
        self.epochs: dict[int, SampleSequence] = {}
        self.samples_per_epoch = len(self.make_epoch(0))
        if not self.samples_per_epoch:
            raise DataError("a token file has only empty documents, and pack_impl best_fit makes no row of them. Remove the file.")
        self.extend(num_samples)

    def extend(self, num_samples: int) -> None:
        """Make the length at least `num_samples`, in whole epochs."""
        self.num_epochs = ceil(num_samples / self.samples_per_epoch)

    def __len__(self) -> int:
        return self.num_epochs * self.samples_per_epoch

    def find(self, index: int) -> tuple[SampleSequence, int]:
        """Return the epoch of a sample and the sample's index in it."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        number, place = divmod(int(index), self.samples_per_epoch)
        epoch = self.make_epoch(number)
        return epoch, place % len(epoch)

    def __getitem__(self, index: int) -> Sample:
        epoch, place = self.find(index)
        return epoch[place]

    def list_parts(self, index: int) -> list[DocumentPart]:
        epoch, place = self.find(index)
        return epoch.list_parts(place)

    def make_epoch(self, number: int) -> SampleSequence:
        """Return the samples of one epoch. A share with fewer tokens than a window is repeated as often as needed."""
        if number not in self.epochs:
            while len(self.epochs) >= EPOCHS_IN_MEMORY:
                del self.epochs[min(self.epochs)]
            self.epochs[number] = self.build_epoch(number)
        return self.epochs[number]


class BlendedSamples(Dataset):
    """Samples of several shares (parts of token files). Any first n samples contain the shares in proportion to their weights."""

    def __init__(
        self, makers: Sequence[Callable[[int], SampleDataset]], weights: Sequence[float], num_samples: int, cache: IndexCache
    ):
        self.weights = normalize(normalize(weights))  # twice, as megatron-core does, for the same last bits
        self.cache = cache
        counts = self.build_index(num_samples)
        expected = [ceil(ceil(num_samples * weight) * SURPLUS) for weight in normalize(weights)]
        self.parts = [make(max(pair)) for make, *pair in zip(makers, map(int, counts), expected, strict=True)]

    def extend(self, num_samples: int) -> None:
        """Lengthen the dataset to at least `num_samples`, if each of its shares can be lengthened."""
        if all(isinstance(part, EpochSamples) for part in self.parts):
            for part, count in zip(self.parts, self.build_index(num_samples), strict=True):
                part.extend(int(count))

    def build_index(self, num_samples: int) -> NDArray[np.int64]:
        """Choose each sample's share and its index in the share. Return the number of samples of each share, int64 [shares]."""

        def make() -> Arrays:
            parts, places = np.zeros(num_samples, np.int16), np.zeros(num_samples, np.int64)
            helpers.build_blending_indices(parts, places, self.weights, len(self.weights), num_samples, False)
            counts = [int(places[parts == part].max(initial=-1)) + 1 for part in range(len(self.weights))]
            return {"parts": parts, "places": places, "counts": np.array(counts)}

        key = {"megatron_core": megatron_version, "weights": self.weights, "num_samples": num_samples}
        arrays = self.cache.get(key, num_samples, make)
        self.part_of_sample, self.place_of_sample = arrays["parts"], arrays["places"]
        return arrays["counts"]

    def __len__(self) -> int:
        return len(self.part_of_sample)

    def __getitem__(self, index: int) -> Sample:
        return self.parts[self.part_of_sample[index]][self.place_of_sample[index]]

    def list_parts(self, index: int) -> list[DocumentPart]:
        return self.parts[self.part_of_sample[index]].list_parts(int(self.place_of_sample[index]))
