"""What a model is measured against: general compressors, and the unigram entropy of its own tokens.

compressed_bits([b"import os", b"import sys"])      # {"gzip_joined": ..., "xz_joined": ..., "gzip_alone": ..., "xz_alone": ...}
unigram_bits([[5, 6, 5, 6]])                        # 4.0
"""

import lzma
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from neox_code.logs import Advance
from neox_code.processes.workers import available_cores

GZIP_WINDOW = 16 + zlib.MAX_WBITS
"""zlib's number for the largest window and gzip's header and trailer, of 18 bytes."""

GZIP_MEMORY = 9
"""zlib's memory level with blocks as long as GNU gzip's."""

XZ_DICTIONARY = 64 * 2**20
"""The dictionary of `xz -9`."""

XZ_MIN_DICTIONARY = 2**16


def gzip_size(text: bytes) -> int:
    """Bytes of `gzip -9 < text`, as zlib makes it.

    GNU gzip ends blocks by a rule of its own. Below 20 kB its sizes are the same; over many files of source code its sum is
    about 0.1% smaller.

    >>> gzip_size(b"")
    20
    """
    compressor = zlib.compressobj(9, zlib.DEFLATED, GZIP_WINDOW, GZIP_MEMORY)
    return len(compressor.compress(text)) + len(compressor.flush())


def xz_size(text: bytes) -> int:
    """Bytes of `xz -9 < text`. The dictionary is no larger than the text needs: the same size, without clearing 600 MB first.

    >>> xz_size(b"")
    32
    """
    dictionary = min(max(1 << (len(text) - 1).bit_length(), XZ_MIN_DICTIONARY), XZ_DICTIONARY)
    return len(lzma.compress(text, filters=[{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": dictionary}]))


COMPRESSORS: dict[str, Callable[[bytes], int]] = {"gzip": gzip_size, "xz": xz_size}


def compressed_bits(texts: Sequence[bytes], advance: Advance | None = None) -> dict[str, int]:
    """Bits of the texts by compressor: `NAME_alone`, each compressed alone and the sizes summed, and `NAME_joined`, all as one.

    `advance` is told the bytes compressed, 4 times the texts' in the end.
    """
    ways = {"joined": [b"".join(texts)], "alone": texts}
    kinds = [(f"{name}_{way}", compress, way) for way in ways for name, compress in COMPRESSORS.items()]
    tasks = [(kind, compress, text) for kind, compress, way in kinds for text in ways[way]]
    bits: Counter[str] = Counter()
    with ThreadPoolExecutor(available_cores()) as pool:
        sizes = pool.map(lambda task: task[1](task[2]), tasks)
        for (kind, _, text), size in zip(tasks, sizes, strict=True):
            bits[kind] += 8 * size
            if advance is not None:
                advance(len(text))
    return dict(bits)


def unigram_bits(files: Iterable[Sequence[int]]) -> float:
    """Bits of all tokens under the distribution of these very tokens: sum of -log2 (count of the token / number of tokens).

    >>> unigram_bits([[7, 7, 7], [8]])
    3.2451124978365313
    """
    counts = np.array(list(Counter(token for ids in files for token in ids).values()), dtype=np.float64)
    return float((counts * np.log2(counts.sum() / counts)).sum())
