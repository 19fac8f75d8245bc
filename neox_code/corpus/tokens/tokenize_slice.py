"""Tokenize one slice of the input into token files. This is the task of a worker.

    for progress in tokenize_slice(work, 7):
        print(progress.num_bytes, progress.documents)

The task reads WORK/job.pickle and WORK/pieces/000007.pickle. It writes WORK/parts/000007.LANGUAGE.bin, .idx and .origins.parquet
(one token file, or with `by_language` one for each language). Last it writes the report WORK/parts/000007.json.

For every document, the number of bytes to which its tokens decode is compared with the size of its text. If they differ, or if the
tokenizer has a normalizer, the tokens are decoded and the bytes are compared.
"""

import json
import os
import pickle
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from neox_code.corpus.executors.stages import Stage
from neox_code.corpus.tokens.input_slices import MAX_LISTED, SKIP_REMEDY, InputSlice, Rejected, Text, make_rejection_error
from neox_code.corpus.tokens.raw_documents import UNKNOWN_LANGUAGE
from neox_code.data.indexed_dataset import IndexedDatasetWriter, choose_id_dtype
from neox_code.data.origins import Origin, write_origins
from neox_code.errors import ConfigError, DataError
from neox_code.files import write_text
from neox_code.tokenizer.byte_level import ByteLevelTokenizer, encode_utf8
from neox_code.tokenizer.fast import GatedEncoder, IdsDiffer
from neox_code.tokenizer.newlines import NEWLINES
from neox_code.tokenizer.protocol import Tokenizer

try:
    import ftfy
except ModuleNotFoundError:
    ftfy = None  # type: ignore[assignment]

SETTINGS_FILE = "job.pickle"
BATCH_CHARACTERS = 2**22
BATCH_TEXTS = 4096
WHOLE = ""
"""Used instead of the name of a language in the names of files that have all languages."""


class HasText(Protocol):
    @property
    def text(self) -> str: ...


TextT = TypeVar("TextT", bound=HasText)


@dataclass
class TokenCounts:
    documents: int = 0
    bytes: int = 0
    """Size of the documents' texts in UTF-8, in bytes."""
    tokens: int = 0
    """Number of tokens of the documents, without end-of-document tokens."""
    empty: int = 0
    """Number of documents left out because they have no token; not counted in `documents`."""
    changed: int = 0
    """Number of documents whose tokens decode to other bytes, because the tokenizer normalizes text."""
    newlines: int = 0
    """Number of documents whose line ends were changed from CR LF or CR to LF."""
    skipped: int = 0
    """Number of documents left out because they cannot be read or encoded; not counted in `documents`."""

    @property
    def bytes_per_token(self) -> float | None:
        return self.bytes / self.tokens if self.tokens else None

    def add(self, other: "TokenCounts") -> None:
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass(frozen=True)
class WriteOptions:
    append_eod: bool
    """True: write an end-of-document token after each document."""
    newlines: str
    """Treatment of line ends: a key of neox_code.tokenizer.newlines.NEWLINES."""
    by_language: bool = False
    """True: write a pair of token files for each language."""
    ftfy: bool = False
    """True: repair broken Unicode with the package ftfy."""
    skip_unencodable: bool = False
    """True: count and leave out documents that cannot be read or encoded. False: raise an error for the first of them."""


@dataclass(frozen=True)
class TokenizeSettings:
    """Settings of a run. They are stored in the work folder and apply to all slices."""

    tokenizer: Tokenizer
    options: WriteOptions
    encoder: str
    """Name of the encoder: a key of neox_code.tokenizer.fast.ENCODERS."""


@dataclass(frozen=True)
class SliceReport:
    """Result of tokenizing a slice, which is stored in the file `get_report_path`."""

    counts: Mapping[str, TokenCounts]
    """Counts by language."""
    compared: int
    """Number of documents whose ids were compared with those of the plain tokenizer."""
    skipped: Sequence[str] = ()
    """Messages about the first documents that were left out."""


class Progress(NamedTuple):
    """Amount of work done since the last Progress of the task."""

    num_bytes: int
    documents: int


