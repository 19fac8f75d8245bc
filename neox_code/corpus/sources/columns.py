"""Convert rows of datasets to files. The columns of a dataset are found by their usual names.

    columns = find_columns(("max_stars_repo_name", "max_stars_repo_path", "content", "lang"))
    # {"text": "content", "repository": "max_stars_repo_name", "path": "max_stars_repo_path", "language": "lang"}
    file = make_found_file({"text": b"...", "path": "a/b.py"}, "code", "rows/000000000012", check)

The text's bytes are the file's content. The project of a row without a repository is the dataset.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from neox_code.corpus.linguist.tables import LANGUAGES
from neox_code.corpus.sources.protocol import FileCheck, FoundFile, Project
from neox_code.corpus.sources.source_names import clean_member_path, find_language, make_printable

SPELLINGS = {
    "text": ("text", "content", "code", "raw_content", "whole_func_string"),
    "repository": ("repository", "repo_name", "repo", "max_stars_repo_name", "repository_name"),
    "path": ("path", "file_path", "max_stars_repo_path", "func_path_in_repository", "file_name"),
    "license": ("license", "licenses", "max_stars_repo_licenses", "detected_licenses"),
    "stars": ("stars", "max_stars_count", "star_events_count"),
    "language": ("language", "lang", "repo_language", "programming_language"),
    "commit": ("commit", "revision_id", "max_stars_repo_head_hexsha", "commit_id"),
    "blob": ("blob_id",),
}
KNOWN = frozenset(spelling for spellings in SPELLINGS.values() for spelling in spellings)
LANGUAGES_OF_ROWS = (
    *("C", "C#", "C++", "GDScript", "Go", "Java", "JavaScript", "Kotlin"),
    *("PHP", "Python", "Ruby", "Rust", "Scala", "TypeScript"),
)
SUFFIXES = {language: LANGUAGES[language]["extensions"][0] for language in LANGUAGES_OF_ROWS}
"""Language -> suffix of the file name that is made for a row without a path."""

NO_TEXT = "no text"
ONLY_BLOB_IDS = "no text but the ids of blobs"
METADATA_REMOVED = "metadata at the start removed"
METADATA = re.compile(
    rb"(?=<(?:reponame|filename|gh_stars)>)(?:<reponame>([^<\n]*))?(?:<filename>([^<\n]*))?(?:<gh_stars>([^<\n]*))?\n?"
)
"""Pattern of the metadata that StarCoderData puts at the start of a text: `<reponame>...<filename>...<gh_stars>...`."""
METADATA_FIELDS = ("repository", "path", "stars")
LARGEST_ROW = 2**28
"""Maximum size in bytes of a row."""


def find_columns(names: Iterable[str]) -> dict[str, str]:
    """Return field -> column name. `names` are the dataset's columns; the first in SPELLINGS of the field is used."""
    return choose_column_names(tuple(name for name in names if name in KNOWN))


@lru_cache(maxsize=1024)
def choose_column_names(names: tuple[str, ...]) -> dict[str, str]:
    chosen = {field: next((name for name in spellings if name in names), None) for field, spellings in SPELLINGS.items()}
    return {field: name for field, name in chosen.items() if name is not None}


def make_found_file(row: Mapping[str, Any], dataset: str, place: str, check: FileCheck, language: str | None = None) -> FoundFile:
    """Return a row (field of SPELLINGS -> value) as a file. `place` becomes the path of a row that has none.

    `language` is used for a row that does not state its language.
    """
    text = row.get("text")
    content = text.encode() if isinstance(text, str) else text if isinstance(text, bytes) else None
    edits: tuple[str, ...] = ()
    if content is not None:
        content, metadata = remove_metadata(content)
        edits = (METADATA_REMOVED,) if metadata else ()
        row = metadata | {field: value for field, value in row.items() if value is not None}
    language = read_name(row.get("language")) or language
    project = Project(
        read_name(row.get("repository")) or dataset,
        language and (find_language(language) or language),
        parse_count(row.get("stars")),
        join_license_values(row.get("license")),
        read_name(row.get("commit")),
    )
    named = clean_member_path(read_name(row.get("path")) or "")
    path = named or place + SUFFIXES.get(project.language or "", "")
    if content is None:
        return FoundFile(project, path, 0, ONLY_BLOB_IDS if row.get("blob") is not None else NO_TEXT)
    reason = check(project, path, len(content))
    has_path = bool(named or project.language)
    return FoundFile(project, path, len(content), reason, content if reason is None else None, has_path, edits)


def remove_metadata(content: bytes) -> tuple[bytes, dict[str, Any]]:
    """Return a text without the metadata that StarCoderData puts at its start, and the metadata as field -> value.

    >>> remove_metadata(b"<reponame>o/r<filename>a.py<gh_stars>10-100\\nx = 1\\n")
    (b'x = 1\\n', {'repository': b'o/r', 'path': b'a.py', 'stars': 10})
    """
    found = METADATA.match(content)
    if found is None:
        return content, {}
    metadata: dict[str, Any] = {field: value for field, value in zip(METADATA_FIELDS, found.groups(), strict=True) if value}
    if "stars" in metadata:
        metadata["stars"] = parse_count(re.match(rb"\d*", metadata["stars"])[0])  # type: ignore[index]
    return content[found.end() :], metadata


def read_name(value: Any) -> str | None:
    """Return a text or bytes value as a name; None for an empty value and for values of other types."""
    return (make_printable(value) or None) if isinstance(value, str | bytes) else None


def parse_count(value: Any) -> int | None:
    """Return a nonnegative integer from a value of any type; None for other values.

    >>> parse_count(12.0), parse_count("7"), parse_count(None), parse_count("many"), parse_count(1e300)
    (12, 7, None, None, None)
    """
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number < 2**63 else None


def join_license_values(value: Any) -> str | None:
    """Return one SPDX expression; several licenses are joined with AND.

    >>> join_license_values(["MIT", "Apache-2.0 OR GPL-2.0"]), join_license_values("MIT"), join_license_values([])
    ('MIT AND (Apache-2.0 OR GPL-2.0)', 'MIT', None)
    """
    values = value if isinstance(value, list | tuple) else [value]
    names = [name for name in map(read_name, values) if name]
    if len(names) == 1:
        return names[0]
    return " AND ".join(f"({name})" if " " in name else name for name in names) or None
