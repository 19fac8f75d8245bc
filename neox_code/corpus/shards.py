"""A corpus on disk: Parquet shards of documents, a manifest of all files of the sources, and a summary.

    DIR/corpus.json                      recipe, settings, counts by language and outcome, list of the shards
    DIR/manifest.parquet                 one row per file of the sources: path, hash, kept or reason for dropping, split
    DIR/index.tsv                        PolyCoder's index: one line per kept file
    DIR/train/shard-00000.parquet ...    documents, at most 256 MB per shard; the same under valid/ and test/
    DIR/rows/train-00000.jsonl ...       rows for fine-tuning, if the recipe makes rows

A corpus is written under a temporary name and renamed when it is complete. The same documents result in the same bytes.

    for document in iter_documents("corpus", "test", languages=["Python"]):
        print(document.repository, document.path, len(document.text))
    load_summary("corpus").kept_bytes
"""

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from neox_code.errors import DataError
from neox_code.files import read_json, write_json

SPLITS = ("train", "valid", "test")
KEPT = "kept"
FORMAT = "neox-code corpus 2"
SUMMARY_FILE = "corpus.json"
MANIFEST_FILE = "manifest.parquet"
INDEX_FILE = "index.tsv"
MAX_SHARD_BYTES = 256 * 10**6
ROW_GROUP_BYTES = 8 * 2**20

