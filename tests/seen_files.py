"""Write a corpus folder with given rows of its manifest, for tests of the description."""

import hashlib
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from small_corpus import write_documents

from neox_code.corpus.shards import (
    KEPT,
    MANIFEST_FILE,
    MANIFEST_SCHEMA,
    CorpusSummary,
    Count,
    Document,
    open_parquet_writer,
    write_summary,
)

Row = dict[str, Any]
"""A row of the manifest; for a kept file also its `text`, optionally `stars` and `tokens`."""

HOSTILE = '</td><script>alert("&amp;")</script>{{ 7 * 7 }}[bold red]\x1b[2J\u202e\''


def make_kept_row(
    path: str, text: str, language: str = "Python", repository: str = "a/b", split: str = "train", **more: Any
) -> Row:
    return make_dropped_row(path, len(text.encode()), KEPT, language, repository) | {"text": text, "split": split} | more


def make_dropped_row(
    path: str, num_bytes: int, verdict: str, language: str | None = "Python", repository: str = "a/b", **more: Any
) -> Row:
    row: Row = dict.fromkeys(MANIFEST_SCHEMA.names)
    was_read = not verdict.startswith("over")
    found = {"encoding": "utf-8", "newlines": "lf", "sha256": hashlib.sha256(path.encode()).hexdigest()} if was_read else {}
    return (
        row | found | {"path": path, "bytes": num_bytes, "verdict": verdict, "language": language, "repository": repository} | more
    )


def write_seen_files(folder: Path, rows: Sequence[Row], rows_per_group: int = 100_000) -> CorpusSummary:
    """Write the manifest, shards and summary of a corpus built from these files."""
    folder.mkdir(parents=True)
    repeated = ["repository", "language", "verdict", "license"]
    with open_parquet_writer(folder / MANIFEST_FILE, MANIFEST_SCHEMA, repeated) as writer:
        for first in range(0, len(rows), rows_per_group):
            chosen = [{name: row[name] for name in MANIFEST_SCHEMA.names} for row in rows[first : first + rows_per_group]]
            writer.write_table(pa.Table.from_pylist(chosen, MANIFEST_SCHEMA))
    documents = [
        Document(
            row["text"],
            row["language"],
            row["repository"],
            row["path"],
            row["sha256"],
            len(row["text"].encode()),
            row["split"],
            license=row["license"],
            stars=row.get("stars"),
            tokens=row.get("tokens"),
        )
        for row in rows
        if row["verdict"] == KEPT
    ]
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["language"], row["verdict"], row["split"]].append(row)
    counts = tuple(
        Count(*key, len(group), sum(row["bytes"] for row in group), len({row["repository"] for row in group}), 0)
        for key, group in groups.items()
    )
    summary = CorpusSummary("mine", {"sources": ["code"], "seed": 1}, counts, write_documents(folder, documents))
    write_summary(folder, summary)
    return summary


def random_rows(number: int, seed: int = 0) -> list[Row]:
    """Return random files of all outcomes, in three languages and 40 repositories."""
    choose = random.Random(seed)
    rows = []
    for index in range(number):
        repository = choose.randrange(40)
        more = {
            "repository": f"organization/project{repository}",
            "license": choose.choice([None, "MIT", "Apache-2.0", "GPL-3.0-only"]),
            "edits": choose.choice([None, None, ["secrets masked"], ["secrets masked", "copyright header removed"]]),
            "encoding": choose.choice(["utf-8", "latin-1"]),
            "newlines": choose.choice(["lf", "crlf", "mixed"]),
        }
        language = choose.choice(["Python", "Python", "C", "Go"])
        path, size = f"src/file{index}", int(choose.lognormvariate(6, 1.5))
        verdict = choose.choice([KEPT, KEPT, KEPT, "exact duplicate", "near duplicate", "under 100 tokens", "left aside", "empty"])
        if verdict == KEPT:
            split = ("train", "valid", "test")[repository % 3]
            stars = None if repository % 5 == 0 else repository * repository
            rows.append(make_kept_row(path, "x" * size, language, split=split, stars=stars, **more))
        else:
            survivor = f"organization/project{choose.randrange(40)}/src/file0" if "duplicate" in verdict else None
            size = 0 if verdict == "empty" else size
            rows.append(
                make_dropped_row(path, size, verdict, None if verdict == "empty" else language, duplicate_of=survivor, **more)
            )
    return rows
