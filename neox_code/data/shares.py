"""Divide token files into shares: the documents of one split, of one language, sampled by directory. Imports no torch.

    shares = divide_by_language([(share, 1.0)], {"Python": 2.0, "C": 1.0}, None)   # [(share of C, 1.0), (share of Python, 2.0)]
    share = sample_by_directory(share, 0.5)
    share.choose_documents(epoch=0, seed=1234)

Languages, directories and sizes come from PREFIX.origins.parquet. Sampling by directory repeats and omits whole documents, so that
a directory of b bytes has a part proportional to b ** alpha of an epoch; the epoch keeps its number of bytes. In each epoch the
number of documents of a directory differs by at most one from the exact value. Over several epochs all documents of a directory are
read equally often, to within one time.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from neox_code.data.indexed_dataset import get_origins_path
from neox_code.data.origins import Origins, open_origins
from neox_code.errors import DataError
from neox_code.logs import format_plural, get_logger

log = get_logger(__name__)

DIRECTORY_PATTERN = r"^((?:[^/]+/){0,2}).*$"
"""Pattern of a path. A directory for sampling is the repository and at most the first two directories of the path."""


class DocumentPart(NamedTuple):
    """Consecutive tokens of a document in a sample."""

    prefix: str
    """Token file, without .bin and .idx."""
    document: int
    """Number of the document in the token file."""
    offset: int
    """First token in the document."""
    length: int
    place: int
    """Position of the first token in the sample."""


class TokenFile(Protocol):
    @property
    def sequence_lengths(self) -> NDArray[np.int32]: ...

    def get(self, idx: int, offset: int = 0, length: int | None = None) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Share:
    """Some documents of a token file."""

    prefix: str
    file: TokenFile
    idx_sha256: str
    """SHA-256 of the .idx file; empty if the sample indices are not cached."""
    documents: NDArray[np.int32]
    """Numbers of the documents, ascending."""
    language: str | None = None
    repetitions: NDArray[np.float64] | None = None
    """Mean number of times that an epoch contains each document; None: once."""
    directories: NDArray[np.int64] | None = None
    """Number of each document's directory, if `repetitions` is set."""
    transform: Callable[[NDArray[Any], int, Sequence[int]], NDArray[np.int64]] | None = None
    """Function of ids, document and seed that returns the ids to read; None: the ids themselves."""

    @property
    def num_tokens(self) -> int:
        """Number of tokens of an epoch, rounded."""
        sizes = self.file.sequence_lengths[self.documents]
        return int(sizes.sum(dtype=np.int64) if self.repetitions is None else round(float(sizes @ self.repetitions)))

    def transform_part(self, ids: NDArray[Any], part: DocumentPart, seed: int | Sequence[int], sample: int) -> NDArray[Any]:
        """Return the ids of a part as a sample has them. The samples of another epoch have another seed."""
        if self.transform is None:
            return ids
        return self.transform(ids, part.document, [*np.atleast_1d(seed).tolist(), sample, part.document, part.offset])

    def choose_documents(self, epoch: int, seed: int) -> NDArray[np.int32]:
        """Return the documents of an epoch, ascending; a document can occur several times or not at all."""
        if self.repetitions is None or self.directories is None:
            return self.documents
        order = np.lexsort((np.random.default_rng(seed).permutation(len(self.documents)), self.directories))
        sizes = np.bincount(self.directories)
        ranks = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        phases = np.empty(len(order))
        phases[order] = (ranks + 0.5) / sizes[self.directories[order]]
        counts = np.floor((epoch + 1) * self.repetitions + phases) - np.floor(epoch * self.repetitions + phases)
        return np.repeat(self.documents, counts.astype(np.int64))


def hash_documents(documents: NDArray[np.int32]) -> str:
    return hashlib.sha256(documents.astype("<i4").tobytes()).hexdigest()


def require_origins(prefix: str, purpose: str) -> Origins:
    """Return the origins of a token file. Raise DataError with the purpose if it has none."""
    origins = open_origins(prefix)
    if origins is None:
        raise DataError(
            f"{get_origins_path(prefix)} is missing or belongs to another token file, and {purpose} needs it. Make the token file "
            "again with tools/preprocess_data.py, which writes it."
        )
    return origins


