"""One piece of input to token files of its own: what a worker does.

for done in tokenize_piece(work, 7):
    print(done.num_bytes, done.documents)

reads WORK/job.pickle and WORK/pieces/000007.pickle, and writes WORK/parts/000007.LANGUAGE.bin and .idx (one pair, or with
`by_language` one for each) and, last, the report WORK/parts/000007.json.
Each document's tokens are as many bytes as its text, which is checked for every one; where the tokenizer may change text (it has a
normalizer), or the lengths differ, they are decoded and compared.
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
from neox_code.corpus.tokens.raw_documents import UNKNOWN_LANGUAGE
from neox_code.corpus.tokens.text_pieces import MOST_NAMED, SKIP_REMEDY, Piece, Rejected, Text, rejection
from neox_code.data.indexed_dataset import IndexedDatasetWriter, best_dtype
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

JOB_FILE = "job.pickle"
BATCH_CHARACTERS = 2**22
BATCH_TEXTS = 4096
WHOLE = ""
"""Stands for all languages, in a name or table."""


class HasText(Protocol):
    @property
    def text(self) -> str: ...


TextT = TypeVar("TextT", bound=HasText)


@dataclass
class TokenCounts:
    """What became of some documents."""

    documents: int = 0
    bytes: int = 0
    """Of their texts, in UTF-8."""
    tokens: int = 0
    """Without end-of-document tokens."""
    empty: int = 0
    """Further documents that have no token, and are left out."""
    changed: int = 0
    """Documents whose tokens decode to other bytes, because the tokenizer normalizes text."""
    newlines: int = 0
    """Documents whose line ends were CR LF or CR, and are LF in the tokens."""
    skipped: int = 0
    """Further documents that cannot be read, or that the vocabulary cannot hold, and are left out."""

    @property
    def bytes_per_token(self) -> float | None:
        return self.bytes / self.tokens if self.tokens else None

    def add(self, other: "TokenCounts") -> None:
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass(frozen=True)
class Writing:
    """How texts become token files."""

    append_eod: bool
    newlines: str
    """A key of neox_code.tokenizer.newlines.NEWLINES."""
    by_language: bool = False
    ftfy: bool = False
    skip_unencodable: bool = False
    """True: a document that cannot be read or encoded is counted and left out; False: it is an error."""


@dataclass(frozen=True)
class Job:
    """What the pieces have in common; kept in the work folder."""

    tokenizer: Tokenizer
    writing: Writing
    encoder: str


@dataclass(frozen=True)
class Report:
    counts: Mapping[str, TokenCounts]
    compared: int
    """Documents whose ids were compared with those of the tokenizer itself."""
    skipped: Sequence[str] = ()
    """The first documents that were left out, with their places."""


class Done(NamedTuple):
    """How much more of a piece is done."""

    num_bytes: int
    documents: int


def tokenize_piece(work: Path, index: int) -> Iterator[Done]:
    """Write the token files and the report of a piece; yield the amounts of work done.

    Raises DataError naming a document that cannot be encoded, and IdsDiffer.
    """
    piece: Piece = pickle.loads(piece_file(work, index).read_bytes())
    job, encoder = load_encoder_of(work, (work / JOB_FILE).stat().st_mtime_ns)
    before = encoder.compared.documents
    counts: dict[str, TokenCounts] = defaultdict(TokenCounts)
    skip = Skipping(counts, job.writing.skip_unencodable)
    done = 0
    with ExitStack() as stack:
        writers: dict[str, IndexedDatasetWriter] = {}
        for batch in batches(clean_texts(piece, job.writing, counts, skip)):
            for language, ids, lengths in encoded(batch, job, encoder, counts, skip):
                if language not in writers:
                    writer = IndexedDatasetWriter(part_prefix(work, index, language), best_dtype(job.tokenizer.vocab_size))
                    writers[language] = stack.enter_context(writer)
                writers[language].add_documents(ids, lengths)
            amount = min(sum(text.num_bytes for text in batch), piece.num_bytes - done)
            done += amount
            yield Done(amount, len(batch))
    report = Report(dict(counts), encoder.compared.documents - before, skip.named)
    write_text(report_file(work, index), json.dumps(asdict(report)))
    yield Done(piece.num_bytes - done, 0)


def tokenize_on_one_core(work: Path, index: int) -> Iterator[Done]:
    """Run `tokenize_piece` in a worker process; other workers use the other cores."""
    os.environ["RAYON_NUM_THREADS"] = "1"
    yield from tokenize_piece(work, index)


def load_job(work: Path) -> Job:
    return pickle.loads((work / JOB_FILE).read_bytes())


@lru_cache(maxsize=1)
def load_encoder_of(work: Path, written_at: int) -> tuple[Job, GatedEncoder]:
    job = load_job(work)
    return job, GatedEncoder(job.tokenizer, job.encoder)


def piece_file(work: Path, index: int) -> Path:
    return work / "pieces" / f"{index:06d}.pickle"


def part_prefix(work: Path, index: int, language: str) -> Path:
    return work / "parts" / f"{index:06d}.{language}"


def report_file(work: Path, index: int) -> Path:
    return work / "parts" / f"{index:06d}.json"


TOKENIZE = Stage("tokenize", tokenize_piece, report_file, not_retried=(IdsDiffer,))
TOKENIZE_ON_ONE_CORE = replace(TOKENIZE, run=tokenize_on_one_core)


def load_report(work: Path, index: int) -> Report:
    value = json.loads(report_file(work, index).read_text(encoding="utf-8"))
    return Report(
        {language: TokenCounts(**counts) for language, counts in value["counts"].items()}, value["compared"], value["skipped"]
    )


@dataclass
class Skipping:
    """Counts the documents that are left out, and keeps the places of the first."""

    counts: Mapping[str, TokenCounts]
    is_allowed: bool
    named: list[str] = field(default_factory=list)

    def leave_out(self, language: str, error: DataError) -> None:
        """Count a document. Raises the error where none may be left out."""
        if not self.is_allowed:
            raise error
        self.counts[language].skipped += 1
        if len(self.named) < MOST_NAMED:
            self.named.append(str(error).removesuffix(SKIP_REMEDY).strip())


def clean_texts(piece: Piece, writing: Writing, counts: Mapping[str, TokenCounts], skip: Skipping) -> Iterator[Text]:
    """Yield the piece's texts with their line ends as `writing` has them."""
    treat = NEWLINES[writing.newlines]
    mend = fix_text() if writing.ftfy else None
    for entry in piece.texts():
        if isinstance(entry, Rejected):
            skip.leave_out(UNKNOWN_LANGUAGE, rejection(entry))
            continue
        try:
            text = treat(entry.text, entry.place)
        except DataError as error:
            skip.leave_out(entry.language, error)
            continue
        if mend is not None:
            text = mend(text)
        counts[entry.language].newlines += "\r" in entry.text and "\r" not in text
        yield entry if text is entry.text else entry._replace(text=text)


