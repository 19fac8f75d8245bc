"""Token files out of pieces of input: by several processes, by the fastest encoder that is exact, and resumed where it was.

    writing = Writing(append_eod=True, newlines="lf")
    counts = write_token_files(lambda language: "data/code_text_document", pieces, tokenizer, writing)
    counts["Python"].tokens

PREFIX.work holds what is done until the pieces are joined: key.json (of what input and tokenizer it is, and the encoder),
job.pickle, and the files of every piece (see tokenize_piece.py). The bytes are the same for any number of workers.
"""

import hashlib
import json
import os
import pickle
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from neox_code.corpus.tokens.text_pieces import MOST_NAMED, Piece
from neox_code.corpus.tokens.tokenize_piece import (
    JOB_FILE,
    WHOLE,
    Done,
    Job,
    Report,
    TokenCounts,
    Writing,
    load_report,
    part_prefix,
    report_file,
    tokenize_on_one_core,
    tokenize_piece,
)
from neox_code.data.identity import write_record
from neox_code.data.indexed_dataset import best_dtype, bin_path, idx_path, record_path
from neox_code.data.merge import DatasetMerger
from neox_code.files import atomic_file, folder_lock, read_json, write_json
from neox_code.logs import get_logger, progress, si
from neox_code.processes.workers import Workers, available_cores
from neox_code.tokenizer.comparison import describe_vocabulary
from neox_code.tokenizer.fast import IdsDiffer, find_fastest_encoder, guess_fastest_encoder
from neox_code.tokenizer.protocol import Tokenizer

log = get_logger(__name__)

WORK_SUFFIX = ".work"
KEY_FILE = "key.json"
FINISHED_FILE = "finished.json"
FORMAT = 2
"""Of what lies in a work folder."""

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
) -> dict[str, TokenCounts]:
    """Write the pieces' tokens to PREFIX.bin and .idx in their order; return what became of the documents, by language.

    PREFIX.tokens.json beside them records the vocabulary and the highest id.

    `prefix_of(language)` is the path of a language's files, `prefix_of(None)` that of all together. A document without tokens is
    left out; without any document there is no file. What an interrupted run has done lies in PREFIX.work, and is gone on with.
    `is_one_of_many` keeps a note there that all is done, so that it is not done again before `forget` removes it.
    """
    prefix = Path(prefix_of(None))
    work = work_folder(prefix)
    with folder_lock(work), removed_unless_begun(work):
        before = finished(work, key_of(pieces, tokenizer, writing))
        if before is not None and all(map(is_written, expected_prefixes(prefix_of, before, writing))):
            log.info("%s: written before", prefix)
            return before
        reports = run_gated(work, prefix.name, pieces, tokenizer, writing, workers or available_cores(), bar or Bar())
        counts = join_pieces(prefix_of, work, reports, tokenizer, writing)
        report(prefix, counts, [named for own in reports for named in own.skipped][:MOST_NAMED])
        clear(work)
        if is_one_of_many:
            note = {"key": key_of(pieces, tokenizer, writing), "counts": {name: asdict(own) for name, own in counts.items()}}
            write_json(work / FINISHED_FILE, note)
        else:
            shutil.rmtree(work)
    return counts


def work_folder(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + WORK_SUFFIX)


def finished(work: Path, key: str) -> dict[str, TokenCounts] | None:
    """The counts of token files that are written, if they are those of the key."""
    note = read_json(work / FINISHED_FILE) if (work / FINISHED_FILE).is_file() else {}
    return {name: TokenCounts(**own) for name, own in note["counts"].items()} if note.get("key") == key else None


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
    """Removes the work folder after an error if no piece in it is done."""
    try:
        yield
    except BaseException:
        if not any(work.glob("[0-9]*.json")) and not (work / FINISHED_FILE).exists():
            shutil.rmtree(work, ignore_errors=True)
        raise