def list_languages(share: Share, purpose: str) -> list[Share]:
    """Return the share divided by language, in alphabetical order."""
    names, index = require_origins(share.prefix, purpose).read_languages()
    own = index[share.documents]
    return [replace(share, documents=share.documents[own == number], language=names[number]) for number in np.unique(own)]


def divide_by_language(
    shares: Sequence[tuple[Share, float]], weights: Mapping[str, float], alpha: float | None
) -> list[tuple[Share, float]]:
    """Return the shares by language, with weights.

    The weight of a language is its entry in `weights`, or with `alpha` its number of bytes to this power. Several files divide the
    weight of a language in proportion to their bytes. Raise DataError if a language of `weights` has no documents.
    """
    key = "language_weights" if weights else "language_alpha"
    parts = [part for share, _ in shares for part in list_languages(share, key)]
    sizes = [int(count_bytes(part, key).sum()) for part in parts]
    totals: dict[str, int] = {}
    for part, size in zip(parts, sizes, strict=True):
        totals[str(part.language)] = totals.get(str(part.language), 0) + size
    if missing := sorted(weights.keys() - totals):
        raise DataError(
            f"language_weights has {', '.join(missing)}, but the token files have documents of {', '.join(sorted(totals))} alone. "
            "Use the names of the corpus."
        )
    if weights and (unnamed := sorted(totals.keys() - weights)):
        number = sum(len(part.documents) for part in parts if part.language in unnamed)
        log.info("language_weights leaves out %s of %s", format_plural(number, "document"), ", ".join(unnamed))
    chosen = weights or {name: float(total) ** float(alpha or 0) for name, total in totals.items()}
    weighed = [
        (part, chosen.get(str(part.language), 0.0) * size / max(1, totals[str(part.language)]))
        for part, size in zip(parts, sizes, strict=True)
    ]
    return [(part, weight) for part, weight in weighed if weight]


def divide_by_hash(share: Share, part: float) -> tuple[Share, Share]:
    """Return the documents for training, and a `part` of all that is left out, chosen by a hash of repository and path."""
    origins = require_origins(share.prefix, "unseen_share")
    columns = [origins.read_column(name) for name in ("repository", "path")]
    names = pc.binary_join_element_wise(*columns, "\n").take(pa.array(share.documents))
    hashes = np.fromiter((xxhash.xxh3_64_intdigest(name.encode()) for name in names.to_pylist()), np.uint64, len(names))
    is_left_out = hashes < part * 2.0**64
    return replace(share, documents=share.documents[~is_left_out]), replace(share, documents=share.documents[is_left_out])


def count_bytes(share: Share, purpose: str) -> NDArray[np.int64]:
    """Return the size of each document's text in bytes."""
    return require_origins(share.prefix, purpose).read_column("bytes").to_numpy()[share.documents]


def sample_by_directory(share: Share, alpha: float) -> Share:
    """Return the share with repetitions by which a directory of b bytes has a part proportional to b ** alpha of an epoch."""
    origins = require_origins(share.prefix, "directory_alpha")
    directories = pc.replace_substring_regex(origins.read_column("path"), DIRECTORY_PATTERN, r"\1")
    places = pc.binary_join_element_wise(origins.read_column("repository"), directories, "\n")
    own = pc.dictionary_encode(places.combine_chunks().take(pa.array(share.documents))).indices.to_numpy().astype(np.int64)
    sizes = np.bincount(own, weights=count_bytes(share, "directory_alpha"))
    powers = np.where(sizes > 0, np.maximum(sizes, 1) ** alpha, 0.0)
    repetitions = powers / powers.sum() * sizes.sum() / np.maximum(sizes, 1)
    return replace(share, repetitions=repetitions[own], directories=own)


def weigh_by_documents(counts: Sequence[int], alpha: float) -> list[float]:
    """Return GPT-NeoX's weights of token files by their numbers of documents (`weight_by_num_documents`).

    A file with the share p of the documents has p ** alpha, normalized to q, and the weight q * (1 - q), normalized again.

    >>> [round(weight, 3) for weight in weigh_by_documents([90, 10], 0.5)]
    [0.5, 0.5]
    >>> [round(weight, 3) for weight in weigh_by_documents([60, 30, 10], 1.0)]
    [0.444, 0.389, 0.167]
    """
    if len(counts) == 1:
        return [1.0]
    powers = (np.array(counts, np.float64) / sum(counts)) ** alpha
    parts = powers / powers.sum()
    weights = parts * (1 - parts)
    return (weights / weights.sum()).tolist()
