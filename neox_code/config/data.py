"""Token files and the vocabulary."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DataConfig:
    data_path: str | None = None
    """Token file (prefix of .bin and .idx), divided by `split`; or use the three `*_data_paths`."""

    split: tuple[float, ...] = (969, 30, 1)
    """Shares of `data_path` for training, validation and test, by documents."""

    train_data_paths: tuple[str, ...] = ()
    """Token files for training."""

    valid_data_paths: tuple[str, ...] = ()
    """Token files for validation."""

    test_data_paths: tuple[str, ...] = ()
    """Token files for the test."""

    train_data_weights: tuple[float, ...] = ()
    """Shares of the training files in a sample of them all; default equal."""

    valid_data_weights: tuple[float, ...] = ()
    """Shares of the validation files."""

    test_data_weights: tuple[float, ...] = ()
    """Shares of the test files."""

    sample_order: Literal["per_epoch", "all_epochs"] = "per_epoch"
    """`per_epoch`: each epoch of a file is shuffled separately, so that the samples of a step do not depend on the length of the
    run. The last tokens of an epoch, fewer than `seq_length`, are left out; they are others in each epoch. `all_epochs`: all epochs
    are shuffled together, as megatron-core does and GPT-NeoX nearly does; a run of another length reads another order from its
    first step on. A run of at most one epoch reads the same in both."""

    data_cache_path: str | None = None
    """Folder in which `sample_indices` is kept, for any number of runs at a time; default `data_cache` in `save`. With neither, or
    for small files, the indices are computed at the start and stay in memory."""

    tokenizer_type: Literal[
        "GPT2BPETokenizer", "HFTokenizer", "HFGPT2Tokenizer", "SPMTokenizer", "CharLevelTokenizer", "TiktokenTokenizer"
    ] = "GPT2BPETokenizer"
    """Tokenizer of prompts, held-out files and preprocess_data.py."""

    vocab_file: str | None = None
    """GPT2BPETokenizer: vocab.json. HFTokenizer: tokenizer.json. HFGPT2Tokenizer: tokenizer.json, or a folder with it or with
    vocab.json and merges.txt. SPMTokenizer: the .model file. TiktokenTokenizer: a .tiktoken file, or the name of an encoding.
    CharLevelTokenizer reads none."""

    merge_file: str | None = None
    """GPT2BPETokenizer: merges.txt."""

    merge_file_reader: Literal["whole", "gpt-neox"] = "whole"
    """`gpt-neox` drops the first line of the merge file even if it is a merge, and the last, as GPT-NeoX does;
    `whole` drops the first only if it is a `#version` header."""

    newlines: Literal["lf", "keep", "refuse"] | None = None
    """Treatment of line ends with CR in prompts and held-out files: converted to LF, kept, or refused. Default: `lf` where the
    vocabulary has no CR, as PolyCoder's, else `keep`. For token files it is preprocess_data.py's `--newlines`."""

    eod_mask_loss: bool = False
    """True: the loss leaves out positions whose input is an end-of-document token."""

    num_workers: int = 2
    """Processes that read samples ahead, on each rank; 0 reads in the training process."""

    heldout_path: str | None = None
    """Corpus folder whose held-out documents `evaluate` reads."""

    heldout_split: Literal["valid", "test"] = "test"
    """The split of `heldout_path` that is read."""

    heldout_bytes_per_language: int | None = None
    """`evaluate` reads at most so many bytes a language, whole files in a seeded order; default all."""