def run_gated(
    work: Path, title: str, pieces: Sequence[Piece], tokenizer: Tokenizer, writing: Writing, workers: int, bar: Bar
) -> list[Report]:
    """The reports of all pieces, by the fastest encoder whose ids are the tokenizer's own."""
    encoder = begin(work, pieces, tokenizer, writing)
    while True:
        save_job(work, Job(tokenizer, writing, encoder))
        try:
            reports = run_pieces(work, title, pieces, workers, bar)
        except IdsDiffer as difference:
            encoder = find_fastest_encoder(tokenizer, after=encoder)
            log.warning("encoder | %s; beginning again with %s", difference, encoder)
            clear(work)
            write_key(work, key_of(pieces, tokenizer, writing), encoder)
        else:
            compared = sum(piece_report.compared for piece_report in reports)
            log_choice(encoder, compared, sum(map(num_documents, reports)))
            return reports


def begin(work: Path, pieces: Sequence[Piece], tokenizer: Tokenizer, writing: Writing) -> str:
    """Empties the work folder if it is of something else; returns the name of the encoder to use."""
    key = key_of(pieces, tokenizer, writing)
    found = read_json(work / KEY_FILE) if (work / KEY_FILE).is_file() else {}
    if found.get("key") == key:
        return found["encoder"]
    clear(work)
    encoder = guess_fastest_encoder(tokenizer)
    write_key(work, key, encoder)
    return encoder


def key_of(pieces: Sequence[Piece], tokenizer: Tokenizer, writing: Writing) -> str:
    """A hash of everything that decides the bytes of the token files."""
    digest = hashlib.sha256(json.dumps([FORMAT, tokenizer.identity["sha256"], asdict(writing)]).encode())
    for piece in pieces:
        digest.update(f"{type(piece).__name__} {piece.key} {piece.num_bytes}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def write_key(work: Path, key: str, encoder: str) -> None:
    write_json(work / KEY_FILE, {"key": key, "encoder": encoder})


def save_job(work: Path, job: Job) -> None:
    with atomic_file(work / JOB_FILE, "wb") as file:
        pickle.dump(job, file)


def clear(work: Path) -> None:
    for path in work.iterdir():
        if path.name != ".lock":
            path.unlink()


def run_pieces(work: Path, title: str, pieces: Sequence[Piece], workers: int, bar: Bar) -> list[Report]:
    """Tokenizes the pieces that are not done; returns the reports of all."""
    todo = [index for index in range(len(pieces)) if not report_file(work, index).is_file()]
    total = sum(piece.num_bytes for piece in pieces)
    before = total - sum(pieces[index].num_bytes for index in todo)
    if len(todo) < len(pieces):
        log.info(
            "%s: going on after %d of %d pieces, %sB of %sB", title, len(pieces) - len(todo), len(pieces), si(before), si(total)
        )
    tasks = [(work, index, pieces[index]) for index in todo]
    documents = sum(num_documents(load_report(work, index)) for index in set(range(len(pieces))) - set(todo))
    shown = (bar.num_documents, "documents", documents) if bar.num_documents else (total, "B", before)
    with progress(title, shown[0], shown[1], done=shown[2]) as advance:
        for done in run_tasks(tasks, min(workers, len(tasks))):
            advance(done.documents if bar.num_documents else done.num_bytes)
            documents += done.documents
            if bar.log_interval and documents // bar.log_interval > (documents - done.documents) // bar.log_interval:
                log.info("%s: %s documents", title, f"{documents:,}")
    return [load_report(work, index) for index in range(len(pieces))]


def num_documents(piece_report: Report) -> int:
    return sum(counts.documents + counts.empty + counts.skipped for counts in piece_report.counts.values())


def run_tasks(tasks: Sequence[tuple[Path, int, Piece]], workers: int) -> Iterator[Done]:
    if workers < 2:
        for task in tasks:
            yield from tokenize_piece(*task)
        return
    with Workers(workers) as pool:
        for _, done in pool.run(tokenize_on_one_core, tasks):
            yield done


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