def tokenize_slice(work: Path, index: int) -> Iterator[Progress]:
    """Write the token files and the report of a slice; yield the amounts of work done.

    Raise DataError for a document that cannot be encoded, and IdsDiffer if the encoder is not exact.
    """
    input_slice: InputSlice = pickle.loads(get_slice_path(work, index).read_bytes())
    settings, encoder = load_encoder(work, (work / SETTINGS_FILE).stat().st_mtime_ns)
    before = encoder.compared.documents
    counts: dict[str, TokenCounts] = defaultdict(TokenCounts)
    skipped = SkippedDocuments(counts, settings.options.skip_unencodable)
    origins: dict[str, list[Origin]] = defaultdict(list)
    done = 0
    with ExitStack() as stack:
        writers: dict[str, IndexedDatasetWriter] = {}
        for batch in make_batches(read_clean_texts(input_slice, settings.options, counts, skipped)):
            for language, ids, lengths, own in encode_batch(batch, settings, encoder, counts, skipped):
                if language not in writers:
                    writer = IndexedDatasetWriter(
                        get_part_prefix(work, index, language), choose_id_dtype(settings.tokenizer.vocab_size)
                    )
                    writers[language] = stack.enter_context(writer)
                writers[language].add_documents(ids, lengths)
                origins[language] += own
            amount = min(sum(text.num_bytes for text in batch), input_slice.num_bytes - done)
            done += amount
            yield Progress(amount, len(batch))
    for language, own in origins.items():
        write_origins(get_part_prefix(work, index, language), own)
    report = SliceReport(dict(counts), encoder.compared.documents - before, skipped.messages)
    write_text(get_report_path(work, index), json.dumps(asdict(report)))
    yield Progress(input_slice.num_bytes - done, 0)


def tokenize_on_one_core(work: Path, index: int) -> Iterator[Progress]:
    """Run `tokenize_slice` with one thread, because other workers use the other cores."""
    os.environ["RAYON_NUM_THREADS"] = "1"
    yield from tokenize_slice(work, index)


def load_settings(work: Path) -> TokenizeSettings:
    return pickle.loads((work / SETTINGS_FILE).read_bytes())


@lru_cache(maxsize=1)
def load_encoder(work: Path, written_at: int) -> tuple[TokenizeSettings, GatedEncoder]:
    """Return the settings and their encoder, from a cache. `written_at`, the file's time, makes the cache notice a new file."""
    settings = load_settings(work)
    return settings, GatedEncoder(settings.tokenizer, settings.encoder)


def get_slice_path(work: Path, index: int) -> Path:
    return work / "pieces" / f"{index:06d}.pickle"


def get_part_prefix(work: Path, index: int, language: str) -> Path:
    return work / "parts" / f"{index:06d}.{language}"


def get_report_path(work: Path, index: int) -> Path:
    return work / "parts" / f"{index:06d}.json"


TOKENIZE = Stage("tokenize", tokenize_slice, get_report_path, not_retried=(IdsDiffer,))
TOKENIZE_ON_ONE_CORE = replace(TOKENIZE, run=tokenize_on_one_core)


def load_report(work: Path, index: int) -> SliceReport:
    value = json.loads(get_report_path(work, index).read_text(encoding="utf-8"))
    return SliceReport(
        {language: TokenCounts(**counts) for language, counts in value["counts"].items()}, value["compared"], value["skipped"]
    )


@dataclass
class SkippedDocuments:
    """Counter of the documents that are left out, with messages about the first of them."""

    counts: Mapping[str, TokenCounts]
    is_allowed: bool
    messages: list[str] = field(default_factory=list)

    def skip_document(self, language: str, error: DataError) -> None:
        """Count a document as left out. Raise `error` if documents must not be left out."""
        if not self.is_allowed:
            raise error
        self.counts[language].skipped += 1
        if len(self.messages) < MAX_LISTED:
            self.messages.append(str(error).removesuffix(SKIP_REMEDY).strip())


def read_clean_texts(
    input_slice: InputSlice, options: WriteOptions, counts: Mapping[str, TokenCounts], skipped: SkippedDocuments
) -> Iterator[Text]:
    """Yield the texts of the slice. Convert line ends and repair Unicode as the options state."""
    convert_newlines = NEWLINES[options.newlines]
    repair = load_ftfy() if options.ftfy else None
    for entry in input_slice.read_texts():
        if isinstance(entry, Rejected):
            skipped.skip_document(UNKNOWN_LANGUAGE, make_rejection_error(entry))
            continue
        try:
            text = convert_newlines(entry.text, entry.place)
        except DataError as error:
            skipped.skip_document(entry.language, error)
            continue
        if repair is not None:
            text = repair(text)
        counts[entry.language].newlines += "\r" in entry.text and "\r" not in text
        yield entry if text is entry.text else entry._replace(text=text)


def load_ftfy() -> Callable[[str], str]:
    """Return ftfy.fix_text. Raise ConfigError if the package is not installed."""
    if ftfy is None:
        raise ConfigError("--ftfy needs the package ftfy, which is not installed. Install it with: pip install ftfy")
    return ftfy.fix_text


