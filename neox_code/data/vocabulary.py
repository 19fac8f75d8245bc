"""Check the token files of a run against its tokenizer before the first step. Imports no torch."""

import numpy as np

from neox_code.data.identity import read_record
from neox_code.data.indexed_dataset import IndexedDataset, get_bin_path
from neox_code.errors import DataError
from neox_code.logs import get_logger
from neox_code.tokenizer.comparison import compare_vocabulary, name_vocabulary
from neox_code.tokenizer.protocol import Tokenizer

log = get_logger(__name__)

SCANNED_BLOCKS, SCANNED_BLOCK_TOKENS = 1024, 2**17
"""Number of blocks, for all files together, and tokens per block. If the highest id is not recorded, it is searched in these
blocks, which are at equal distances."""

REMEDY = (
    "Set tokenizer_type, vocab_file and merge_file to those that the token file was made with, or make it again with "
    "tools/preprocess_data.py."
)


def check_vocabulary(dataset: IndexedDataset, tokenizer: Tokenizer, num_files: int = 1) -> None:
    """Raise DataError if a token file was made with another vocabulary than that of `tokenizer`.

    Compare the recorded tokenizer if there is one. Check that the highest id is in the vocabulary. If this id is not recorded, it
    is searched in a sample of the file; the sample is smaller for more files (`num_files`). Training checks all ids that it reads.
    """
    record, own = read_record(dataset), tokenizer.identity
    if recorded := record.get("tokenizer"):
        comparison = compare_vocabulary(recorded, tokenizer)
        pair = (
            f"{get_bin_path(dataset.prefix)} was made with {name_vocabulary(recorded)}, "
            f"the configuration has {name_vocabulary(own)}"
        )
        if comparison == "other":
            raise DataError(f"{pair}: the same ids are different tokens. {REMEDY}")
        if comparison == "same ids":
            log.warning(
                "%s: each id is the same token as in the configured tokenizer, but the two may divide a text into other tokens",
                pair,
            )
        if comparison == "unknown":
            log.warning("%s: it cannot be checked that the ids mean the same", pair)
    highest = record.get("max_id")
    if highest is None:
        highest = sample_highest_id(dataset, tokenizer.vocab_size, max(2, SCANNED_BLOCKS // num_files))
    if highest >= tokenizer.vocab_size:
        raise DataError(
            f"{get_bin_path(dataset.prefix)} has token id {highest:,}, but the vocabulary of {name_vocabulary(own)} has the ids 0 "
            f"to {tokenizer.vocab_size - 1:,}. {REMEDY}"
        )


def sample_highest_id(
    dataset: IndexedDataset, vocab_size: int, blocks: int = SCANNED_BLOCKS, block_tokens: int = SCANNED_BLOCK_TOKENS
) -> int:
    """Return the highest id in blocks at equal distances. Return -1 if the dtype cannot hold an id beyond the vocabulary."""
    if np.iinfo(dataset.dtype).max < vocab_size or not dataset.num_bytes:
        return -1
    ids = dataset.ids
    if len(ids) <= blocks * block_tokens:
        return int(ids.max())
    starts = np.linspace(0, len(ids) - block_tokens, blocks, dtype=np.int64)
    return max(int(ids[start : start + block_tokens].max()) for start in starts)
