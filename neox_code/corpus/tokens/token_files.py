"""Write token files from slices of the input, with any executor and with the fastest encoder whose ids are exact.

    options = WriteOptions(append_eod=True, newlines="lf")
    counts = write_token_files(lambda language: "data/code_text_document", slices, tokenizer, options)
    counts["Python"].tokens

The work folder PREFIX.work (see executors/work_folder.py) holds the slices, job.pickle and the token files of each slice (see
tokenize_slice.py) until they are merged. The bytes are the same for any executor and any number of workers.
"""

import hashlib
import os
import pickle
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neox_code.corpus.executors.job_array import read_versions
from neox_code.corpus.executors.stages import Executor, InProcessExecutor, LocalExecutor, log_resume, run_missing
from neox_code.corpus.executors.work_folder import (
    CLUSTER_FOLDER,
    KEY_FILE,
    clear_work,
    find_changes,
    lock_work_folder,
    remove_work,
    work_folder,
)
from neox_code.corpus.tokens.input_slices import MAX_LISTED, InputSlice
from neox_code.corpus.tokens.tokenize_slice import (
    SETTINGS_FILE,
    TOKENIZE,
    TOKENIZE_ON_ONE_CORE,
    WHOLE,
    Progress,
    SliceReport,
    TokenCounts,
    TokenizeSettings,
    WriteOptions,
    get_part_prefix,
    get_report_path,
    get_slice_path,
    load_report,
    load_settings,
)
from neox_code.data.identity import write_record
from neox_code.data.indexed_dataset import choose_id_dtype, get_bin_path, get_idx_path, get_origins_path, get_record_path
from neox_code.data.merge import DatasetMerger
from neox_code.data.origins import merge_origins
from neox_code.files import atomic_file, read_json, write_json
from neox_code.logs import format_plural, get_logger, progress
from neox_code.processes.workers import count_available_cores
from neox_code.tokenizer.comparison import describe_vocabulary
from neox_code.tokenizer.fast import IdsDiffer, find_fastest_encoder, guess_fastest_encoder
from neox_code.tokenizer.protocol import Tokenizer

log = get_logger(__name__)

FINISHED_FILE = "finished.json"

CountsByLanguage = Mapping[str, TokenCounts]
PrefixOf = Callable[[str | None], str | os.PathLike[str]]


@dataclass(frozen=True)
class ProgressBar:
    num_documents: int | None = None
    """Number of documents in the input, if known. The bar then counts documents, not bytes."""
    log_interval: int | None = None
    """Number of documents between log lines; None: a log line at intervals of time."""


def write_token_files(
    prefix_of: PrefixOf,
    slices: Sequence[InputSlice],
    tokenizer: Tokenizer,
    options: WriteOptions,
    workers: int | None = None,
    bar: ProgressBar | None = None,
    *,
    keep_finished_note: bool = False,
    executor: Executor | None = None,
) -> dict[str, TokenCounts]:
    """Write the tokens of the slices, in order, to PREFIX.bin and PREFIX.idx. Return the counts of documents by language.

    PREFIX.tokens.json beside these files records the vocabulary and the highest id; PREFIX.origins.parquet records where each
    document comes from.

    `prefix_of(language)` is the path prefix of a language's files, `prefix_of(None)` that of the files with all languages.
    Documents without tokens are left out. If no document remains, no file is written. Rerun the same command to resume.
    Without an `executor` the slices are tokenized by `workers` processes on this machine, by default one for each core.
    With `keep_finished_note`, a file in the work folder records that these token files are finished, so that a rerun for several
    outputs does not write them again. `remove_finished_notes` deletes it.
    """
    prefix = Path(prefix_of(None))
    work = work_folder(prefix)
    key = compute_work_key(slices, tokenizer, options)
    with lock_work_folder(work), remove_work_without_results(work):
        if prepare_work_folder(work, prefix.name, key, slices, tokenizer, options):
            before = load_finished_counts(work, prefix_of, options)
            if before is not None:
                log.info("%s: already written", prefix)
                return before
            log_resume(prefix.name, work, (TOKENIZE, len(slices), "slices tokenized"))
        tokenize_with_fallback(
            work, prefix.name, slices, tokenizer, options, workers or count_available_cores(), bar or ProgressBar(), executor
        )
        reports = [load_report(work, index) for index in range(len(slices))]
        counts = merge_slices(prefix_of, work, reports, tokenizer, options)
        log_skipped_documents(prefix, counts, [message for own in reports for message in own.skipped][:MAX_LISTED])
        if keep_finished_note:
            write_json(work / FINISHED_FILE, {name: asdict(own) for name, own in counts.items()})
            shutil.rmtree(get_report_path(work, 0).parent, ignore_errors=True)
        else:
            remove_work(work)
    return counts


