"""Completions as JSON Lines with GPT-NeoX's six fields, in its order.

    write_samples("samples.jsonl", generator, ["def add(a, b):\\n"])

    {"context": "def add(a, b):\\n", "text": "    return a + b\\n", "length": 9, "finished": true, ...}

The file is there when all completions are.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from neox_code.files import write_json_lines
from neox_code.generation.generator import Completion, Generator, Prompt
from neox_code.generation.stopping import StopReason
from neox_code.logs import get_logger

log = get_logger(__name__)

MESSAGES = {StopReason.FULL_CONTEXT: "WARNING: the completion ends where the model's context is full"}


def write_samples(path: str | Path, generator: Generator, prompts: Sequence[Prompt]) -> None:
    """Completes the prompts into a file, a row each in their order. Returns when all are done."""
    write_json_lines(path, samples(generator, prompts))
    log.info("%d completions in %s", len(prompts), path)


def samples(generator: Generator, prompts: Sequence[Prompt]) -> Iterator[dict[str, Any]]:
    """The rows; nothing is generated before the first is asked for, when the file is known to be writable."""
    yield from map(sample, generator.complete(prompts))


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
