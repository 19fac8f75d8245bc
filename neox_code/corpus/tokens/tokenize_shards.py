"""From documents to token files: every split of a corpus apart, an end-of-document token after every document.

    summary = tokenize_corpus("corpus", "tokens", tokenizer)
    summary.splits["train"]["Python"].tokens

writes tokens/train_text_document.bin and .idx, the same for valid and test, and tokens/tokens.json: the tokenizer, and documents,
bytes and tokens by split and language. The bytes are the same for any number of workers and any encoder: see
neox_code/tokenizer/fast.py. Rerun the same command to resume.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neox_code.corpus.executors.stages import Executor
from neox_code.corpus.shards import KEPT, SPLITS, Document, load_summary
from neox_code.corpus.tokens.text_pieces import corpus_pieces
from neox_code.corpus.tokens.token_files import Bar, CountsByLanguage, forget, write_token_files
from neox_code.corpus.tokens.tokenize_piece import Writing, batches, check_encodable
from neox_code.errors import DataError
from neox_code.files import write_json
from neox_code.tokenizer.newlines import choose_default_newlines, select_newline_treatment
from neox_code.tokenizer.protocol import Tokenizer

TOKENS_FILE = "tokens.json"


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
    newlines: str | None = None,
    ftfy: bool = False,
    skip_unencodable: bool = False,
    name_prefix: str = "",
    workers: int | None = None,
    bar: Bar | None = None,
    executor: Executor | None = None,
) -> TokenSummary:
    """Writes OUTPUT_FOLDER/{name_prefix}{split}_text_document.bin and .idx for every split with documents, in their order.

    The splits in `by_language` have a pair of files for each language, {name_prefix}{split}_{language}_text_document, so that a
    training can weight them. {name_prefix}tokens.json is written last: where it is, all files are whole and of one tokenizer.
    `newlines` is a key of neox_code.tokenizer.newlines.NEWLINES, by default `lf` where the vocabulary has no CR, else `keep`.
    Without an `executor` it works in `workers` processes of this machine, by default one for each core.
    Raises DataError where the folder is not a corpus, and for a document with text that the vocabulary cannot hold, which
    `skip_unencodable` counts and leaves out.
    """
    output = Path(output_folder)
    summary_file = output / f"{name_prefix}{TOKENS_FILE}"
    pieces = {split: corpus_pieces(Path(corpus_folder), split) for split in splits}
    summary_file.unlink(missing_ok=True)
    counts, prefixes = {}, []
    for split in splits:
        writing = Writing(append_eod, newlines or choose_default_newlines(tokenizer), split in by_language, ftfy, skip_unencodable)

        def prefix_of(language: str | None, split: str = split) -> Path:
            return output / f"{name_prefix}{token_file_name(split, language)}"

        counts[split] = write_token_files(
            prefix_of, pieces[split], tokenizer, writing, workers, bar, is_one_of_many=True, executor=executor
        )
        prefixes.append(prefix_of(None))
    summary = TokenSummary(tokenizer.identity, counts)
    write_json(summary_file, summary.to_json())
    forget(prefixes)
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
    languages = sorted({str(count.language) for count in kept})
    return {language: sum(count.bytes for count in kept if count.language == language) for language in languages}


def encode_documents(
    documents: Iterable[Document], tokenizer: Tokenizer, newlines: str | None = None
) -> Iterator[tuple[Document, list[int] | DataError]]:
    """Yield each document with its ids, in order, encoded in batches; with the error that names it where it cannot be encoded."""
    treat = select_newline_treatment(tokenizer, newlines)

    def place_of(document: Document) -> str:
        return f"{document.repository}/{document.path}"

    def encode_alone(document: Document) -> list[int] | DataError:
        try:
            text = treat(document.text, place_of(document))
            check_encodable(text, place_of(document), tokenizer)
        except DataError as error:
            return error
        return tokenizer.encode(text)

    for batch in batches(documents):
        ids: Sequence[list[int] | DataError]
        try:
            ids = tokenizer.encode_batch([treat(document.text, place_of(document)) for document in batch])
        except DataError:
            ids = [encode_alone(document) for document in batch]
        yield from zip(batch, ids, strict=True)
