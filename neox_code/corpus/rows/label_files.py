"""Files of rows, with the instructions that a model writes for them.

    report = label_files([Path("rows/train-00000.jsonl")], Path("labeled"), labeler, concurrency=8)

labeled/train-00000.jsonl gets the rows that have an instruction, in their order, each output once. Every answer is on disk, in
labeled/answers.jsonl, before it is counted: a run that was killed goes on there, and what was answered is not asked again.
"""

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from neox_code.corpus.rows.labels import Label, Labeler, Prices, Spent
from neox_code.errors import DataError
from neox_code.files import atomic_file, folder_lock, read_json_lines
from neox_code.logs import progress

ANSWERS_FILE = "answers.jsonl"

FIRST_REFUSALS = 3
"""So many before any answer are not the rows' fault."""

BY_MODEL, BY_AUTHOR = "labeled by the model", "described by their authors"
REFUSED, EMPTY, UNASKED = "refused by the endpoint", "without words in the answer", "not asked yet"
DUPLICATE, SHORT = "duplicate output", "output too short"


@dataclass(frozen=True)
class Wanted:
    """Which rows are taken."""

    min_length: int = 0
    """Of the output, in characters."""
    relabel: bool = False
    """Whether what authors say is replaced."""


@dataclass(frozen=True)
class LabelReport:
    rows: Counter[str]
    """By what became of them."""
    spent: Spent
    """By all runs into the folder with this model."""
    is_over_budget: bool


def label_files(
    files: Sequence[Path],
    folder: Path,
    labeler: Labeler,
    *,
    concurrency: int = 4,
    prices: Prices | None = None,
    max_cost: float | None = None,
    wanted: Wanted | None = None,
) -> LabelReport:
    """Raises DataError where the endpoint refuses; what it answered before is kept."""
    wanted = wanted or Wanted()
    names = Counter(file.name for file in files)
    if any(count > 1 for count in names.values()) or any(file.resolve().parent == folder.resolve() for file in files):
        raise DataError(f"files of rows must have different names, and lie elsewhere than in {folder}. Choose another --output.")
    with folder_lock(folder), Answers(folder / ANSWERS_FILE, labeler) as answers:
        is_whole = Questions(answers, prices or Prices(), max_cost).ask(list(files), wanted, concurrency)
        rows: Counter[str] = Counter()
        seen: set[str] = set()
        for path in files:
            with atomic_file(folder / path.name) as file:
                for row in labeled(path, answers, wanted, seen, rows):
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
        return LabelReport(rows, answers.spent, not is_whole)


def labeled(path: Path, answers: "Answers", wanted: Wanted, seen: set[str], counts: Counter[str]) -> Iterator[dict[str, Any]]:
    """The rows of a file that have an instruction; all are counted."""
    for key, row, fate in fates(path, answers.labeler, wanted, seen):
        label = answers.labels.get(key)
        if fate is None:
            fate = UNASKED if label is None else REFUSED if label.refusal else BY_MODEL if label.instruction else EMPTY
        counts[fate] += 1
        if fate == BY_MODEL and label is not None:
            yield row | {"instruction": label.instruction}
        elif fate == BY_AUTHOR:
            yield row


def fates(path: Path, labeler: Labeler, wanted: Wanted, seen: set[str]) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    """The rows of a file, each with its key and what becomes of it without a model; None for those to be asked about."""
    for row in read_json_lines(path):
        if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("instruction", "output")):
            raise DataError(f"{path} has a row without `instruction` and `output`. Only rows of functions are labeled.")
        key = labeler.key(row["output"])
        if len(row["output"]) < wanted.min_length:
            yield key, row, SHORT
        elif key in seen:
            yield key, row, DUPLICATE
        else:
            seen.add(key)
            yield key, row, BY_AUTHOR if row["instruction"] and not wanted.relabel else None


