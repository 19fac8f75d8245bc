"""From documents to token files: every split of a corpus apart, an end-of-document token after every document.

    summary = tokenize_corpus("corpus", "tokens", tokenizer)
    summary.splits["train"]["Python"].tokens

writes tokens/train_text_document.bin and .idx, the same for valid and test, and tokens/tokens.json: the tokenizer, and documents,
bytes and tokens by split and language. Each document's tokens are decoded again and compared with its text as they are written.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neox_code.corpus.shards import KEPT, SPLITS, Document, iter_documents, load_summary
from neox_code.data.indexed_dataset import IndexedDatasetWriter, best_dtype, bin_path, idx_path
from neox_code.errors import DataError
from neox_code.files import write_json
from neox_code.logs import get_logger, progress
from neox_code.tokenizer.protocol import Tokenizer

log = get_logger(__name__)

TOKENS_FILE = "tokens.json"
BATCH_CHARACTERS = 2**20
BATCH_DOCUMENTS = 4096


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

    @property
    def bytes_per_token(self) -> float | None:
        return self.bytes / self.tokens if self.tokens else None


CountsByLanguage = Mapping[str, TokenCounts]


@dataclass(frozen=True)
class TokenSummary:
    """The tokenizer's identity and, for every split and language, the counts; a split without tokens has no files."""

    tokenizer: Mapping[str, str]
    splits: Mapping[str, CountsByLanguage]

    def to_json(self) -> dict[str, Any]:
        splits = {
            split: {
                language: asdict(counts) | {"bytes_per_token": counts.bytes_per_token} for language, counts in languages.items()
            }
            for split, languages in self.splits.items()
        }
        return {"tokenizer": dict(self.tokenizer), "splits": splits}


def tokenize_corpus(
    corpus_folder: str | os.PathLike[str],
    output_folder: str | os.PathLike[str],
    tokenizer: Tokenizer,
    *,
    splits: Sequence[str] = SPLITS,
    by_language: Sequence[str] = (),
    append_eod: bool = True,
    name_prefix: str = "",
) -> TokenSummary:
    """Writes OUTPUT_FOLDER/{name_prefix}{split}_text_document.bin and .idx for every split with documents, in their order.

    The splits in `by_language` have a pair of files for each language, {name_prefix}{split}_{language}_text_document, so that a
    training can weight them. {name_prefix}tokens.json is written last: where it is, all files are whole and of one tokenizer.
    Raises DataError where the folder is not a corpus or a document holds text that the vocabulary cannot.
    """
    output = Path(output_folder)
    summary_file = output / f"{name_prefix}{TOKENS_FILE}"
    summary_file.unlink(missing_ok=True)
    counts = {}
    for split in splits:
        sizes = kept_bytes(corpus_folder, split)
        counts[split] = {}
        for language in sizes if split in by_language else (None,):
            prefix = output / f"{name_prefix}{token_file_name(split, language)}"
            documents = iter_documents(Path(corpus_folder), split, None if language is None else [language])
            num_bytes = sum(sizes.values()) if language is None else sizes[language]
            counts[split] |= write_token_file(prefix, documents, tokenizer, append_eod=append_eod, num_bytes=num_bytes)
    summary = TokenSummary(tokenizer.identity, counts)
    write_json(summary_file, summary.to_json())
    return summary


def token_file_name(split: str, language: str | None = None) -> str:
    """Without .bin and .idx.

    >>> token_file_name("valid"), token_file_name("train", "C++")
    ('valid_text_document', 'train_C++_text_document')
    """
    return "_".join(filter(None, (split, language, "text_document")))


def kept_bytes(corpus_folder: str | os.PathLike[str], split: str) -> dict[str, int]:
    """Bytes of a split's files as found, by language."""
    kept = [count for count in load_summary(Path(corpus_folder)).counts if count.verdict == KEPT and count.split == split]
    languages = sorted({count.language for count in kept})
    return {language: sum(count.bytes for count in kept if count.language == language) for language in languages}


def write_token_file(
    prefix: str | os.PathLike[str], documents: Iterable[Document], tokenizer: Tokenizer, *, append_eod: bool, num_bytes: int
) -> dict[str, TokenCounts]:
    """Writes the documents' tokens to PREFIX.bin and .idx in their order; returns what became of them, by language.

    A document without tokens is left out; without any document there is no file. `num_bytes` of all documents is for the bar.
    """
    counts: dict[str, TokenCounts] = defaultdict(TokenCounts)
    end = [tokenizer.eod_id] if append_eod else []
    writer = IndexedDatasetWriter(prefix, best_dtype(tokenizer.vocab_size))
    with progress(Path(prefix).name, total=num_bytes, unit="B") as advance, writer:
        for document, ids in encode_documents(documents, tokenizer):
            count(counts[document.language], document.text.encode(), ids, tokenizer)
            if ids:
                writer.add_document(ids + end)
            advance(document.num_bytes)
    if not writer.num_documents:
        idx_path(prefix).unlink()
        bin_path(prefix).unlink()
    report(prefix, writer, counts)
    return dict(counts)


def count(counts: TokenCounts, text: bytes, ids: Sequence[int], tokenizer: Tokenizer) -> None:
    """Adds a document of these bytes and tokens to the counts."""
    if not ids:
        counts.empty += 1
        return
    counts.documents += 1
    counts.bytes += len(text)
    counts.tokens += len(ids)
    counts.changed += tokenizer.decode_bytes(ids) != text


def report(prefix: str | os.PathLike[str], writer: IndexedDatasetWriter, counts: CountsByLanguage) -> None:
    if not writer.num_documents:
        log.warning("%s: no document has a token, so no file is written", prefix)
    else:
        log.info("%s: %s documents, %s tokens", bin_path(prefix), f"{writer.num_documents:,}", f"{writer.num_tokens:,}")
    if empty := sum(count.empty for count in counts.values()):
        log.warning("%s: %s empty documents left out", prefix, f"{empty:,}")
    if changed := sum(count.changed for count in counts.values()):
        log.warning(
            "%s: the tokens of %s documents decode to other bytes, because the tokenizer normalizes text", prefix, f"{changed:,}"
        )


def encode_documents(documents: Iterable[Document], tokenizer: Tokenizer) -> Iterator[tuple[Document, list[int]]]:
    """Each document with its ids, in order, encoded in batches. Raises DataError naming the document that cannot be encoded."""
    for batch in batches(documents):
        try:
            ids = tokenizer.encode_batch([document.text for document in batch])
        except DataError:
            for document in batch:
                check_encodable(document, tokenizer)
            raise
        yield from zip(batch, ids, strict=True)


def check_encodable(document: Document, tokenizer: Tokenizer) -> None:
    try:
        tokenizer.encode(document.text)
    except DataError as error:
        raise DataError(f"{document.repository}/{document.path}: {error}") from None


def batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """The documents in lists of at least BATCH_CHARACTERS or of BATCH_DOCUMENTS; the last may be shorter."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if characters >= BATCH_CHARACTERS or len(batch) == BATCH_DOCUMENTS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
