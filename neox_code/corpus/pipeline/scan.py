"""Read and filter files. This stage of a build runs in many processes.

    for done in scan_batch(work, 7):          # reads batch 7 of the plan: hash, decode, language, filters, edits, duplicate keys
        ...                                   # and writes parts/000007.parquet

A file with several possible languages is filtered once for each language. The stage `decide` selects one by the project's language.
"""

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from neox_code.corpus.duplicates.exact import compute_content_digest
from neox_code.corpus.executors.stages import Stage
from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.languages.text_encoding import (
    decode_ignoring_errors,
    detect_and_decode,
    detect_newlines,
    read_byte_order_mark,
)
from neox_code.corpus.licenses.folder_licenses import make_unread_statement, read_statement, states_license
from neox_code.corpus.licenses.license import DOCUMENTS, find_source_license
from neox_code.corpus.pipeline.prefilter import NO_LANGUAGE, NOT_CHOSEN, Prefilter, apply_edit, apply_filter
from neox_code.corpus.pipeline.scan_results import ScanResultWriter, ScanRow
from neox_code.corpus.pipeline.work_folder import (
    Settings,
    find_original_recipe,
    get_batch_path,
    get_scan_result_path,
    load_settings,
)
from neox_code.corpus.recipes.registry import report_recipe_errors
from neox_code.corpus.sources.batches import LINK, REPLACED
from neox_code.corpus.sources.protocol import Batch, FoundFile

NOT_TEXT = "not text"
UNPLACED = "row without a path and a language"
LINES_NORMALIZED = "line ends normalized"
MARK_REMOVED = "byte-order mark removed"


def scan_batch(work: Path, index: int) -> Iterator[float]:
    """Read and filter the files of a batch, and write the results. Yield the number of bytes done since the previous yield."""
    settings = load_settings(work)
    with get_batch_path(work, index).open("rb") as file:
        batch: Batch = pickle.load(file)
    scanner, own_recipe = Scanner(settings), find_original_recipe(work)
    reported = 0
    with ScanResultWriter(get_scan_result_path(work, index), [rule.key_bytes for rule in settings.recipe.duplicates]) as writer:
        for found, done in batch.read():
            with report_recipe_errors(own_recipe, f"decides on {found.project.name}/{found.path}"):
                for row in scanner.rows(found, writer.find_number(found.project)):
                    writer.add(row)
            if done - reported >= PROGRESS_BYTES:
                yield done - reported
                reported = done
    yield batch.num_bytes - reported


PROGRESS_BYTES = 2**21
SCAN = Stage("scan", scan_batch, get_scan_result_path)


class Scanner:
    def __init__(self, settings: Settings):
        self.recipe = settings.recipe
        self.languages = frozenset(settings.languages)
        self.prefilter = Prefilter(settings.recipe, settings.languages)
        self.is_faithful = self.recipe.decoding == "utf-8 ignoring errors"
        self.decode = decode_ignoring_errors if self.is_faithful else detect_and_decode
        self.no_keys: tuple[bytes | None, ...] = (None,) * len(self.recipe.duplicates)
        # rules on names are applied again, because a file read for its license or without a known name has not passed them
        self.rules: tuple[Any, ...] = (*self.recipe.before_reading, *self.recipe.after_reading)

    def rows(self, file: FoundFile, project: int) -> Iterator[ScanRow]:
        """Yield the rows of one file, at least one."""
        rule = self.recipe.language_rule
        names = rule.find_languages_by_name(file.project, file.path)
        first = names[0] if names else None
        text, encoding, digest = None, None, None
        if file.content is not None:
            text, encoding = self.decode(file.content)
            digest = compute_content_digest(file.content).hex()
        counted = rule.get_counted_language(file.path, text) if rule.selects_by_project and file.project.language is None else None
        if file.content is None or text is None:
            stated = make_unread_statement(file.path, file.link) if is_unread_statement(file) else None
            reason = NOT_TEXT if file.content is not None else file.reason
            reason = UNPLACED if reason == NO_LANGUAGE and not file.has_path else reason
            row = ScanRow(project, file.path, file.num_bytes, True, first, reason, digest, encoding)
            yield row._replace(counted=counted, stated_license=stated, keys=self.no_keys)
            return
        newlines = detect_newlines(text)
        first_edits = list(file.edits)
        if not self.is_faithful and read_byte_order_mark(file.content):
            first_edits.append(MARK_REMOVED)
        stated_license = read_statement(file.path, text) if states_license(file.path) else None
        rows = self.recipe.rows
        project_version = rows.read_version(text) if rows is not None and rows.is_version_file(file.path) else None
        possible, reason = self._find_languages(file, text, names)
        is_first, text_before = True, None
        for language in possible:
            license, kept_text, text_bytes, keys, edits = None, None, 0, self.no_keys, None
            if reason is None and language is not None:
                candidate = Candidate(file.path, language, file.num_bytes, text)
                reason, edits = self._filter(candidate, first_edits)
                if reason is None:
                    license = find_source_license(file.path, text)
                    kept_text = candidate.text if candidate.text != text_before else None
                    text_before, text_bytes = candidate.text, count_utf8_bytes(candidate.text)
                    keys = tuple([rule.key(file.content, candidate.text) for rule in self.recipe.duplicates])
            yield ScanRow(
                project,
                file.path,
                file.num_bytes,
                is_first,
                language,
                reason,
                digest,
                encoding,
                newlines,
                edits,
                counted,
                license,
                stated_license,
                project_version,
                text_bytes,
                kept_text,
                keys,
            )
            is_first, reason = False, None

    def _find_languages(self, file: FoundFile, text: str, names: tuple[str, ...] | None) -> tuple[Sequence[str | None], str | None]:
        """Return (possible languages of the file, None); if the file is dropped, (one language or None, drop reason)."""
        possible = () if names == () else self.recipe.language_rule.find_languages_by_content(file.project, file.path, text, names)
        if not possible:
            return (None,), NO_LANGUAGE if file.has_path else UNPLACED
        if len(possible) == 1 and possible[0] in self.languages:
            return possible, None
        chosen = tuple(language for language in possible if language in self.languages)
        return (chosen, None) if chosen else (possible[:1], NOT_CHOSEN)

    def _filter(self, file: Candidate, first_edits: Sequence[str]) -> tuple[str | None, list[str] | None]:
        """Apply the recipe's filters and edits. Return the drop reason or None, and the names of all edits, `first_edits` first."""
        edits = list(first_edits)
        if self.recipe.newlines == "lf" and "\r" in file.text:
            file.text = file.text.replace("\r\n", "\n").replace("\r", "\n")
            edits.append(LINES_NORMALIZED)
        for rule in self.rules:
            if hasattr(rule, "keep"):
                if (reason := apply_filter(rule, file)) is not None:
                    return reason, edits or None
            elif (text := apply_edit(rule, file)) != file.text:
                edits.append(rule.name)
                file.text = text
        return None, edits or None


def is_unread_statement(file: FoundFile) -> bool:
    """Return True for a file that is a license statement by its name, but has no readable text (a link, a large file, a PDF)."""
    if not states_license(file.path) or file.reason == REPLACED:
        return False
    if file.reason == LINK:
        return True
    name = file.path.rpartition("/")[2].lower()
    return file.num_bytes > 0 and (file.content is None or name.endswith(DOCUMENTS) or "." not in name)


def count_utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8"))
