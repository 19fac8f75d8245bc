"""Completions as JSON Lines: GPT-NeoX's six fields in its order, and ours after them.

    write_samples("samples.jsonl", generator, read_prompts("prompt.py"))

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
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from neox_code.errors import DataError, print_error
from neox_code.files import read_json_lines
from neox_code.generation.generator import Completion, Generator, Prepared, Refusal, TakePrompt, take_from
from neox_code.generation.prompts import ROW_KEYS, PromptItem, parse_row
from neox_code.generation.stopping import StopReason
from neox_code.logs import format_plural, get_logger

log = get_logger(__name__)

MESSAGES = {StopReason.FULL_CONTEXT: "WARNING: the completion ends where the model's context is full"}

STANDARD_OUTPUT = "-"


def write_samples(path: str | Path | None, generator: Generator, items: Sequence[PromptItem]) -> int:
    """Complete the prompts, and write a row for each sample, in their order, to a file or to standard output (None and `-`).

    Return the number of prompts that could not be completed. If that is all of them, raise the first DataError and write nothing.
    """
    prepared = generator.prepare_prompts(items)
    refusals = [each for each in prepared if isinstance(each, Refusal)]
    if len(refusals) == len(prepared):
        raise refusals[0].error
    with SampleOutput(path, generator, [item.source for item in items]) as output:
        begin = output.skip_written(prepared)
        for result in generator.run(take_from(prepared[begin:]), len(prepared) - begin):
            output.write(result)
    if output.path is not None:
        log.info("%s in %s", format_plural(len(prepared) - len(refusals), "completed prompt"), path)
    if refusals:
        print_error(
            f"{len(refusals)} of {format_plural(len(prepared), 'prompt')} could not be completed; the reason is in the row of each."
        )
    return len(refusals)


def answer_lines(path: str | Path | None, generator: Generator, lines: IO[bytes]) -> int:
    """Complete the prompts of a stream of JSON Lines as they come, and write their rows; return the number of refused prompts.

    A line that is not a prompt has a row with the reason. Generation continues while no further line has arrived.
    """
    sources: list[str | None] = []
    refused = 0
    with SampleOutput(path, generator, sources) as output:
        for result in generator.run(take_lines(lines, generator, sources)):
            refused += isinstance(result, Refusal)
            output.write(result)
    return refused


def take_lines(lines: IO[bytes], generator: Generator, sources: list[str | None]) -> TakePrompt:
    """Return a function that takes the next line's prompt; a thread reads the lines.

    The function appends the source of each prompt to `sources`, at the prompt's index.
    """
    arrived: queue.Queue[bytes | None] = queue.Queue(maxsize=1000)

    def read() -> None:
        for line in lines:
            if line.strip():
                arrived.put(line)
        arrived.put(None)

    threading.Thread(target=read, daemon=True).start()

    def take_next_prompt(wait: bool) -> Prepared | None:
        try:
            line = arrived.get(wait)
        except queue.Empty:
            return None
        if line is None:
            raise StopIteration
        index = len(sources)
        try:
            item = parse_row(line, f"line {index + 1} of standard input")
        except DataError as error:
            sources.append(None)
            return Refusal(index, line.decode("utf-8", "replace"), error)
        sources.append(item.source)
        return generator.prepare_or_refuse(item, index)

    return take_next_prompt


class SampleOutput:
    """The output: a file to which rows are appended, or standard output."""

    def __init__(self, path: str | Path | None, generator: Generator, sources: Sequence[str | None]):
        self.path = None if path is None or str(path) == STANDARD_OUTPUT else Path(path)
        self.settings = hash_settings(generator)
        self.sources = sources
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
        expected = [key for each in prepared for key in list_row_keys(each)]
        for number, (row, key) in enumerate(zip(rows, expected, strict=False), 1):
            if row.get("settings") != self.settings or (row.get("index"), row.get("sample"), row.get("context")) != key:
                raise DataError(
                    f"{self.path}:{number} was written with another model, other settings or other prompts. Choose another output "
                    "(-o), or remove the file."
                )
        if len(rows) > len(expected):
            raise DataError(f"{self.path} has more rows than there are prompts. Choose another output (-o), or remove the file.")
        whole = 0
        kept = 0
        for each in prepared:
            count = len(list_row_keys(each))
            if kept + count > len(rows):
                break
            whole, kept = whole + 1, kept + count
        content = self.path.read_bytes().splitlines(keepends=True)
        self.file.truncate(sum(map(len, content[:kept])))
        log.info("%s has the rows of %s; %d are left", self.path, format_plural(whole, "prompt"), len(prepared) - whole)
        return whole

    def write(self, result: Completion | Refusal) -> None:
        if isinstance(result, Refusal):
            print_error(f"prompt {result.index + 1}: {result.error}")
        row = make_row(result) | {"source": self.sources[result.index], "settings": self.settings}
        self.file.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))
        self.file.flush()
        if self.path is not None:
            os.fsync(self.file.fileno())


def hash_settings(generator: Generator) -> str:
    """Return 8 hexadecimal digits of the model's folder and of everything that determines a prompt's completion."""
    section = {key: value for key, value in asdict(generator.section).items() if key in ROW_KEYS}
    identity = [str(generator.loaded.checkpoint.resolve()), str(generator.loaded.dtype), generator.seed, section]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:8]


def list_row_keys(prepared: Prepared) -> list[tuple[int, int, str | list[int]]]:
    """Return index, sample and context of each row of a prompt."""
    if isinstance(prepared, Refusal):
        prompt = prepared.prompt
        return [(prepared.index, 0, prompt if isinstance(prompt, str) else list(prompt))]
    return [(prepared.request.index, sample, prepared.text) for sample in range(prepared.request.num_samples)]


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