class Answers:
    """What was answered, a JSON object a line; a line that was cut off in mid-write is taken away and asked again."""

    def __init__(self, path: Path, labeler: Labeler):
        self.path, self.labeler = path, labeler
        self.labels: dict[str, Label] = {}
        self.spent = Spent()
        self._lock = threading.Lock()
        self._refusals: list[tuple[str, Label]] = []
        self._file: IO[str]

    def __enter__(self) -> "Answers":
        self.path.touch()
        with self.path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
        for line in read_json_lines(self.path):
            if line["model"] == self.labeler.model:
                spent = Spent(line["input_tokens"], line["output_tokens"])
                self._count(line["key"], Label(line["instruction"], line["refusal"], spent))
        self._file = self.path.open("a", encoding="ascii")
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def add(self, key: str, label: Label) -> None:
        """Raises DataError where the endpoint has refused from the beginning on."""
        with self._lock:
            if label.refusal and not any(known.refusal is None for known in self.labels.values()):
                self._refusals.append((key, label))
                if len(self._refusals) >= FIRST_REFUSALS:
                    raise DataError(f"the endpoint refuses every question: {label.refusal}. Check --endpoint and --model.")
                return
            for pair in (*self._refusals, (key, label)):
                self._write(*pair)
            self._refusals = []

    def add_refusals(self) -> None:
        """Those that waited for an answer to come."""
        for pair in self._refusals:
            self._write(*pair)
        self._refusals = []

    def _write(self, key: str, label: Label) -> None:
        line = {
            "key": key,
            "model": self.labeler.model,
            "instruction": label.instruction,
            "refusal": label.refusal,
            "input_tokens": label.spent.input_tokens,
            "output_tokens": label.spent.output_tokens,
        }
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._count(key, label)

    def _count(self, key: str, label: Label) -> None:
        self.labels[key] = label
        self.spent += label.spent


class Questions:
    """Asks what is not answered yet, several questions at a time, as long as the most that they can cost is there."""

    def __init__(self, answers: Answers, prices: Prices, max_cost: float | None):
        self.answers, self.labeler = answers, answers.labeler
        self.prices, self.max_cost = prices, max_cost

    def ask(self, files: Sequence[Path], wanted: Wanted, concurrency: int) -> bool:
        """Whether everything was asked."""
        total = sum(1 for _ in self._unanswered(files, wanted))
        waiting: dict[Future[None], Spent] = {}
        is_whole = True
        with ThreadPoolExecutor(concurrency) as threads, progress("labels", total, " rows") as advance:
            try:
                for key, code in self._unanswered(files, wanted):
                    cost = self.labeler.worst_case(code)
                    while waiting and (len(waiting) >= concurrency or not self._has_money_for(cost, waiting)):
                        advance(collect(waiting))
                    is_whole = self._has_money_for(cost, waiting)
                    if not is_whole:
                        break
                    waiting[threads.submit(self._ask, key, code)] = cost
                while waiting:
                    advance(collect(waiting))
            except BaseException:
                self.labeler.stop()
                raise
        self.answers.add_refusals()
        return is_whole

    def _unanswered(self, files: Sequence[Path], wanted: Wanted) -> Iterator[tuple[str, str]]:
        seen: set[str] = set()
        for path in files:
            for key, row, fate in fates(path, self.labeler, wanted, seen):
                if fate is None and key not in self.answers.labels:
                    yield key, row["output"]

    def _ask(self, key: str, code: str) -> None:
        self.answers.add(key, self.labeler.ask(code))

    def _has_money_for(self, cost: Spent, waiting: dict[Future[None], Spent]) -> bool:
        expected = sum(waiting.values(), self.answers.spent + cost)
        return self.max_cost is None or self.prices.of(expected) <= self.max_cost


def collect(waiting: dict[Future[None], Spent]) -> int:
    """Waits for at least one answer; gives the number of those that are there."""
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    for future in done:
        del waiting[future]
        future.result()
    return len(done)