def load_finished_counts(work: Path, prefix_of: PrefixOf, options: WriteOptions) -> dict[str, TokenCounts] | None:
    """Return the counts of the finished token files; None if they are not finished, or if one of the files is missing."""
    if not (work / FINISHED_FILE).is_file():
        return None
    counts = {name: TokenCounts(**own) for name, own in read_json(work / FINISHED_FILE).items()}
    languages = [language for language, own in counts.items() if own.documents]
    prefixes = [prefix_of(language) for language in (languages if options.by_language else [None] if languages else [])]
    return counts if all(path(prefix).is_file() for prefix in prefixes for path in (get_idx_path, get_bin_path)) else None


def remove_finished_notes(prefixes: Iterable[str | os.PathLike[str]]) -> None:
    """Delete the work folders that `write_token_files` has left because of `keep_finished_note`."""
    for prefix in prefixes:
        shutil.rmtree(work_folder(Path(prefix)), ignore_errors=True)


@contextmanager
def remove_work_without_results(work: Path) -> Iterator[None]:
    """If an error ends the block, remove the work folder, unless it has a finished slice or logs of a cluster."""
    try:
        yield
    except BaseException:
        kept = (FINISHED_FILE, CLUSTER_FOLDER)
        if (work / KEY_FILE).exists() and not any(work.glob("parts/*.json")) and not any((work / name).exists() for name in kept):
            remove_work(work)
        raise


def prepare_work_folder(
    work: Path, title: str, key: Mapping[str, Any], slices: Sequence[InputSlice], tokenizer: Tokenizer, options: WriteOptions
) -> bool:
    """Return True if an earlier run with the same key has left the folder. Else clear it, write the tasks' files, return False."""
    if not find_changes(work, key, title):
        return True
    clear_work(work)
    get_slice_path(work, 0).parent.mkdir()
    for index, input_slice in enumerate(slices):
        get_slice_path(work, index).write_bytes(pickle.dumps(input_slice))
    save_settings(work, TokenizeSettings(tokenizer, options, guess_fastest_encoder(tokenizer)))
    write_json(work / KEY_FILE, key)
    return False


def compute_work_key(slices: Sequence[InputSlice], tokenizer: Tokenizer, options: WriteOptions) -> dict[str, Any]:
    """Return the values that determine the bytes of the token files."""
    digest = hashlib.sha256()
    for input_slice in slices:
        digest.update(f"{type(input_slice).__name__} {input_slice.key} {input_slice.num_bytes}\n".encode(errors="surrogateescape"))
    return {
        "input": digest.hexdigest(),
        "tokenizer": tokenizer.identity["sha256"],
        "settings": asdict(options),
        "versions": read_versions(),
    }


def save_settings(work: Path, settings: TokenizeSettings) -> None:
    with atomic_file(work / SETTINGS_FILE, "wb") as file:
        pickle.dump(settings, file)


def tokenize_with_fallback(
    work: Path,
    title: str,
    slices: Sequence[InputSlice],
    tokenizer: Tokenizer,
    options: WriteOptions,
    workers: int,
    bar: ProgressBar,
    executor: Executor | None,
) -> None:
    """Tokenize the unfinished slices with the fastest encoder. If its ids are wrong, start again with the next encoder."""
    while True:
        try:
            tokenize_slices(work, title, slices, workers, bar, executor)
        except IdsDiffer as difference:
            encoder = find_fastest_encoder(tokenizer, after=load_settings(work).encoder)
            log.warning("encoder | %s; starting again with %s", difference, encoder)
            shutil.rmtree(get_report_path(work, 0).parent, ignore_errors=True)
            save_settings(work, TokenizeSettings(tokenizer, options, encoder))
        else:
            reports = [load_report(work, index) for index in range(len(slices))]
            log_encoder(load_settings(work).encoder, sum(own.compared for own in reports), sum(map(count_slice_documents, reports)))
            return


