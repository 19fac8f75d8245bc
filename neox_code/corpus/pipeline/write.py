"""Write the shards. One process writes a shard from the texts in the scan results.

for done in write_shard(work, 3): ...        # writes out/train/shard-00002.parquet, and rows/ for recipes that make rows
"""

import io
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from neox_code.corpus.executors.stages import Stage
from neox_code.corpus.pipeline.decisions import BlockPlace, Decisions, PlannedShard, load_decisions
from neox_code.corpus.pipeline.repositories import remove_prefixes
from neox_code.corpus.pipeline.scan_results import read_projects_of_file
from neox_code.corpus.pipeline.work_folder import (
    Settings,
    find_original_recipe,
    get_output_folder,
    get_scan_result_path,
    load_settings,
)
from neox_code.corpus.recipes.registry import report_recipe_errors
from neox_code.corpus.rows.chunks import load_tokenizer
from neox_code.corpus.rows.protocol import RowMaker
from neox_code.corpus.shards import DOCUMENT_SCHEMA, ROW_GROUP_BYTES, open_document_writer, read_documents
from neox_code.files import atomic_file, partial_path, replace_durably

COLUMNS = ["project", "path", "language", "sha256", "is_first", "text_bytes", "text"]


def write_shard(work: Path, index: int) -> Iterator[float]:
    """Write a shard and its fine-tuning rows (if the recipe makes rows); yield the bytes of text of each row group."""
    settings, decisions = load_settings(work), load_decisions(work)
    shard = decisions.shards[index]
    maker, own_recipe = settings.recipe.rows, find_original_recipe(work)
    path = get_output_folder(work) / shard.name
    path.parent.mkdir(exist_ok=True)
    try:
        with open_document_writer(partial_path(path)) as writer, open_rows_file(work, shard, maker) as rows_for_tuning:
            for table, numbers in read_row_groups(work, decisions, shard, settings):
                writer.write_table(table, row_group_size=len(table))
                if maker is not None:
                    for document, number in zip(read_documents(table, shard.split), numbers.tolist(), strict=True):
                        with report_recipe_errors(own_recipe, f"makes rows of {document.repository}/{document.path}"):
                            version = maker.find_version(decisions.prefixes[number] + document.path, decisions.versions[number])
                            rows = list(maker.rows(document, version))
                        for row in rows:
                            rows_for_tuning.write(json.dumps(row, ensure_ascii=False) + "\n")
                yield pc.sum(table["bytes"]).as_py()
        replace_durably(partial_path(path), path)
    finally:
        partial_path(path).unlink(missing_ok=True)


def open_rows_file(work: Path, shard: PlannedShard, maker: RowMaker | None) -> AbstractContextManager[IO[str]]:
    """Open the file for a shard's fine-tuning rows. It gets its final name before the shard does: a shard never lacks its rows."""
    return nullcontext(io.StringIO()) if maker is None else atomic_file(get_output_folder(work) / shard.rows_file_name)


def get_shard_path(work: Path, index: int) -> Path:
    return get_output_folder(work) / load_decisions(work).shards[index].name


WRITE = Stage("write", write_shard, get_shard_path)


def read_row_groups(
    work: Path, decisions: Decisions, shard: PlannedShard, settings: Settings
) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Yield tables of about 8 MiB of text, and the repository number of each document (shape [documents], int32)."""
    pending: list[tuple[pa.Table, np.ndarray]] = []
    num_bytes = 0
    for place in decisions.iter_blocks(shard):
        rows, numbers = decisions.read_kept_rows(shard, place)
        if len(rows):
            table = make_document_table(work, decisions, place, rows, numbers, settings)
            pending.append((table, numbers))
            num_bytes += pc.sum(table["bytes"]).as_py()
            if num_bytes >= ROW_GROUP_BYTES:
                yield join_tables(pending)
                pending, num_bytes = [], 0
    if pending:
        yield join_tables(pending)


def join_tables(pending: list[tuple[pa.Table, np.ndarray]]) -> tuple[pa.Table, np.ndarray]:
    tables, numbers = zip(*pending, strict=True)
    return pa.concat_tables(tables), np.concatenate(numbers)


def make_document_table(
    work: Path, decisions: Decisions, place: BlockPlace, rows: np.ndarray, numbers: np.ndarray, settings: Settings
) -> pa.Table:
    """Return the documents of some rows of a block. `rows` are indices in the block, `numbers` the rows' repository numbers."""
    with pq.ParquetFile(get_scan_result_path(work, place.batch)) as file:
        commits = pa.array([project.commit for project in read_projects_of_file(file)], pa.string())
        block = file.read_row_group(place.row_group, columns=COLUMNS, use_threads=False)
    texts = block["text"].take(pa.array(find_text_rows(block)[rows]))
    block = block.drop_columns("text").take(pa.array(rows))
    repositories = decisions.repositories.take(pa.array(numbers))
    return pa.table(
        {
            "text": texts,
            "language": block["language"],
            "repository": repositories["name"],
            "path": remove_prefixes(block["path"].combine_chunks(), numbers, decisions.prefixes),
            "commit": commits.take(block["project"].combine_chunks()),
            "license": decisions.read_row_licenses(place, rows),
            "stars": repositories["stars"],
            "sha256": block["sha256"],
            "bytes": block["text_bytes"],
            "tokens": count_tokens(texts, settings.tokenizer),
        },
        schema=DOCUMENT_SCHEMA,
    )


def find_text_rows(block: pa.Table) -> np.ndarray:
    """Return for each row the index of the row that stores its text (int64). Rows of one file may share one stored text."""
    holds = block["text"].is_valid().to_numpy() | block["is_first"].to_numpy()
    return np.maximum.accumulate(np.where(holds, np.arange(len(holds)), 0))


def count_tokens(texts: pa.ChunkedArray, tokenizer_file: Path | None) -> pa.Array:
    if tokenizer_file is None:
        return pa.nulls(len(texts), pa.int64())
    encodings = load_tokenizer(tokenizer_file).encode_batch_fast(texts.to_pylist(), add_special_tokens=False)
    return pa.array([len(encoding) for encoding in encodings], pa.int64())