def encode_batch(
    batch: list[Text],
    settings: TokenizeSettings,
    encoder: GatedEncoder,
    counts: Mapping[str, TokenCounts],
    skipped: SkippedDocuments,
) -> Iterator[tuple[str, NDArray[Any], NDArray[Any], list[Origin]]]:
    """Encode a batch and add it to the counts. For each token file, yield (language, ids, lengths, origins).

    `ids` are the token ids of all documents in one array. `lengths` (int64) are the documents' numbers of tokens, in this order.
    """
    try:
        ids, lengths = encoder.encode([entry.text for entry in batch], [entry.language for entry in batch])
    except DataError:
        batch = [entry for entry in batch if is_encodable(entry, settings.tokenizer, skipped)]
        ids, lengths = encoder.encode([entry.text for entry in batch], [entry.language for entry in batch])
    languages = [entry.language for entry in batch]
    origins = count_batch(batch, ids, lengths, settings.tokenizer, counts)
    for language in dict.fromkeys(languages) if settings.options.by_language else [WHOLE]:
        chosen = lengths > 0
        if settings.options.by_language:
            chosen &= np.array([name == language for name in languages])
        if chosen.any():
            part = ids if chosen.all() else ids[np.repeat(chosen, lengths)]
            sizes = lengths[chosen]
            own = [origins[index] for index in np.flatnonzero(chosen)]
            yield language, *(append_eod_tokens(part, sizes, settings) if settings.options.append_eod else (part, sizes)), own


def is_encodable(entry: Text, tokenizer: Tokenizer, skipped: SkippedDocuments) -> bool:
    """Return True if the vocabulary can encode the text. Otherwise count the text as left out."""
    try:
        check_encodable(entry.text, entry.place, tokenizer)
    except DataError as error:
        skipped.skip_document(entry.language, DataError(f"{error} {SKIP_REMEDY}"))
        return False
    return True


def check_encodable(text: str, place: str, tokenizer: Tokenizer) -> None:
    """Raise DataError with the place of the text if the vocabulary cannot encode it."""
    try:
        tokenizer.encode(text)
    except DataError as error:
        raise DataError(f"{place}: {error}") from None


def count_batch(
    batch: list[Text], ids: NDArray[Any], lengths: NDArray[Any], tokenizer: Tokenizer, counts: Mapping[str, TokenCounts]
) -> list[Origin]:
    """Add the batch to the counts of its languages. Return the origin of each text."""
    keeps_text = isinstance(tokenizer, ByteLevelTokenizer) and tokenizer.keeps_text
    ends = np.cumsum(lengths)
    decoded_bytes = count_decoded_bytes(ids, ends, tokenizer) if isinstance(tokenizer, ByteLevelTokenizer) else None
    origins = []
    for index, (entry, num_tokens) in enumerate(zip(batch, lengths.tolist(), strict=True)):
        counted = counts[entry.language]
        data = encode_utf8(entry.text)
        origins.append(Origin(entry.repository, entry.path, entry.license, entry.language, len(data)))
        if not num_tokens:
            counted.empty += 1
            continue
        counted.documents += 1
        counted.bytes += len(data)
        counted.tokens += num_tokens
        if not keeps_text or decoded_bytes is None or decoded_bytes[index] != len(data):
            own = ids[ends[index] - num_tokens : ends[index]]
            counted.changed += tokenizer.decode_bytes(own.tolist()) != data
    return origins


def count_decoded_bytes(ids: NDArray[Any], ends: NDArray[Any], tokenizer: ByteLevelTokenizer) -> list[int]:
    """Return for each text the number of bytes to which its tokens decode. `ends` are cumulative numbers of tokens."""
    until = np.concatenate([[0], np.cumsum(tokenizer.token_lengths[ids])])
    return np.diff(until[ends], prepend=0).tolist()


def make_batches(texts: Iterable[TextT]) -> Iterator[list[TextT]]:
    """Yield lists of texts. A list ends when it has BATCH_TEXTS texts, or BATCH_CHARACTERS characters or more."""
    batch: list[TextT] = []
    characters = 0
    for entry in texts:
        batch.append(entry)
        characters += len(entry.text)
        if characters >= BATCH_CHARACTERS or len(batch) == BATCH_TEXTS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def append_eod_tokens(ids: NDArray[Any], lengths: NDArray[Any], settings: TokenizeSettings) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the ids and lengths of the documents with an end-of-document token after each document."""
    longer = lengths + 1
    result = np.empty(len(ids) + len(lengths), dtype=ids.dtype)
    ends = np.cumsum(longer) - 1
    is_text = np.ones(len(result), dtype=bool)
    is_text[ends] = False
    result[is_text] = ids
    result[ends] = settings.tokenizer.eod_id
    return result, longer
