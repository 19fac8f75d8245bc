"""Write the token files of a corpus: one pair for each split, with an end-of-document token after every document.

    summary = tokenize_corpus("corpus", "tokens", tokenizer)
    summary.splits["train"]["Python"].tokens

The call writes tokens/train_text_document.bin and .idx, and the same for valid and test. It also writes tokens/tokens.json: the
tokenizer, and the numbers of documents, bytes and tokens by split and language. The files are the same for any number of workers
and any encoder (neox_code/tokenizer/fast.py). Rerun the same command to resume.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neox_code.corpus.executors.stages import Executor
from neox_code.corpus.shards import KEPT, SPLITS, Document, load_summary
from neox_code.corpus.tokens.input_slices import slice_corpus
from neox_code.corpus.tokens.token_files import CountsByLanguage, ProgressBar, remove_finished_notes, write_token_files
from neox_code.corpus.tokens.tokenize_slice import WriteOptions, check_encodable, make_batches
from neox_code.errors import DataError
from neox_code.files import write_json
from neox_code.tokenizer.newlines import choose_default_newlines, select_newline_treatment
from neox_code.tokenizer.protocol import Tokenizer

TOKENS_FILE = "tokens.json"


@dataclass(frozen=True)
class TokenSummary:
    """Identity of the tokenizer, and the counts by split and language. A split without tokens has no files."""

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
    by_language: Sequence[str] = (),
    append_eod: bool = True,
    newlines: str | None = None,
    ftfy: bool = False,
    skip_unencodable: bool = False,
    name_prefix: str = "",
    workers: int | None = None,
    bar: ProgressBar | None = None,
    executor: Executor | None = None,
) -> TokenSummary:
    """Write OUTPUT_FOLDER/{name_prefix}{split}_text_document.bin and .idx for every split with documents, in order.

    A split in `by_language` has a pair of files for each language, {name_prefix}{split}_{language}_text_document, so that training
    can weight the languages. {name_prefix}tokens.json is written last: if it exists, all files are complete and of one tokenizer.
    `newlines` is a key of neox_code.tokenizer.newlines.NEWLINES. Its default is `lf` if the vocabulary has no CR, else `keep`.
    Without an `executor` the work is done by `workers` processes on this machine, by default one for each core.
    Raise DataError if the folder is not a corpus or the vocabulary cannot encode a document; `skip_unencodable` counts such
    documents and leaves them out instead.
    """
    output = Path(output_folder)
    summary_file = output / f"{name_prefix}{TOKENS_FILE}"
    slices = {split: slice_corpus(Path(corpus_folder), split) for split in SPLITS}
    summary_file.unlink(missing_ok=True)
    counts, prefixes = {}, []
    for split in SPLITS:
        options = WriteOptions(
            append_eod, newlines or choose_default_newlines(tokenizer), split in by_language, ftfy, skip_unencodable
        )

        def prefix_of(language: str | None, split: str = split) -> Path:
            return output / f"{name_prefix}{make_token_file_name(split, language)}"

        counts[split] = write_token_files(
            prefix_of, slices[split], tokenizer, options, workers, bar, keep_finished_note=True, executor=executor
        )
        prefixes.append(prefix_of(None))
    summary = TokenSummary(tokenizer.identity, counts)
    write_json(summary_file, summary.to_json())
    remove_finished_notes(prefixes)
    return summary


def make_token_file_name(split: str, language: str | None = None) -> str:
    """Return the name of a pair of token files, without .bin and .idx.

    >>> make_token_file_name("valid"), make_token_file_name("train", "C++")
    ('valid_text_document', 'train_C++_text_document')
    """
    return "_".join(filter(None, (split, language, "text_document")))


def count_kept_bytes(corpus_folder: str | os.PathLike[str], split: str) -> dict[str, int]:
    """Return the size in bytes of the original files of a split, by language."""
    kept = [count for count in load_summary(Path(corpus_folder)).counts if count.verdict == KEPT and count.split == split]
    languages = sorted({str(count.language) for count in kept})
    return {language: sum(count.bytes for count in kept if count.language == language) for language in languages}


def encode_documents(
    documents: Iterable[Document], tokenizer: Tokenizer, newlines: str | None = None
) -> Iterator[tuple[Document, list[int] | DataError]]:
    """Yield each document, in order, with its ids; with a DataError if the vocabulary cannot encode the document."""
    convert_newlines = select_newline_treatment(tokenizer, newlines)

    def format_place(document: Document) -> str:
        return f"{document.repository}/{document.path}"

    def encode_single_document(document: Document) -> list[int] | DataError:
        try:
            text = convert_newlines(document.text, format_place(document))
            check_encodable(text, format_place(document), tokenizer)
        except DataError as error:
            return error
        return tokenizer.encode(text)

    for batch in make_batches(documents):
        ids: Sequence[list[int] | DataError]
        try:
            ids = tokenizer.encode_batch([convert_newlines(document.text, format_place(document)) for document in batch])
        except DataError:
            ids = [encode_single_document(document) for document in batch]
        yield from zip(batch, ids, strict=True)
