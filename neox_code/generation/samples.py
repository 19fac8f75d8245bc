"""Completions as JSON Lines with GPT-NeoX's six fields, in its order.

    write_samples("samples.jsonl", generator, ["def add(a, b):\\n"])

    {"context": "def add(a, b):\\n", "text": "    return a + b\\n", "length": 9, "finished": true, ...}

The file appears when all completions are finished. A prompt that cannot be completed has a row with `text` null and the reason
as `message`.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from neox_code.errors import DataError, print_error
from neox_code.files import write_json_lines
from neox_code.generation.generator import Completion, Generator, Prompt
from neox_code.generation.stopping import StopReason
from neox_code.logs import format_plural, get_logger

log = get_logger(__name__)

MESSAGES = {StopReason.FULL_CONTEXT: "WARNING: the completion ends where the model's context is full"}


STANDARD_OUTPUT = "-"


def write_samples(path: str | Path | None, generator: Generator, prompts: Sequence[Prompt]) -> int:
    """Complete the prompts, and write a row for each, in their order, to a file or to standard output (None and `-`).

    Return the number of prompts that could not be completed. If none could, raise the DataError of the first and write nothing.
    """
    refused: dict[int, DataError] = {}
    rows = make_rows(generator, prompts, refused)
    if path is None or str(path) == STANDARD_OUTPUT:
        for row in rows:
            sys.stdout.buffer.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))
        sys.stdout.buffer.flush()
    else:
        write_json_lines(path, rows)
        log.info("%s in %s", format_plural(len(prompts) - len(refused), "completion"), path)
    if refused:
        print_error(
            f"{len(refused)} of {format_plural(len(prompts), 'prompt')} could not be completed; the reason is in the row of each."
        )
    return len(refused)


def make_rows(generator: Generator, prompts: Sequence[Prompt], refused: dict[int, DataError]) -> Iterator[dict[str, Any]]:
    """Yield the rows. Generation starts with the first row, when the output file is known to be writable."""
    completions = iter(generator.complete(prompts, refused=refused))
    if refused and len(refused) == len(prompts):
        raise refused[0]
    for number, prompt in enumerate(prompts):
        if number in refused:
            print_error(f"prompt {number + 1}: {refused[number]}")
            yield make_error_row(prompt, refused[number])
        else:
            yield make_row(next(completions))


def make_error_row(prompt: Prompt, error: DataError) -> dict[str, Any]:
    """Return the row of a prompt that could not be completed."""
    return {
        "context": prompt if isinstance(prompt, str) else list(prompt),
        "text": None,
        "length": 0,
        "finished": False,
        "message": f"ERROR: {error}",
        "duration_seconds": 0.0,
    }


def make_row(completion: Completion) -> dict[str, Any]:
    """Return the row of a completion: `length` is in tokens; `finished` is True if the model ended the document itself."""
    return {
        "context": completion.prompt,
        "text": completion.text,
        "length": len(completion.tokens),
        "finished": completion.stop_reason is StopReason.END_OF_DOCUMENT,
        "message": MESSAGES.get(completion.stop_reason),
        "duration_seconds": completion.duration_seconds,
    }
