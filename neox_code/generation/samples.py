"""Completions as JSON Lines: GPT-NeoX's six fields in its order, and ours after them.

    write_samples(SampleOutput("samples.jsonl", generator, read_prompts("prompt.py")))

    {"context": "def add(a, b):\\n", "text": "    return a + b\\n", "length": 9, "finished": true, "message": null,
     "duration_seconds": 0.21, "index": 0, "sample": 0, "stop_reason": "end of document", "source": null, "settings": "9b1d02c4"}

Rows have the order of the prompts. Each is on the disk before the next one is written. If the output exists, the prompts whose rows
it has are skipped, provided that they and the settings are the same. A prompt that cannot be completed has a row with `text` null
and the reason as `message`.
"""

import hashlib
import json
import os
import queue
import sys
import threading
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

from neox_code.errors import DataError, print_error
from neox_code.files import read_json_lines
from neox_code.generation.generator import Completion, Generator, Prepared, Refusal, TakePrompt, take_from
from neox_code.generation.prompts import ROW_KEYS, Prompt, PromptItem, parse_row
from neox_code.generation.stopping import StopReason
from neox_code.logs import format_plural, get_logger

log = get_logger(__name__)

MESSAGES = {StopReason.FULL_CONTEXT: "WARNING: the completion ends where the model's context is full"}

STANDARD_OUTPUT = "-"


def write_samples(output: "SampleOutput") -> int:
    """Complete the prompts of an output, and write a row for each sample, in their order.

    Return the number of prompts that could not be completed. If that is all of them, raise the first DataError and write nothing.
    """
    generator = output.generator
    prepared = generator.prepare_prompts(output.items)
    refusals = [each for each in prepared if isinstance(each, Refusal)]
    if len(refusals) == len(prepared):
        raise refusals[0].error
    with output:
        begin = output.skip_written(prepared)
        for result in generator.run(take_from(prepared[begin:]), len(prepared) - begin):
            output.write(result)
    if output.path is not None:
        log.info("%s in %s", format_plural(len(prepared) - len(refusals), "completed prompt"), output.path)
    if refusals:
        print_error(
            f"{len(refusals)} of {format_plural(len(prepared), 'prompt')} could not be completed; the reason is in the row of each."
        )
    return len(refusals)


def answer_lines(path: str | Path | None, generator: Generator, lines: IO[bytes]) -> int:
    """Complete the prompts of a stream of JSON Lines as they come, and write their rows; return the number of refused prompts.

    A line that is not a prompt has a row with the reason. Generation continues while no further line has arrived.

    Raise DataError if the output already has rows, because it is not known which lines these rows belong to.
    """
    items: list[PromptItem] = []
    refused = 0
    with SampleOutput(path, generator, items) as output:
        output.require_empty()
        for result in generator.run(make_prompt_reader(lines, generator, items)):
            refused += isinstance(result, Refusal)
            output.write(result)
    return refused


def make_prompt_reader(lines: IO[bytes], generator: Generator, items: list[PromptItem]) -> TakePrompt:
    """Return a function that returns the prompt of the next line; a thread reads the lines.

    The function appends each prompt to `items`, at its index.
    """
    arrived: queue.Queue[bytes | None] = queue.Queue(maxsize=1000)

    def queue_lines() -> None:
        for line in lines:
            if line.strip():
                arrived.put(line)
        arrived.put(None)

    threading.Thread(target=queue_lines, daemon=True).start()

    def take_next_prompt(wait: bool) -> Prepared | None:
        try:
            line = arrived.get(wait)
        except queue.Empty:
            return None
        if line is None:
            raise StopIteration
        index = len(items)
        try:
            items.append(parse_row(line, f"line {index + 1} of standard input"))
        except DataError as error:
            items.append(PromptItem(line.decode("utf-8", "replace")))
            return Refusal(index, items[index].prompt, error)
        prepared = generator.prepare_or_refuse(items[index], index)
        generator.log_remarks()
        return prepared

    return take_next_prompt


