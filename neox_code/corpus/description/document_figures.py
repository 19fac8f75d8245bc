"""Read figures from the shards that are not in the manifest (bytes of text, tokens, stars); sample documents to count tokens.

figures = count_documents("corpus", sample_bytes=4_000_000, seed=1234)
figures.languages["Python"].bytes_per_token            # None if the documents have no token counts
for language, text, place in read_sampled_texts("corpus", figures.sample): ...
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from neox_code.corpus.description.manifest_figures import read_batches
from neox_code.corpus.description.seeded_sample import SeededSample, hash_rows
from neox_code.corpus.shards import load_summary
from neox_code.logs import progress

COLUMNS = ["language", "repository", "stars", "bytes", "tokens"]

Sample = dict[str, list[int]]
"""Shard file -> row numbers in it, ascending."""


@dataclass
class TextAmount:
    documents: int = 0
    bytes: int = 0
    """Size of the documents' texts in UTF-8, in bytes."""
    tokens: int = 0
    bytes_with_tokens: int = 0
    """Size in bytes of the texts whose tokens were counted when the corpus was built."""

    @property
    def bytes_per_token(self) -> float | None:
        return self.bytes_with_tokens / self.tokens if self.tokens else None


@dataclass
class DocumentFigures:
    languages: dict[str, TextAmount] = field(default_factory=lambda: defaultdict(TextAmount))
    stars: dict[str, int] = field(default_factory=dict)
    """Repository -> stars, for repositories whose stars are known."""
    sample: Sample = field(default_factory=dict)
    num_documents: int = 0

    @property
    def tokens(self) -> int | None:
        """Number of tokens of all documents; None if the build did not count the tokens of every document."""
        is_whole = all(amount.bytes == amount.bytes_with_tokens for amount in self.languages.values())
        return sum(amount.tokens for amount in self.languages.values()) if is_whole else None

    def add(self, rows: pa.Table) -> None:
        """Add rows of a shard, with the columns COLUMNS."""
        self.num_documents += len(rows)
        known = rows.append_column("known", pc.if_else(rows["tokens"].is_valid(), rows["bytes"], 0))
        sums = known.group_by("language", use_threads=False).aggregate(
            [([], "count_all"), ("bytes", "sum"), ("tokens", "sum"), ("known", "sum")]
        )
        for row in sums.to_pylist():
            amount = self.languages[row["language"]]
            amount.documents += row["count_all"]
            amount.bytes += row["bytes_sum"]
            amount.tokens += row["tokens_sum"] or 0
            amount.bytes_with_tokens += row["known_sum"]
        starred = rows.select(["repository", "stars"]).filter(rows["stars"].is_valid())
        for row in starred.group_by("repository", use_threads=False).aggregate([("stars", "max")]).to_pylist():
            self.stars[row["repository"]] = row["stars_max"]


def count_documents(folder: str | os.PathLike[str], sample_bytes: int = 0, seed: int = 0) -> DocumentFigures:
    """Count the documents of a corpus and select a sample of them, in one pass over the shards. Texts are not read.

    The sample has documents of each language, up to a total of `sample_bytes` bytes per language. They are selected in the order
    of a seeded hash of their row numbers. Raise DataError if a shard is missing or damaged.
    """
    figures = DocumentFigures()
    sampled = SeededSample(sample_bytes)
    summary = load_summary(Path(folder))
    with progress("documents", summary.kept_files, " files") as advance:
        for shard in summary.shards:
            first_row = 0
            for rows in read_batches(Path(folder) / shard.file, COLUMNS):
                if sample_bytes:
                    hashes = hash_rows(figures.num_documents, len(rows), seed)
                    languages = rows["language"].to_numpy(zero_copy_only=False)
                    place = partial(lambda file, first, index: (file, first + index), shard.file, first_row)
                    sampled.add(languages, hashes, place, rows["bytes"].to_numpy())
                figures.add(rows)
                first_row += len(rows)
                advance(len(rows))
    for language in sampled.groups():
        for file, row in sampled.get_rows(language):
            figures.sample.setdefault(file, []).append(row)
    figures.sample = {file: sorted(rows) for file, rows in sorted(figures.sample.items())}
    return figures


def read_sampled_texts(folder: str | os.PathLike[str], sample: Sample) -> Iterator[tuple[str, str, str]]:
    """Yield language, text and place (repository/path) of every sampled document. Skip row groups without a sampled document."""
    for name, rows in sample.items():
        with pq.ParquetFile(Path(folder) / name, pre_buffer=False) as file:
            first_row = 0
            for group in range(file.num_row_groups):
                num_rows = file.metadata.row_group(group).num_rows
                wanted = [row - first_row for row in rows if first_row <= row < first_row + num_rows]
                first_row += num_rows
                if wanted:
                    columns = ["language", "text", "repository", "path"]
                    for row in file.read_row_group(group, columns=columns, use_threads=False).take(wanted).to_pylist():
                        yield row["language"], row["text"], f"{row['repository']}/{row['path']}"
