"""Read prompts: a file byte for byte, or a typed line with escapes. No whitespace is stripped."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from neox_code.errors import DataError
from neox_code.logs import get_logger
from neox_code.tokenizer.protocol import Tokenizer

log = get_logger(__name__)

STANDARD_INPUT = "-"

ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}
ESCAPE = re.compile("|".join(map(re.escape, ESCAPES)))


def unescape(typed: str) -> str:
    r"""Return typed text with `\n`, `\t` and `\\` replaced by a line end, a tab and a backslash; other backslashes are kept.

    >>> unescape(r"def f():\n\tprint('\\n', r'\d')")
    "def f():\n\tprint('\\n', r'\\d')"
    """
    return ESCAPE.sub(lambda match: ESCAPES[match[0]], typed)


def read_prompts(path: str | Path, prompt_end: str | None = None) -> list[str]:
    """Return the prompts of a file: its whole content, or, with `prompt_end`, the texts between its occurrences.

    Empty texts are left out, and a log line counts them. Raise DataError if the file is missing, not UTF-8, or has only separators.
    """
    text = read_text(path)
    if not prompt_end:
        return [text]
    parts = text.removesuffix(prompt_end).split(prompt_end)
    prompts = list(filter(None, parts))
    if not prompts:
        raise DataError(f"{path} has no prompt between its separators prompt_end ({prompt_end!r}). Write one into it.")
    if len(prompts) < len(parts):
        log.info("%s | prompts: %d, left out as empty: %d", path, len(prompts), len(parts) - len(prompts))
    return prompts


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


def keep_end(tokenizer: Tokenizer, ids: Sequence[int], room: int, head_tokens: int = 0) -> list[int]:
    """Return at most `room` of a prompt's ids: the first ones, at most `head_tokens` of them, and the last ones.

    The first ones end, and the last ones begin, with a line; a last part in whose first half no line begins is cut inside a line.
    """
    ends_line = [tokenizer.decode_bytes([token]).endswith(b"\n") for token in ids]
    head_tokens = min(head_tokens, room // 2)
    head = next((end for end in range(head_tokens, 0, -1) if ends_line[end - 1]), 0)
    earliest = len(ids) - (room - head)
    begins = range(earliest, earliest + (room - head) // 2)
    begin = next((begin for begin in begins if begin and ends_line[begin - 1]), earliest)
    return [*ids[:head], *ids[begin:]]
