"""Add instructions written by a model to files of rows.

    report = label_files([Path("rows/train-00000.jsonl")], Path("labeled"), labeler, concurrency=8)

labeled/train-00000.jsonl gets the rows that have an instruction, in their order. Of rows with equal output only the first is
written. Every answer is stored in labeled/answers.jsonl at once: a rerun after a kill repeats no request that was answered.
"""

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from neox_code.corpus.rows.labels import Label, Labeler, Prices, TokenUsage
from neox_code.errors import DataError
from neox_code.files import atomic_file, folder_lock, read_json_lines
from neox_code.logs import progress

ANSWERS_FILE = "answers.jsonl"

FIRST_REFUSALS = 3
"""If the endpoint refuses this number of requests and answers none, labeling stops, since the rows cannot be the cause."""

BY_MODEL, BY_AUTHOR = "labeled by the model", "described by their authors"
REFUSED, EMPTY, PENDING = "refused by the endpoint", "without words in the answer", "not requested yet"
DUPLICATE, SHORT = "duplicate output", "output too short"


@dataclass(frozen=True)
class RowSelection:
    min_length: int = 0
    """Minimum length of the output in characters."""
    relabel: bool = False
    """True: the model's instructions replace those of the authors."""


@dataclass(frozen=True)
class LabelReport:
    rows: Counter[str]
    """Number of rows by outcome."""
    usage: TokenUsage
    """Tokens used by all runs with this model and output folder together."""
    is_over_budget: bool


def label_files(
    files: Sequence[Path],
    folder: Path,
    labeler: Labeler,
    *,
    concurrency: int = 4,
    prices: Prices | None = None,
    max_cost: float | None = None,
    selection: RowSelection | None = None,
) -> LabelReport:
    """Label the rows of all files. Raise DataError if the endpoint refuses; the answers so far are kept."""
    selection = selection or RowSelection()
    names = Counter(file.name for file in files)
    if any(count > 1 for count in names.values()) or any(file.resolve().parent == folder.resolve() for file in files):
        raise DataError(
            f"files of rows must have different names and must not be in the output folder {folder}. Choose another --output."
        )
    with folder_lock(folder), AnswerFile(folder / ANSWERS_FILE, labeler) as answers:
        is_complete = LabelRequests(answers, prices or Prices(), max_cost).send_all(list(files), selection, concurrency)
        rows: Counter[str] = Counter()
        seen: set[str] = set()
        for path in files:
            with atomic_file(folder / path.name) as file:
                for row in label_rows(path, answers, selection, seen, rows):
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
        return LabelReport(rows, answers.usage, not is_complete)


