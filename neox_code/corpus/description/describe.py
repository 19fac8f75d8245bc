"""All that there is to say about a corpus, counted in one pass over its manifest and one over its shards.

description = describe("corpus", tokenizer=None)
description.manifest.files.by("verdict"), description.documents.languages["Python"].bytes
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neox_code.corpus.description.document_figures import DocumentFigures, count_documents
from neox_code.corpus.description.fertility import Fertility, known_fertility, sampled_fertility
from neox_code.corpus.description.manifest_figures import ManifestFigures, count_manifest
from neox_code.corpus.shards import KEPT, CorpusSummary, load_summary
from neox_code.errors import DataError
from neox_code.tokenizer.protocol import Tokenizer

SAMPLE_BYTES = 4_000_000
SEED = 1234


@dataclass(frozen=True)
class Description:
    name: str
    summary: CorpusSummary
    manifest: ManifestFigures
    documents: DocumentFigures
    fertility: Mapping[str, Fertility]
    """By language; of nothing where the corpus has no tokens and no tokenizer was given."""
    fertility_of: str
    """How it was counted, in a sentence."""


def describe(
    folder: str | os.PathLike[str], tokenizer: Tokenizer | None = None, sample_bytes: int = SAMPLE_BYTES, seed: int = SEED
) -> Description:
    """With a tokenizer, the tokens of a seeded sample of `sample_bytes` a language are counted.

    Raises DataError for a folder that is not a corpus, or not the whole of one.
    """
    folder = Path(folder)
    summary = load_summary(folder)
    manifest = count_manifest(folder, sum(count.files for count in summary.counts))
    documents = count_documents(folder, sample_bytes if tokenizer else 0, seed)
    check_same_corpus(folder, summary, manifest, documents)
    if tokenizer is not None:
        fertility = sampled_fertility(folder, documents.sample, tokenizer)
        told = f"Counted with {named(tokenizer)} on a sample: whole documents of each language by a hash with seed {seed}, "
        told += f"until they have {sample_bytes / 1e6:,g} MB. Plus or minus: half the width of the 95% interval."
    else:
        fertility = known_fertility(documents)
        told = "Of the tokens that were counted when the corpus was built." if fertility else ""
    return Description(folder.resolve().name, summary, manifest, documents, fertility, told)


def named(tokenizer: Tokenizer) -> str:
    kind, file = tokenizer.identity["tokenizer_type"], tokenizer.identity.get("vocab_file")
    return f"{kind} {Path(file).name}" if file else kind


def check_same_corpus(folder: Path, summary: CorpusSummary, manifest: ManifestFigures, documents: DocumentFigures) -> None:
    """Figures of files that do not belong together would mislead."""
    kept = manifest.files.total(verdict=KEPT).files
    seen = sum(count.files for count in summary.counts)
    if not (kept == summary.kept_files == documents.num_documents and manifest.num_rows == seen):
        raise DataError(
            f"{folder} is not one corpus: its summary tells of {summary.kept_files:,} files kept of {seen:,}, the manifest of "
            f"{kept:,} of {manifest.num_rows:,}, the shards hold {documents.num_documents:,}. Copy it whole, or build it again."
        )
