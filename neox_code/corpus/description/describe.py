"""All figures of a corpus, counted in one pass over its manifest and one over its shards.

description = describe("corpus", tokenizer=None)
description.manifest.files.group_by("language"), description.documents.languages["Python"].bytes
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neox_code.corpus.description.document_figures import DocumentFigures, count_documents
from neox_code.corpus.description.fertility import Fertility, compute_recorded_fertility, measure_fertility
from neox_code.corpus.description.manifest_figures import ManifestFigures, read_manifest_figures
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
    """Fertility (bytes of text per token) by language; empty if the corpus has no token counts and no tokenizer was given."""
    fertility_method: str
    """A sentence that explains how the fertility was counted."""


def describe(
    folder: str | os.PathLike[str], tokenizer: Tokenizer | None = None, sample_bytes: int = SAMPLE_BYTES, seed: int = SEED
) -> Description:
    """Return the figures of a corpus folder; with a tokenizer, count the tokens of a seeded sample of `sample_bytes` per language.

    Raise DataError if the folder is not a corpus or is incomplete.
    """
    folder = Path(folder)
    summary = load_summary(folder)
    manifest = read_manifest_figures(folder, sum(count.files for count in summary.counts))
    documents = count_documents(folder, sample_bytes if tokenizer else 0, seed)
    check_same_corpus(folder, summary, manifest, documents)
    if tokenizer is not None:
        fertility = measure_fertility(folder, documents.sample, tokenizer)
        method = f"Counted with {format_tokenizer(tokenizer)} on a sample: whole documents of each language in the order of a hash "
        method += f"with seed {seed}, up to {sample_bytes / 1e6:,g} MB. Plus or minus: half the width of the 95% interval."
    else:
        fertility = compute_recorded_fertility(documents)
        method = "From the token counts that the build of the corpus recorded." if fertility else ""
    return Description(folder.resolve().name, summary, manifest, documents, fertility, method)


def format_tokenizer(tokenizer: Tokenizer) -> str:
    kind, file = tokenizer.identity["tokenizer_type"], tokenizer.identity.get("vocab_file")
    return f"{kind} {Path(file).name}" if file else kind


def check_same_corpus(folder: Path, summary: CorpusSummary, manifest: ManifestFigures, documents: DocumentFigures) -> None:
    """Raise DataError unless summary, manifest and shards count the same files."""
    kept = manifest.files.total(verdict=KEPT).files
    seen = sum(count.files for count in summary.counts)
    if not (kept == summary.kept_files == documents.num_documents and manifest.num_rows == seen):
        raise DataError(
            f"{folder} is inconsistent: its summary has {summary.kept_files:,} kept files of {seen:,}, its manifest {kept:,} of "
            f"{manifest.num_rows:,}, and its shards have {documents.num_documents:,} documents. Copy the whole folder again, or "
            "rebuild it."
        )