def fix_text() -> Callable[[str], str]:
    if ftfy is None:
        raise ConfigError("--ftfy needs the package ftfy, which is not installed: pip install ftfy.")
    return ftfy.fix_text


def encoded(
    batch: list[Text], job: Job, encoder: GatedEncoder, counts: Mapping[str, TokenCounts], skip: Skipping
) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    """For each token file its language, the ids of its documents and their lengths; adds the batch to the counts."""
    try:
        ids, lengths = encoder.encode([entry.text for entry in batch], [entry.language for entry in batch])
    except DataError:
        batch = [entry for entry in batch if is_encodable(entry, job.tokenizer, skip)]
        ids, lengths = encoder.encode([entry.text for entry in batch], [entry.language for entry in batch])
    languages = [entry.language for entry in batch]
    count(batch, ids, lengths, job.tokenizer, counts)
    for language in dict.fromkeys(languages) if job.writing.by_language else [WHOLE]:
        chosen = lengths > 0
        if job.writing.by_language:
            chosen &= np.array([name == language for name in languages])
        if chosen.any():
            part = ids if chosen.all() else ids[np.repeat(chosen, lengths)]
            yield language, *(with_end(part, lengths[chosen], job) if job.writing.append_eod else (part, lengths[chosen]))


def is_encodable(entry: Text, tokenizer: Tokenizer, skip: Skipping) -> bool:
    """Return False for a text that the vocabulary cannot hold, which is then counted as left out."""
    try:
        check_encodable(entry.text, entry.place, tokenizer)
    except DataError as error:
        skip.leave_out(entry.language, DataError(f"{error} {SKIP_REMEDY}"))
        return False
    return True


def check_encodable(text: str, place: str, tokenizer: Tokenizer) -> None:
    try:
        tokenizer.encode(text)
    except DataError as error:
        raise DataError(f"{place}: {error}") from None


def count(
    batch: list[Text], ids: NDArray[Any], lengths: NDArray[Any], tokenizer: Tokenizer, counts: Mapping[str, TokenCounts]
) -> None:
    """Adds the batch to the counts of its languages."""
    keeps_text = isinstance(tokenizer, ByteLevelTokenizer) and tokenizer.keeps_text
    ends = np.cumsum(lengths)
    decoded_bytes = bytes_in_tokens(ids, ends, tokenizer) if isinstance(tokenizer, ByteLevelTokenizer) else None
    for index, (entry, num_tokens) in enumerate(zip(batch, lengths.tolist(), strict=True)):
        counted = counts[entry.language]
        if not num_tokens:
            counted.empty += 1
            continue
        data = encode_utf8(entry.text)
        counted.documents += 1
        counted.bytes += len(data)
        counted.tokens += num_tokens
        if not keeps_text or decoded_bytes is None or decoded_bytes[index] != len(data):
            own = ids[ends[index] - num_tokens : ends[index]]
            counted.changed += tokenizer.decode_bytes(own.tolist()) != data


def bytes_in_tokens(ids: NDArray[Any], ends: NDArray[Any], tokenizer: ByteLevelTokenizer) -> list[int]:
    """How many bytes each text's tokens stand for."""
    until = np.concatenate([[0], np.cumsum(tokenizer.token_lengths[ids])])
    return np.diff(until[ends], prepend=0).tolist()


def batches(texts: Iterable[TextT]) -> Iterator[list[TextT]]:
    """The texts in lists of at least BATCH_CHARACTERS or of BATCH_TEXTS; the last may be shorter."""
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


def with_end(ids: NDArray[Any], lengths: NDArray[Any], job: Job) -> tuple[NDArray[Any], NDArray[Any]]:
    """The documents with an end-of-document token after each."""
    longer = lengths + 1
    result = np.empty(len(ids) + len(lengths), dtype=ids.dtype)
    ends = np.cumsum(longer) - 1
    is_text = np.ones(len(result), dtype=bool)
    is_text[ends] = False
    result[is_text] = ids
    result[ends] = job.tokenizer.eod_id
    return result, longer