def label_rows(
    path: Path, answers: "AnswerFile", selection: RowSelection, seen: set[str], counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file that have an instruction; add the outcome of every row to `counts`."""
    for key, row, outcome in classify_rows(path, answers.labeler, selection, seen):
        label = answers.labels.get(key)
        if outcome is None:
            outcome = PENDING if label is None else REFUSED if label.refusal else BY_MODEL if label.instruction else EMPTY
        counts[outcome] += 1
        if outcome == BY_MODEL and label is not None:
            yield row | {"instruction": label.instruction}
        elif outcome == BY_AUTHOR:
            yield row


def classify_rows(
    path: Path, labeler: Labeler, selection: RowSelection, seen: set[str]
) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    """Yield key, row and outcome for each row of a file. The outcome is None if the model must write the instruction."""
    for row in read_json_lines(path):
        if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("instruction", "output")):
            raise DataError(f"{path} has a row without `instruction` and `output`. Only rows of functions are labeled.")
        key = labeler.make_key(row["output"])
        if len(row["output"]) < selection.min_length:
            yield key, row, SHORT
        elif key in seen:
            yield key, row, DUPLICATE
        else:
            seen.add(key)
            yield key, row, BY_AUTHOR if row["instruction"] and not selection.relabel else None


class AnswerFile:
    """The answers so far, one JSON object per line. If the last line is incomplete, it is removed and requested again."""

    def __init__(self, path: Path, labeler: Labeler):
        self.path, self.labeler = path, labeler
        self.labels: dict[str, Label] = {}
        self.usage = TokenUsage()
        self._lock = threading.Lock()
        self._pending: list[tuple[str, Label]] = []
        self._file: IO[str]

    def __enter__(self) -> "AnswerFile":
        self.path.touch()
        with self.path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
        for line in read_json_lines(self.path):
            if line["model"] == self.labeler.model:
                usage = TokenUsage(line["input_tokens"], line["output_tokens"])
                self._count(line["key"], Label(line["instruction"], line["refusal"], usage))
        self._file = self.path.open("a", encoding="ascii")
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def add(self, key: str, label: Label) -> None:
        """Write an answer. Raise DataError if the endpoint has refused every request so far."""
        with self._lock:
            self._pending.append((key, label))
            if label.refusal is None or any(earlier.refusal is None for earlier in self.labels.values()):
                self.write_pending()
            elif len(self._pending) >= FIRST_REFUSALS:
                raise DataError(f"the endpoint refuses every request: {label.refusal}. Check --endpoint and --model.")

    def write_pending(self) -> None:
        """Write the refusals that were kept in memory until the endpoint has answered a first request."""
        for pair in self._pending:
            self._write(*pair)
        self._pending = []

    def _write(self, key: str, label: Label) -> None:
        line = {"key": key, "model": self.labeler.model, "instruction": label.instruction, "refusal": label.refusal}
        self._file.write(json.dumps(line | asdict(label.usage)) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._count(key, label)

    def _count(self, key: str, label: Label) -> None:
        self.labels[key] = label
        self.usage += label.usage


class LabelRequests:
    """Request the missing answers, several at a time. A request is sent only if its maximum cost stays within `max_cost`."""

    def __init__(self, answers: AnswerFile, prices: Prices, max_cost: float | None):
        self.answers, self.labeler = answers, answers.labeler
        self.prices, self.max_cost = prices, max_cost

    def send_all(self, files: Sequence[Path], selection: RowSelection, concurrency: int) -> bool:
        """Send the requests; return False if `max_cost` ended them early."""
        total = sum(1 for _ in self._iter_unanswered_rows(files, selection))
        waiting: dict[Future[None], TokenUsage] = {}
        is_complete = True
        with ThreadPoolExecutor(concurrency) as threads, progress("labels", total, " rows") as advance:
            try:
                for key, code in self._iter_unanswered_rows(files, selection):
                    usage = self.labeler.estimate_max_usage(code)
                    while waiting and (len(waiting) >= concurrency or not self._is_affordable(usage, waiting)):
                        advance(wait_for_any(waiting))
                    is_complete = self._is_affordable(usage, waiting)
                    if not is_complete:
                        break
                    waiting[threads.submit(self._send, key, code)] = usage
                while waiting:
                    advance(wait_for_any(waiting))
            except BaseException:
                self.labeler.stop()
                raise
        self.answers.write_pending()
        return is_complete

    def _iter_unanswered_rows(self, files: Sequence[Path], selection: RowSelection) -> Iterator[tuple[str, str]]:
        seen: set[str] = set()
        for path in files:
            for key, row, outcome in classify_rows(path, self.labeler, selection, seen):
                if outcome is None and key not in self.answers.labels:
                    yield key, row["output"]

    def _send(self, key: str, code: str) -> None:
        self.answers.add(key, self.labeler.request_label(code))

    def _is_affordable(self, usage: TokenUsage, waiting: dict[Future[None], TokenUsage]) -> bool:
        expected = sum(waiting.values(), self.answers.usage + usage)
        return self.max_cost is None or self.prices.compute_cost(expected) <= self.max_cost


def wait_for_any(waiting: dict[Future[None], TokenUsage]) -> int:
    """Wait for at least one request, remove the finished ones from `waiting` and return their number."""
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    for future in done:
        del waiting[future]
        future.result()
    return len(done)
