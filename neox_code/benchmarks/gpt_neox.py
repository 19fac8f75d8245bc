"""The steps of GPT-NeoX's preprocess_data.py with one worker: JSON Lines to .bin and .idx.

    write_token_files(Path("texts.jsonl"), Path("tokenizer.json"), Path("out/code"))        # out/code_text_document.bin and .idx

This is a reimplementation to compare speed with: it calls Hugging Face's `encode` for each document, appends the end-of-document
token to the list of ids, writes it as an array, and writes the index from lists of sizes at the end. It shares no code with ours.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

END_OF_DOCUMENT = "<|endoftext|>"
DTYPE_CODES = {np.dtype(np.int32): 4, np.dtype(np.uint16): 8}
LARGEST_OF_16_BITS = 65_500


def write_token_files(texts: Path, tokenizer_file: Path, prefix: Path) -> None:
    """Write .bin and .idx of JSON Lines `texts` as GPT-NeoX's tool does, in one process."""
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    end = tokenizer.token_to_id(END_OF_DOCUMENT)
    dtype = np.dtype(np.uint16 if tokenizer.get_vocab_size() < LARGEST_OF_16_BITS else np.int32)
    sizes, document_ends = [], [0]
    assert end is not None
    with Path(f"{prefix}_text_document.bin").open("wb") as file:
        for text in read_texts(texts):
            ids = tokenizer.encode(text).ids
            ids.append(end)
            file.write(np.array(ids, dtype=dtype).tobytes(order="C"))
            sizes.append(len(ids))
            document_ends.append(len(sizes))
    pointers, address = [], 0
    for size in sizes:
        pointers.append(address)
        address += size * dtype.itemsize
    with Path(f"{prefix}_text_document.idx").open("wb") as file:
        file.write(b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, DTYPE_CODES[dtype], len(sizes), len(document_ends)))
        file.write(np.array(sizes, np.int32).tobytes())
        file.write(np.array(pointers, np.int64).tobytes())
        file.write(np.array(document_ends, np.int64).tobytes())


def read_texts(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if text := json.loads(line)["text"]:
                yield text