class SampleOutput:
    """The output: a file to which rows are appended, or standard output (None and `-`)."""

    option = "-o"
    """Name of the option that sets the output, for messages."""

    def __init__(self, path: str | Path | None, generator: Generator, items: Sequence[PromptItem]):
        self.path = None if path is None or str(path) == STANDARD_OUTPUT else Path(path)
        self.generator, self.items = generator, items
        self.file: IO[bytes] = sys.stdout.buffer

    def __enter__(self) -> "SampleOutput":
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("ab")
        return self

    def __exit__(self, *raised: object) -> None:
        if self.path is not None:
            self.file.close()
            if not self.path.stat().st_size:
                self.path.unlink()

    def skip_written(self, prepared: Sequence[Prepared]) -> int:
        """Return the number of prompts whose rows are all in the file; remove the rows of an incomplete prompt.

        Raise DataError if the file has rows of other settings or prompts.
        """
        if self.path is None or not self.path.stat().st_size:
            return 0
        rows = list(read_json_lines(self.path))
        expected = [row for each in prepared for row in self.list_expected(each)]
        for number, (row, keys) in enumerate(zip(rows, expected, strict=False), 1):
            if any(row.get(key) != value for key, value in keys.items()):
                raise DataError(
                    f"{self.path}:{number} was written with another model, other settings or other prompts. Choose another output "
                    f"({self.option}), or remove the file."
                )
        if len(rows) > len(expected):
            raise DataError(
                f"{self.path} has more rows than there are prompts. Choose another output ({self.option}), or remove the file."
            )
        ends = list(accumulate(len(self.list_expected(each)) for each in prepared))
        whole = bisect_right(ends, len(rows))
        lines = self.path.read_bytes().splitlines(keepends=True)
        self.file.truncate(sum(map(len, lines[: ends[whole - 1] if whole else 0])))
        log.info("%s has the rows of %s; %d are left", self.path, format_plural(whole, "prompt"), len(prepared) - whole)
        return whole

    def require_empty(self) -> None:
        """Raise DataError if the file has rows."""
        if self.path is not None and self.path.stat().st_size:
            raise DataError(f"{self.path} has rows already. Choose another output (-o), or remove the file.")

    def list_expected(self, prepared: Prepared) -> list[dict[str, Any]]:
        """Return for each row of a prompt the fields that are known before its completion."""
        if isinstance(prepared, Refusal):
            index, context, num_samples = prepared.index, prepared.prompt, 1
        else:
            index, context, num_samples = prepared.request.index, prepared.text, prepared.request.num_samples
        return [self.identify(index, sample, context) for sample in range(num_samples)]

    def identify(self, index: int, sample: int, context: Prompt) -> dict[str, Any]:
        """Return the fields of a row that are known before its completion."""
        context = context if isinstance(context, str) else list(context)
        return {"context": context, "index": index, "sample": sample, "settings": hash_settings(self.generator, self.items[index])}

    def write(self, result: Completion | Refusal) -> None:
        if isinstance(result, Refusal):
            print_error(f"prompt {result.index + 1}: {result.error}")
        row = self.make_row(result)
        self.file.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))
        self.file.flush()
        if self.path is not None:
            os.fsync(self.file.fileno())

    def make_row(self, result: Completion | Refusal) -> dict[str, Any]:
        """Return the row of a result."""
        item = self.items[result.index]
        return make_row(result) | {"source": item.source, "settings": hash_settings(self.generator, item)}


def hash_settings(generator: Generator, item: PromptItem) -> str:
    """Return a hash (8 hexadecimal digits) of the model's folder and all settings that determine the completion of a prompt."""
    section = {key: value for key, value in asdict(generator.section).items() if key in ROW_KEYS} | dict(item.settings)
    identity = [str(generator.loaded.checkpoint.resolve()), str(generator.loaded.dtype), generator.seed, section, item.suffix]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:8]


def make_row(result: Completion | Refusal) -> dict[str, Any]:
    """Return the row of a completion: `length` is in tokens; `finished` is True if the model ended the document itself."""
    if isinstance(result, Refusal):
        return {
            "context": result.prompt if isinstance(result.prompt, str) else list(result.prompt),
            "text": None,
            "length": 0,
            "finished": False,
            "message": f"ERROR: {result.error}",
            "duration_seconds": 0.0,
            "index": result.index,
            "sample": 0,
            "stop_reason": None,
        }
    return {
        "context": result.prompt,
        "text": result.text,
        "length": len(result.tokens),
        "finished": result.stop_reason is StopReason.END_OF_DOCUMENT,
        "message": MESSAGES.get(result.stop_reason),
        "duration_seconds": result.duration_seconds,
        "index": result.index,
        "sample": result.sample,
        "stop_reason": result.stop_reason.value,
    }
