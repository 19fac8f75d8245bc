"""Token files from pieces of input: by any executor, by the fastest encoder that is exact.

    writing = Writing(append_eod=True, newlines="lf")
    counts = write_token_files(lambda language: "data/code_text_document", pieces, tokenizer, writing)
    counts["Python"].tokens

PREFIX.work (see executors/work_folder.py) holds the pieces, job.pickle and the files of every piece (see tokenize_piece.py) until
they are joined. The bytes are the same for any executor and any number of workers.
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

from neox_code.corpus.executors.job_array import versions
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
from neox_code.corpus.tokens.text_pieces import MOST_NAMED, Piece
from neox_code.corpus.tokens.tokenize_piece import (
    JOB_FILE,
    TOKENIZE,
    TOKENIZE_ON_ONE_CORE,
    WHOLE,
    Done,
    Job,
    Report,
    TokenCounts,
    Writing,
    load_job,
    load_report,
    part_prefix,
    piece_file,
    report_file,
)
from neox_code.data.identity import write_record
from neox_code.data.indexed_dataset import best_dtype, bin_path, idx_path, record_path
from neox_code.data.merge import DatasetMerger
from neox_code.files import atomic_file, read_json, write_json
from neox_code.logs import get_logger, progress
from neox_code.processes.workers import available_cores
from neox_code.tokenizer.comparison import describe_vocabulary
from neox_code.tokenizer.fast import IdsDiffer, find_fastest_encoder, guess_fastest_encoder
from neox_code.tokenizer.protocol import Tokenizer

log = get_logger(__name__)

FINISHED_FILE = "finished.json"

CountsByLanguage = Mapping[str, TokenCounts]
PrefixOf = Callable[[str | None], str | os.PathLike[str]]


@dataclass(frozen=True)
class Bar:
    """How the work is shown."""

    num_documents: int | None = None
    """Of all input, if known: the bar counts them instead of bytes."""
    log_interval: int | None = None
    """A log line each time that so many further documents are done."""


def write_token_files(
    prefix_of: PrefixOf,
    pieces: Sequence[Piece],
    tokenizer: Tokenizer,
    writing: Writing,
    workers: int | None = None,
    bar: Bar | None = None,
    *,
    is_one_of_many: bool = False,
    executor: Executor | None = None,
) -> dict[str, TokenCounts]:
    """Write the pieces' tokens to PREFIX.bin and .idx in their order; return what became of the documents, by language.

    PREFIX.tokens.json beside them records the vocabulary and the highest id.

    `prefix_of(language)` is the path of a language's files, `prefix_of(None)` that of all together. A document without tokens is
    left out; without any document there is no file. Rerun the same command to resume.
    Without an `executor` the pieces are tokenized by `workers` processes of this machine, by default one for each core.
    `is_one_of_many` keeps the note that these files are finished until `forget` removes it.
    """
    prefix = Path(prefix_of(None))
    work = work_folder(prefix)
    key = key_of(pieces, tokenizer, writing)
    with lock_work_folder(work), removed_unless_begun(work):
        if prepare_work_folder(work, prefix.name, key, pieces, tokenizer, writing):
            before = finished(work)
            if before is not None and all(map(is_written, expected_prefixes(prefix_of, before, writing))):
                log.info("%s: written before", prefix)
                return before
            log_resume(prefix.name, work, (TOKENIZE, len(pieces), "pieces tokenized"))
        run_gated(work, prefix.name, pieces, tokenizer, writing, workers or available_cores(), bar or Bar(), executor)
        reports = [load_report(work, index) for index in range(len(pieces))]
        counts = join_pieces(prefix_of, work, reports, tokenizer, writing)
        report(prefix, counts, [named for own in reports for named in own.skipped][:MOST_NAMED])
        if is_one_of_many:
            write_json(work / FINISHED_FILE, {name: asdict(own) for name, own in counts.items()})
            shutil.rmtree(report_file(work, 0).parent, ignore_errors=True)
        else:
            remove_work(work)
    return counts


def finished(work: Path) -> dict[str, TokenCounts] | None:
    """Return the counts of the finished token files; None if they are not finished."""
    note = read_json(work / FINISHED_FILE) if (work / FINISHED_FILE).is_file() else None
    return None if note is None else {name: TokenCounts(**own) for name, own in note.items()}


def expected_prefixes(prefix_of: PrefixOf, counts: CountsByLanguage, writing: Writing) -> Iterator[str | os.PathLike[str]]:
    """The token files that documents of these counts have."""
    languages = [language for language, own in counts.items() if own.documents]
    for language in languages if writing.by_language else [None] if languages else []:
        yield prefix_of(language)


def is_written(prefix: str | os.PathLike[str]) -> bool:
    return idx_path(prefix).is_file() and bin_path(prefix).is_file()


def forget(prefixes: Iterable[str | os.PathLike[str]]) -> None:
    """Removes what `is_one_of_many` has kept."""
    for prefix in prefixes:
        shutil.rmtree(work_folder(Path(prefix)), ignore_errors=True)


@contextmanager
def removed_unless_begun(work: Path) -> Iterator[None]:
    """Remove the work folder after an error, if no piece is tokenized and no cluster has left logs in it."""
    try:
        yield
    except BaseException:
        kept = (FINISHED_FILE, CLUSTER_FOLDER)
        if (work / KEY_FILE).exists() and not any(work.glob("parts/*.json")) and not any((work / name).exists() for name in kept):
            remove_work(work)
        raise


def prepare_work_folder(
    work: Path, title: str, key: Mapping[str, Any], pieces: Sequence[Piece], tokenizer: Tokenizer, writing: Writing
) -> bool:
    """Write what the tasks read, unless the folder is of the same work; return True if it is."""
    if not find_changes(work, key, title):
        return True
    clear_work(work)
    piece_file(work, 0).parent.mkdir()
    for index, piece in enumerate(pieces):
        piece_file(work, index).write_bytes(pickle.dumps(piece))
    save_job(work, Job(tokenizer, writing, guess_fastest_encoder(tokenizer)))
    write_json(work / KEY_FILE, key)
    return False


def key_of(pieces: Sequence[Piece], tokenizer: Tokenizer, writing: Writing) -> dict[str, Any]:
    """Return everything that decides the bytes of the token files."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(f"{type(piece).__name__} {piece.key} {piece.num_bytes}\n".encode(errors="surrogateescape"))
    return {
        "input": digest.hexdigest(),
        "tokenizer": tokenizer.identity["sha256"],
        "settings": asdict(writing),
        "versions": versions(),
    }


