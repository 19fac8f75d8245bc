"""Completions as JSON Lines with GPT-NeoX's six fields, in its order.

    write_samples("samples.jsonl", generator, ["def add(a, b):\\n"])

    {"context": "def add(a, b):\\n", "text": "    return a + b\\n", "length": 9, "finished": true, ...}

The file is there when all completions are. A prompt that cannot be completed has a row too: `text` is null, `message` the reason.
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
from neox_code.logs import get_logger

log = get_logger(__name__)

MESSAGES = {StopReason.FULL_CONTEXT: "WARNING: the completion ends where the model's context is full"}


STANDARD_OUTPUT = "-"


def write_samples(path: str | Path | None, generator: Generator, prompts: Sequence[Prompt]) -> int:
    """Complete the prompts into a file, or to standard output (None and `-`), a row each in their order.

    Returns how many prompts could not be completed. Raises the DataError of the first where none could: nothing is written then.
    """
    refused: dict[int, DataError] = {}
    rows = samples(generator, prompts, refused)
    if path is None or str(path) == STANDARD_OUTPUT:
        for row in rows:
            sys.stdout.buffer.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))
        sys.stdout.buffer.flush()
    else:
        write_json_lines(path, rows)
        log.info("%d completions in %s", len(prompts) - len(refused), path)
    if refused:
        print_error(f"{len(refused)} of {len(prompts)} prompts could not be completed; their rows hold the reason.")
    return len(refused)


def samples(generator: Generator, prompts: Sequence[Prompt], refused: dict[int, DataError]) -> Iterator[dict[str, Any]]:
    """The rows; nothing is generated before the first is asked for, when the file is known to be writable."""
    completions = iter(generator.complete(prompts, refused=refused))
    if refused and len(refused) == len(prompts):
        raise refused[0]
    for number, prompt in enumerate(prompts):
        if number in refused:
            print_error(f"prompt {number + 1}: {refused[number]}")
            yield refusal(prompt, refused[number])
        else:
            yield sample(next(completions))


def refusal(prompt: Prompt, error: DataError) -> dict[str, Any]:
    """The row of a prompt that could not be completed."""
    return {
        "context": prompt if isinstance(prompt, str) else list(prompt),
        "text": None,
        "length": 0,
        "finished": False,
        "message": f"ERROR: {error}",
        "duration_seconds": 0.0,
    }


def sample(completion: Completion) -> dict[str, Any]:
    """`length` is in tokens; `finished` says that the model ended the document itself."""
    return {
        "context": completion.prompt,
        "text": completion.text,
        "length": len(completion.tokens),
        "finished": completion.stop_reason is StopReason.END_OF_DOCUMENT,
        "message": MESSAGES.get(completion.stop_reason),
        "duration_seconds": completion.duration_seconds,
    }
