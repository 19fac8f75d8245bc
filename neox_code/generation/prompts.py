"""Read prompts: files byte for byte, JSON Lines, or a typed line with escapes. No whitespace is stripped."""

import dataclasses
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neox_code.config.checks import RANGES
from neox_code.config.fields import FIELDS, convert
from neox_code.config.generation import GenerationConfig
from neox_code.errors import DataError
from neox_code.logs import get_logger
from neox_code.tokenizer.protocol import Tokenizer

log = get_logger(__name__)

STANDARD_INPUT = "-"

Prompt = str | Sequence[int]
"""A prompt: text, or token ids."""

COMMAND_KEYS = {
    *("text_gen_type", "prompt_end", "recompute", "num_samples", "maximum_rows", "prefix_cache_gib"),
    "prompt_lookup_num_tokens",
    *("sample_input_file", "sample_input_format", "sample_output_file"),
}
"""Keys of the generation section that do not change the completion of a prompt."""
ROW_KEYS = {field.name for field in dataclasses.fields(GenerationConfig)} - COMMAND_KEYS
"""Keys of the generation section that a row of a prompt file can set for its own prompt."""


def escape(text: str) -> str:
    """Return the text in one line, with escapes: the inverse of `unescape`."""
    return text.replace("\\", r"\\").replace("\n", r"\n").replace("\t", r"\t")


@dataclass(frozen=True)
class PromptItem:
    prompt: Prompt
    suffix: str | None = None
    """Text after the missing part, for infilling."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the generation section that apply to this prompt alone."""
    source: str | None = None
    """File or id of the prompt."""


ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}
ESCAPE = re.compile("|".join(map(re.escape, ESCAPES)))


def unescape(typed: str) -> str:
    r"""Return typed text with `\n`, `\t` and `\\` replaced by a line end, a tab and a backslash; other backslashes are kept.

    >>> unescape(r"def f():\n\tprint('\\n', r'\d')")
    "def f():\n\tprint('\\n', r'\\d')"
    """
    return ESCAPE.sub(lambda match: ESCAPES[match[0]], typed)


def read_prompts(path: str | Path, prompt_end: str | None = None, file_format: str | None = None) -> list[PromptItem]:
    """Return the prompts of a folder, a file or standard input.

    A folder has a prompt for each of its files, in the order of their paths; hidden files are left out. A file named *.jsonl has a
    prompt in each row (`parse_row`). Any other file is one prompt. If `prompt_end` is set, the file is divided at each
    `prompt_end`, and each part is a prompt. Empty texts are left out, and a log line counts them. `file_format` (text or jsonl)
    overrides the file's name.

    Raise DataError if there is no prompt, or a file is missing or not UTF-8.
    """
    if Path(path).is_dir():
        files = sorted(each for each in Path(path).rglob("*") if each.is_file() and not is_hidden(each.relative_to(path)))
        items = [
            replace(item, source=str(each.relative_to(path)))
            for each in files
            for item in read_prompts(each, prompt_end, file_format)
        ]
    elif file_format == "jsonl" or (file_format is None and str(path).endswith(".jsonl")):
        lines = read_text(path).split("\n")
        items = [parse_row(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    elif prompt_end:
        parts = read_text(path).removesuffix(prompt_end).split(prompt_end)
        items = [PromptItem(part) for part in parts if part]
        if not items:
            raise DataError(f"{path} has no prompt between its separators prompt_end ({prompt_end!r}). Write one into it.")
        if len(items) < len(parts):
            log.info("%s | prompts: %d, left out as empty: %d", path, len(items), len(parts) - len(items))
    else:
        items = [PromptItem(read_text(path))]
    if not items:
        raise DataError(f"{path} has no prompts. Write one into it.")
    return items


def is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def parse_row(line: str | bytes, place: str) -> PromptItem:
    """Return the prompt of a row of JSON: a text, or an object with `prompt` (or `context`), a text or token ids.

    A `suffix` is the text after the missing part, and `id` becomes the source. Keys of the generation section apply to this prompt
    alone. Other keys have no effect. Raise DataError with the place of the row.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} is not valid JSON: {error}. Correct or remove the line.") from None
    row = {"prompt": row} if isinstance(row, str) else row
    prompt: Any = row.get("prompt", row.get("context")) if isinstance(row, dict) else None
    is_ids = isinstance(prompt, list) and all(type(token) is int for token in prompt)
    if not isinstance(prompt, str) and not is_ids:
        raise DataError(f'{place} has no prompt. Write {{"prompt": "text"}}, or a list of token ids as prompt.')
    suffix = row.get("suffix")
    if suffix is not None and not (isinstance(suffix, str) and isinstance(prompt, str)):
        raise DataError(f"{place} has a suffix, but the prompt or the suffix is not a text. Write both as texts.")
    settings = {key: convert_setting(key, row[key], f"{place}: {key} ({row[key]!r})") for key in ROW_KEYS & row.keys()}
    source = row.get("id")
    return PromptItem(prompt, suffix, settings, None if source is None else str(source))


def convert_setting(key: str, value: Any, description: str) -> Any:
    """Return the value of a key, converted to the key's type. If the type is wrong or the value out of range, raise a DataError
    that begins with `description`.
    """
    try:
        converted = convert(value, FIELDS[key].annotation)
    except ValueError as error:
        raise DataError(f"{description} must be {error}.") from None
    if key in RANGES and converted not in RANGES[key]:
        raise DataError(f"{description} must be {RANGES[key]}.")
    return converted


def read_text(path: str | Path) -> str:
    """Return the text of a file, or of standard input (`-`), with line ends and byte-order mark unchanged.

    Raise DataError with the place of the first byte that is not UTF-8.
    """
    try:
        return (sys.stdin.buffer.read() if str(path) == STANDARD_INPUT else Path(path).read_bytes()).decode("utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise DataError(f"sample_input_file ({path}) is not a file. Set it to the file that holds the prompt.") from None
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise DataError(
            f"{path} is not UTF-8 text: byte 0x{byte:02X} at offset {error.start:,} ({error.reason}). Convert it to UTF-8."
        ) from None


def keep_head_and_end(tokenizer: Tokenizer, ids: Sequence[int], most: int, head_tokens: int = 0) -> list[int]:
    """Return at most `most` ids: a first part of at most `head_tokens` ids, and a last part.

    The first part has whole lines. The last part begins with a line if one begins in its first half; else it begins inside a line.
    """
    ends_line = [tokenizer.decode_bytes([token]).endswith(b"\n") for token in ids]
    head = next((end for end in range(min(head_tokens, most // 2), 0, -1) if ends_line[end - 1]), 0)
    num_last = most - head
    earliest = len(ids) - num_last
    begins = range(earliest, earliest + num_last // 2)
    begin = next((begin for begin in begins if begin and ends_line[begin - 1]), earliest)
    return [*ids[:head], *ids[begin:]]
