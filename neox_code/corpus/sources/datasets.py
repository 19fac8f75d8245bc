"""Find the files of a dataset in a folder. The tools read such files as rows, not as files of source code.

    find_shards(Path("the-stack"))        # data/c/train-00000.parquet, data/python/train-00000.parquet, ...
    find_archives(Path("downloads"))           # a.tar.gz, b.zip

A folder is a dataset if it has shards at any depth and no source code. Shards are files of Parquet, JSON Lines or JSON lists of
rows, compressed or not. The Parquet files are read; if there are none, the JSON files. The folder may also contain notes, pictures
and the loading script of a Hugging Face dataset. Hidden files and folders are ignored.
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from neox_code.corpus.linguist.detect import guess_by_name
from neox_code.corpus.linguist.tables import LANGUAGE_TYPES
from neox_code.corpus.sources.columns import find_columns
from neox_code.corpus.sources.compressed import DAMAGED
from neox_code.corpus.sources.json_lines import parse_row, read_lines
from neox_code.corpus.sources.source_names import TAR_SUFFIXES
from neox_code.errors import DataError
from neox_code.logs import format_plural, get_logger

PACKED = ("", ".gz", ".bz2", ".xz", ".zst")
JSON_LINES_SUFFIXES = tuple(f"{suffix}{packed}" for suffix in (".jsonl", ".ndjson") for packed in PACKED)
JSON_SUFFIXES = tuple(f".json{packed}" for packed in PACKED)
CORPUS_SUMMARY = "corpus.json"
ARROW_DESCRIPTIONS = ("state.json", "dataset_info.json")
ROWS_TO_LOOK_AT = 100
LARGEST_FIRST_ROW = 2**26

log = get_logger(__name__)


def find_shards(folder: Path) -> tuple[Path, ...]:
    """Return the shards of a dataset's folder in the order of their paths; an empty tuple if the folder is not a dataset.

    Raise DataError for a dataset written by `save_to_disk` or kept in the cache of Hugging Face's library.
    """
    if (folder / CORPUS_SUMMARY).is_file():
        return tuple(sorted(folder.glob("*/shard-*.parquet")))
    parquet, lines, json, others = [], [], [], 0
    for path in list_visible_files(folder):
        name = path.name.lower()
        if name.endswith(".parquet"):
            parquet.append(path)
        elif name.endswith(JSON_LINES_SUFFIXES):
            lines.append(path)
        elif name.endswith(JSON_SUFFIXES):
            json.append(path)
        elif name.endswith(".arrow") and any((path.parent / described).is_file() for described in ARROW_DESCRIPTIONS):
            raise DataError(
                f"{folder} is a dataset in the form of save_to_disk or of a cache, which is not read. Write it as Parquet: "
                f'for split in load_from_disk("{folder}") save dataset.to_parquet(FILE), and name the folder of these files.'
            )
        elif is_code(path) and not (path.parent == folder and is_loading_script(path)):
            return ()
        else:
            others += 1
    if not parquet:
        lines += [path for path in json if find_columns(read_first_row(path) or ()).get("text")]
    shards = sorted(parquet or lines)
    if shards:
        left_out = others + len(parquet) + len(set(lines + json)) - len(shards)
        log.info(
            "source %s | read as a dataset: %s, %s skipped",
            folder,
            format_plural(len(shards), "file"),
            format_plural(left_out, "other"),
        )
    return tuple(shards)


def find_archives(folder: Path) -> tuple[Path, ...]:
    """Return the tar and zip archives of a folder, sorted by path; an empty result if the folder has source code or shards."""
    archives = []
    for path in list_visible_files(folder):
        name = path.name.lower()
        if name.endswith((*TAR_SUFFIXES, ".zip")):
            archives.append(path)
        elif is_shard_name(name) or is_code(path):
            return ()
    return tuple(sorted(archives))


def is_shard_name(name: str) -> bool:
    return name.lower().endswith((".parquet", *JSON_LINES_SUFFIXES))


def is_code(path: Path) -> bool:
    return LANGUAGE_TYPES.get(guess_by_name(path.name) or "") == "programming"


def is_loading_script(path: Path) -> bool:
    """Return True for a script with which Hugging Face's library loads a dataset."""
    try:
        start = path.read_bytes()[: 2**20] if path.suffix == ".py" else b""
    except OSError:
        return False
    return b"datasets" in start and b"Builder" in start


def list_visible_files(folder: Path) -> Iterator[Path]:
    """Yield the files and links below a folder. Skip pipes and names with a leading dot."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            if not name.startswith(".") and (path.is_file() or not path.exists()):
                yield path


def read_first_row(path: Path) -> dict[str, Any] | None:
    """Return the columns of the first readable row of a JSON file; None if it has no such row."""
    try:
        for _, line, _ in islice(read_lines(path, 0, None), ROWS_TO_LOOK_AT):
            if len(line) <= LARGEST_FIRST_ROW and (row := parse_row(line)) is not None:
                return row
    except DAMAGED:
        return None
    return None