def save_job(work: Path, job: Job) -> None:
    with atomic_file(work / JOB_FILE, "wb") as file:
        pickle.dump(job, file)


def run_gated(
    work: Path,
    title: str,
    pieces: Sequence[Piece],
    tokenizer: Tokenizer,
    writing: Writing,
    workers: int,
    bar: Bar,
    executor: Executor | None,
) -> None:
    """Tokenize the pieces without a report, by the fastest encoder whose ids are the tokenizer's own."""
    while True:
        try:
            run_pieces(work, title, pieces, workers, bar, executor)
        except IdsDiffer as difference:
            encoder = find_fastest_encoder(tokenizer, after=load_job(work).encoder)
            log.warning("encoder | %s; beginning again with %s", difference, encoder)
            shutil.rmtree(report_file(work, 0).parent, ignore_errors=True)
            save_job(work, Job(tokenizer, writing, encoder))
        else:
            reports = [load_report(work, index) for index in range(len(pieces))]
            log_choice(load_job(work).encoder, sum(own.compared for own in reports), sum(map(num_documents, reports)))
            return


def run_pieces(work: Path, title: str, pieces: Sequence[Piece], workers: int, bar: Bar, executor: Executor | None) -> None:
    """Tokenize the pieces without a report, under a progress bar."""
    missing = TOKENIZE.missing(work, len(pieces))
    if executor is None and min(workers, len(missing)) < 2:
        stage, executor = TOKENIZE, InProcessExecutor()
    else:
        stage = TOKENIZE_ON_ONE_CORE
    ready = LocalExecutor(min(workers, len(missing))) if executor is None else nullcontext(executor)
    total = sum(piece.num_bytes for piece in pieces)
    before = total - sum(pieces[index].num_bytes for index in missing)
    documents = sum(num_documents(load_report(work, index)) for index in set(range(len(pieces))) - set(missing))
    shown = (bar.num_documents, "documents", documents) if bar.num_documents else (total, "B", before)
    with progress(title, shown[0], shown[1], done=shown[2]) as advance, ready as chosen:
        for amount in run_missing(stage, work, missing, chosen):
            done = Done(*map(int, amount))
            advance(done.documents if bar.num_documents else done.num_bytes)
            documents += done.documents
            if bar.log_interval and documents // bar.log_interval > (documents - done.documents) // bar.log_interval:
                log.info("%s: %s documents", title, f"{documents:,}")


