"""Write a corpus folder of given texts, for tests of its readers."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from neox_code.corpus.shards import (
    DOCUMENT_SCHEMA,
    KEPT,
    SPLITS,
    CorpusSummary,
    Count,
    Document,
    Shard,
    open_document_writer,
    write_summary,
)

TextsByLanguage = Mapping[str, list[str]]


def write_corpus(folder: Path, splits: Mapping[str, TextsByLanguage]) -> list[Document]:
    """Write the texts of each split and language as a corpus; return its documents in their order."""
    folder.mkdir()
    documents, counts = [], []
    for split, languages in splits.items():
        for language, texts in languages.items():
            batch = [document(text, language, f"{language}-{number}.txt", split) for number, text in enumerate(texts)]
            counts.append(Count(language, KEPT, split, len(batch), sum(entry.num_bytes for entry in batch), 1, 0))
            documents += batch
    write_summary(folder, CorpusSummary("none", {}, tuple(counts), write_documents(folder, documents)))
    return documents


def document(text: str, language: str, path: str, split: str) -> Document:
    data = text.encode()
    return Document(text, language, f"project-of-{split}", path, hashlib.sha256(data).hexdigest(), len(data), split)


def write_documents(folder: Path, documents: Sequence[Document], documents_per_shard: int = 1_000) -> tuple[Shard, ...]:
    """Write the shards of all splits in the order of the documents; return them in the order of their file names."""
    shards = []
    for split in sorted(SPLITS):
        own = [document for document in documents if document.split == split]
        for number, start in enumerate(range(0, len(own), documents_per_shard)):
            part = own[start : start + documents_per_shard]
            shards.append(Shard(f"{split}/shard-{number:05d}.parquet", split, len(part)))
            (folder / split).mkdir(exist_ok=True)
            rows = [
                {name: getattr(row, "num_bytes" if name == "bytes" else name) for name in DOCUMENT_SCHEMA.names} for row in part
            ]
            with open_document_writer(folder / shards[-1].file) as writer:
                writer.write_table(pa.Table.from_pylist(rows, DOCUMENT_SCHEMA))
    return tuple(shards)