DOCUMENT_SCHEMA = pa.schema(
    [
        pa.field("text", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("repository", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("commit", pa.string()),
        pa.field("license", pa.string()),
        pa.field("stars", pa.int64()),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("tokens", pa.int64()),
    ]
)

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("repository", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("language", pa.string()),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string()),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("split", pa.string()),
        pa.field("encoding", pa.string()),
        pa.field("newlines", pa.string()),
        pa.field("license", pa.string()),
        pa.field("license_file", pa.string()),
        pa.field("edits", pa.list_(pa.string())),
        pa.field("duplicate_of", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Document:
    text: str
    language: str
    repository: str
    """Name of the project. All documents of a project are in one split, unless the corpus has only one project."""
    path: str
    """Path of the file within its repository."""
    sha256: str
    """Hash of the file's original bytes in hexadecimal; `text` is the result of decoding and the recipe's edits."""
    num_bytes: int
    """Length of `text` in UTF-8, in bytes."""
    split: str
    commit: str | None = None
    license: str | None = None
    """SPDX expression of the file's own license, else of its folder's license."""
    stars: int | None = None
    tokens: int | None = None
    """Number of tokens by the tokenizer that was given to the build; None if the build counted no tokens."""


@dataclass(frozen=True, slots=True)
class Count:
    """Number of files with one language, outcome and split."""

    language: str | None
    """Language of the files; None for files without a known language."""
    verdict: str
    """`kept`, or the reason why the files were dropped."""
    split: str | None
    """Split of the files; None for dropped files."""
    files: int
    bytes: int
    """Total size of the original files in bytes."""
    projects: int
    """Number of distinct repositories of the files."""
    decoding_errors: int
    """Number of files with bytes that are not UTF-8; those bytes are left out of the text."""


@dataclass(frozen=True, slots=True)
class Shard:
    file: str
    """Path relative to the corpus folder."""
    split: str
    documents: int


MIN_MEASURED_BYTES, MIN_MEASURED_SHARE = 200_000, 0.01
"""Limits in bytes and as a share of the corpus. A language below both is used for training, but no figures are measured for it."""


@dataclass(frozen=True)
class CorpusSummary:
    """Recipe and settings of a corpus, counts of its files by outcome, and its shards."""

    recipe: str
    settings: Mapping[str, Any]
    counts: tuple[Count, ...]
    shards: tuple[Shard, ...]

    @property
    def kept_files(self) -> int:
        return sum(count.files for count in self.counts if count.verdict == KEPT)

    @property
    def kept_bytes(self) -> int:
        return sum(count.bytes for count in self.counts if count.verdict == KEPT)

    def languages(self, split: str | None = None) -> list[str]:
        """Return the languages with kept files (in `split`), by descending number of bytes."""
        sizes: dict[str, int] = {}
        for count in self.counts:
            if count.language and count.verdict == KEPT and split in (None, count.split):
                sizes[count.language] = sizes.get(count.language, 0) + count.bytes
        return sorted(sizes, key=lambda language: (-sizes[language], language))

    def evaluated_languages(self, split: str = "test") -> list[str]:
        """Return the languages with files in `split` and enough bytes for a meaningful evaluation, the largest first."""
        enough = min(MIN_MEASURED_BYTES, MIN_MEASURED_SHARE * self.kept_bytes)
        kept: Counter[str | None] = Counter()
        for count in self.counts:
            kept[count.language] += count.bytes if count.verdict == KEPT else 0
        held_out = set(self.languages(split))
        return [language for language in self.languages() if language in held_out and kept[language] >= enough]


def open_parquet_writer(sink: Any, schema: pa.Schema, repeated: list[str]) -> pq.ParquetWriter:
    """Return a writer of Parquet; `repeated` are the columns in which the same values occur many times."""
    return pq.ParquetWriter(sink, schema, compression="zstd", use_dictionary=repeated, write_statistics=False)


def open_document_writer(sink: Any) -> pq.ParquetWriter:
    return open_parquet_writer(sink, DOCUMENT_SCHEMA, ["language", "repository", "commit", "license"])


def write_summary(folder: Path, summary: CorpusSummary) -> None:
    write_json(folder / SUMMARY_FILE, {"format": FORMAT} | dataclasses.asdict(summary))


def is_corpus(folder: str | Path) -> bool:
    return (Path(folder) / SUMMARY_FILE).is_file()


def load_summary(folder: str | Path) -> CorpusSummary:
    """Return the summary of a corpus, the inverse of `write_summary`. Raise DataError if the folder is not a corpus."""
    if not is_corpus(folder):
        raise DataError(
            f"{folder} is not a corpus: it has no {SUMMARY_FILE}. Make one with tools/build_corpus.py SOURCE... --output {folder}."
        )
    path = Path(folder) / SUMMARY_FILE
    value = read_json(path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        found = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise DataError(f"{path} is of format {found!r}, expected {FORMAT!r}. Build the corpus again with this version.")
    try:
        counts, shards = tuple(Count(**count) for count in value["counts"]), tuple(Shard(**shard) for shard in value["shards"])
        return CorpusSummary(value["recipe"], value["settings"], counts, shards)
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error!r}. Build the corpus again.") from None


def iter_documents(folder: str | Path, split: str, languages: Collection[str] | None = None) -> Iterator[Document]:
    """Yield the documents of a split, or only those in `languages`, in the order of the shards. Memory holds one row group.

    Raise DataError if the folder is not a corpus or a shard is missing; the call itself raises it, not the first iteration.
    """
    if split not in SPLITS:
        raise DataError(f"split {split!r} does not exist. Choose one of {', '.join(SPLITS)}.")
    return (document for path in list_shard_files(folder, split) for document in read_shard(path, split, languages))


def list_shard_files(folder: str | Path, split: str) -> list[Path]:
    """Return the files of a split. Raise DataError if the folder is not a corpus or a shard is missing."""
    paths = [Path(folder) / shard.file for shard in load_summary(folder).shards if shard.split == split]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} is missing, but {SUMMARY_FILE} lists it. Copy the complete corpus folder, or build it again.")
    return paths


def read_shard(path: Path, split: str, languages: Collection[str] | None = None) -> Iterator[Document]:
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield from read_documents(file.read_row_group(group), split, languages)
    except (pa.ArrowException, TypeError) as error:
        raise DataError(f"{path} is damaged or not a shard of a corpus: {error}. Build the corpus again.") from None


def read_documents(table: pa.Table, split: str, languages: Collection[str] | None = None) -> Iterator[Document]:
    """Yield the rows of a table with the columns of DOCUMENT_SCHEMA as documents."""
    for row in table.to_pylist():
        if languages is None or row["language"] in languages:
            row["num_bytes"] = row.pop("bytes")
            yield Document(split=split, **row)


def read_manifest(folder: str | Path) -> pa.Table:
    """Return the manifest, with one row per file of the sources and the columns of MANIFEST_SCHEMA."""
    load_summary(folder)
    return pq.read_table(Path(folder) / MANIFEST_FILE)
