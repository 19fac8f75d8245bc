"""Write a corpus folder of given texts, for tests of its readers."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from neox_code.corpus.shards import KEPT, CorpusSummary, Count, Document, write_documents, write_summary

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