def tokenize_slices(
    work: Path, title: str, slices: Sequence[InputSlice], workers: int, bar: ProgressBar, executor: Executor | None
) -> None:
    """Tokenize the unfinished slices and show a progress bar."""
    missing = TOKENIZE.find_missing(work, len(slices))
    if executor is None and min(workers, len(missing)) < 2:
        stage, executor = TOKENIZE, InProcessExecutor()
    else:
        stage = TOKENIZE_ON_ONE_CORE
    ready = LocalExecutor(min(workers, len(missing))) if executor is None else nullcontext(executor)
    total = sum(input_slice.num_bytes for input_slice in slices)
    before = total - sum(slices[index].num_bytes for index in missing)
    documents = sum(count_slice_documents(load_report(work, index)) for index in set(range(len(slices))) - set(missing))
    amount, unit, start = (bar.num_documents, "documents", documents) if bar.num_documents else (total, "B", before)
    with progress(title, amount, unit, done=start) as advance, ready as chosen:
        for values in run_missing(stage, work, missing, chosen):
            done = Progress(*map(int, values))
            advance(done.documents if bar.num_documents else done.num_bytes)
            documents += done.documents
            if bar.log_interval and documents // bar.log_interval > (documents - done.documents) // bar.log_interval:
                log.info("%s: %s", title, format_plural(documents, "document"))


def count_slice_documents(slice_report: SliceReport) -> int:
    return sum(counts.documents + counts.empty + counts.skipped for counts in slice_report.counts.values())


def merge_slices(
    prefix_of: PrefixOf, work: Path, reports: Sequence[SliceReport], tokenizer: Tokenizer, options: WriteOptions
) -> dict[str, TokenCounts]:
    """Merge the token files of the slices into the final files; return the counts of all slices by language."""
    counts: dict[str, TokenCounts] = defaultdict(TokenCounts)
    for slice_report in reports:
        for language, slice_counts in slice_report.counts.items():
            counts[language].add(slice_counts)
    dtype, vocabulary = choose_id_dtype(tokenizer.vocab_size), describe_vocabulary(tokenizer)
    for language in sorted(counts) if options.by_language else [WHOLE]:
        prefix = prefix_of(language or None)
        parts = [
            get_part_prefix(work, index, language)
            for index, own in enumerate(reports)
            if any(count.documents for name, count in own.counts.items() if language in (WHOLE, name))
        ]
        if parts:
            with DatasetMerger(prefix, dtype) as merger:
                for part in parts:
                    merger.add_dataset(part)
            write_record(prefix, vocabulary, merger.max_id)
            merge_origins(parts, prefix)
            documents, tokens = format_plural(merger.num_documents, "document"), format_plural(merger.num_tokens, "token")
            log.info("%s: %s, %s", get_bin_path(prefix), documents, tokens)
        else:
            get_idx_path(prefix).unlink(missing_ok=True)
            get_bin_path(prefix).unlink(missing_ok=True)
            get_record_path(prefix).unlink(missing_ok=True)
            get_origins_path(prefix).unlink(missing_ok=True)
            log.warning("%s: no file written, because no document has a token", prefix)
    return dict(sorted(counts.items()))


def log_encoder(encoder: str, compared: int, documents: int) -> None:
    if encoder == "plain":
        log.info("encoder | plain tokenizer, %s", format_plural(documents, "document"))
    else:
        same = "ids identical to those of the plain tokenizer in %s compared documents of %s"
        log.info(f"encoder | %s, {same}", encoder, f"{compared:,}", f"{documents:,}")


def log_skipped_documents(prefix: Path, counts: CountsByLanguage, skipped: Sequence[str] = ()) -> None:
    """Log the numbers of documents that were left out or changed. `skipped` are messages about the first that were left out."""
    if number := sum(count.skipped for count in counts.values()):
        log.warning("%s: %s left out (--skip-unencodable); the first of them:", prefix, format_plural(number, "document"))
        for message in skipped:
            log.warning("    %s", message)
    if empty := sum(count.empty for count in counts.values()):
        log.warning("%s: %s left out", prefix, format_plural(empty, "empty document"))
    if newlines := sum(count.newlines for count in counts.values()):
        log.warning("%s: line ends in %s converted to LF", prefix, format_plural(newlines, "document"))
    if changed := sum(count.changed for count in counts.values()):
        documents = format_plural(changed, "document")
        log.warning("%s: the tokens of %s decode to other bytes, because the tokenizer normalizes text", prefix, documents)
