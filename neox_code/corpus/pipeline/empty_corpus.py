"""The error for a corpus without any kept file. It lists what was found, and a remedy.

raise make_empty_corpus_error(sources, counts, max_bytes)
"""

from collections import Counter
from collections.abc import Sequence

from neox_code.corpus.pipeline.index import LEFT_ASIDE
from neox_code.corpus.pipeline.language_and_license import NO_PROJECT_LANGUAGE
from neox_code.corpus.pipeline.prefilter import DATASET_FILE, NO_LANGUAGE, NOT_CHOSEN
from neox_code.corpus.pipeline.scan import UNPLACED
from neox_code.corpus.shards import Count
from neox_code.corpus.sources.batches import LFS_POINTER, LINK
from neox_code.corpus.sources.columns import NO_TEXT, ONLY_BLOB_IDS, SPELLINGS
from neox_code.corpus.sources.json_lines import DAMAGED_ROW
from neox_code.corpus.sources.repository_list import CANNOT_BE_CLONED
from neox_code.errors import DataError

OTHER_SOURCES = (
    "Name folders, git repositories or archives with source code in the languages of the recipe. A dataset must be Parquet or JSON "
    "Lines: convert CSV, TSV or Arrow first."
)
NAME_TEXT = f"Name the column of the texts {' or '.join(SPELLINGS['text'])}."
OTHER_RECIPE = "Choose another --recipe, or write one with other filters."
REMEDIES = {
    NO_LANGUAGE: OTHER_SOURCES,
    NO_PROJECT_LANGUAGE: OTHER_SOURCES,
    LINK: OTHER_SOURCES,
    DATASET_FILE: "Name the dataset's own folder or files as a source; unpack them where they lie in an archive.",
    UNPLACED: "Name the language of such rows with --language, or give them to tools/preprocess_data.py, which needs none.",
    ONLY_BLOB_IDS: (
        "Such rows (The Stack v2) name contents at Software Heritage: download each blob_id from s3://softwareheritage/content/ "
        "into a column content, decoded by src_encoding."
    ),
    NO_TEXT: NAME_TEXT,
    f"{NO_TEXT} column": NAME_TEXT,
    DAMAGED_ROW: "Give JSON Lines, an object a line, or one JSON list of objects.",
    LFS_POINTER: "Get the files themselves with git lfs pull.",
    NOT_CHOSEN: "Choose other --languages, or leave that out.",
    CANNOT_BE_CLONED: "Check the addresses in the list, and the network.",
}
"""Drop reason (its text before a colon) -> remedy if it is the most frequent reason; OTHER_RECIPE for all other reasons."""
REASONS_NAMED = 8


def make_empty_corpus_error(sources: Sequence[str], counts: Sequence[Count], max_bytes: int | None) -> DataError:
    """Return an error with the most frequent drop reasons, and the remedy for the most frequent one."""
    reasons: Counter[str] = Counter()
    for count in counts:
        reasons[count.verdict] += count.files
    named = reasons.most_common(REASONS_NAMED)
    others = reasons.total() - sum(files for _, files in named)
    found = ", ".join([f"{files:,} {reason}" for reason, files in named] + [f"{others:,} for other reasons"] * bool(others))
    kinds: Counter[str] = Counter()
    for reason, files in reasons.items():
        kinds[reason.partition(":")[0]] += files
    commonest = max(kinds, key=kinds.__getitem__, default=NO_LANGUAGE)
    remedy = REMEDIES.get(commonest, OTHER_RECIPE)
    if reasons[LEFT_ASIDE]:
        remedy = f"No whole project fits into the limit of {max_bytes:,} bytes: raise it."
    return DataError(f"nothing in {', '.join(map(str, sources))} can be kept; found: {found or 'no files'}. {remedy}")