def num_documents(piece_report: Report) -> int:
    return sum(counts.documents + counts.empty + counts.skipped for counts in piece_report.counts.values())


def join_pieces(
    prefix_of: PrefixOf, work: Path, reports: Sequence[Report], tokenizer: Tokenizer, writing: Writing
) -> dict[str, TokenCounts]:
    """Gives the token files their names; returns the counts of all pieces together, by language."""
    counts: dict[str, TokenCounts] = defaultdict(TokenCounts)
    for piece_report in reports:
        for language, piece_counts in piece_report.counts.items():
            counts[language].add(piece_counts)
    dtype, vocabulary = best_dtype(tokenizer.vocab_size), describe_vocabulary(tokenizer)
    for language in sorted(counts) if writing.by_language else [WHOLE]:
        prefix = prefix_of(language or None)
        parts = [part_prefix(work, index, language) for index, own in enumerate(reports) if has_documents(own, language)]
        if parts:
            with DatasetMerger(prefix, dtype) as merger:
                for part in parts:
                    merger.add_dataset(part)
            write_record(prefix, vocabulary, merger.max_id)
            log.info("%s: %s documents, %s tokens", bin_path(prefix), f"{merger.num_documents:,}", f"{merger.num_tokens:,}")
        else:
            idx_path(prefix).unlink(missing_ok=True)
            bin_path(prefix).unlink(missing_ok=True)
            record_path(prefix).unlink(missing_ok=True)
            log.warning("%s: no document has a token, so no file is written", prefix)
    return dict(sorted(counts.items()))


def has_documents(piece_report: Report, language: str) -> bool:
    """Whether the piece has a token file of the language."""
    return any(counts.documents for name, counts in piece_report.counts.items() if language in (WHOLE, name))


def log_choice(encoder: str, compared: int, documents: int) -> None:
    if encoder == "plain":
        log.info("encoder | the tokenizer's own, %s documents", f"{documents:,}")
    else:
        same = "identical to the tokenizer's own ids in the %s documents compared of %s"
        log.info(f"encoder | %s, {same}", encoder, f"{compared:,}", f"{documents:,}")


def report(prefix: Path, counts: CountsByLanguage, skipped: Sequence[str] = ()) -> None:
    if number := sum(count.skipped for count in counts.values()):
        log.warning("%s: %s documents left out (--skip-unencodable); the first:", prefix, f"{number:,}")
        for named in skipped:
            log.warning("    %s", named)
    if empty := sum(count.empty for count in counts.values()):
        log.warning("%s: %s empty documents left out", prefix, f"{empty:,}")
    if newlines := sum(count.newlines for count in counts.values()):
        log.warning("%s: line ends of %s documents made LF", prefix, f"{newlines:,}")
    if changed := sum(count.changed for count in counts.values()):
        log.warning(
            "%s: the tokens of %s documents decode to other bytes, because the tokenizer normalizes text", prefix, f"{changed:,}"
        )
