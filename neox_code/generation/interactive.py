"""The interactive prompt: type the beginning of a text, and read its completion.

    Context prompt >>> def add(a, b):\\n\\treturn
    def add(a, b):
            return a + b

A prompt is a line, or, with another `prompt_end`, all text up to it. Its escapes are those of prompts.unescape. Ctrl-C stops a
completion, or deletes a prompt that is being typed; Ctrl-D ends. On a terminal the prompt is repeated, dim, before the completion,
and control characters are printed as escapes; otherwise standard output has the exact completions.
"""

import os
import re
import readline
import sys
from collections.abc import Callable
from io import TextIOWrapper
from itertools import count
from typing import cast

from neox_code.errors import DataError
from neox_code.generation.generator import Generator
from neox_code.generation.prompts import unescape
from neox_code.logs import get_logger

log = get_logger(__name__)

PROMPT = "Context prompt >>> "
CONTINUATION = "... "
LINE_END = "\n"

DIM, COMPLETED, PLAIN = "\x1b[2m", "\x1b[36m", "\x1b[0m"
CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def interact(generator: Generator, prompt_end: str | None = None) -> None:
    """Complete prompts from standard input until it ends. If a prompt cannot be completed, report the reason and continue."""
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    # exact text: undecodable bytes reach the tokenizer's check, and a carriage return is kept
    cast(TextIOWrapper, sys.stdin).reconfigure(encoding="utf-8", errors="surrogateescape", newline=LINE_END)
    cast(TextIOWrapper, sys.stdout).reconfigure(encoding="utf-8", errors="backslashreplace")
    reader = PromptReader(read_edited_line if on_terminal else read_plain_line, prompt_end or LINE_END)
    show = format_for_terminal if on_terminal else return_unchanged
    if on_terminal:
        log.info(r"\n is a line end, \t a tab, \\ a backslash; Ctrl-C stops a completion, Ctrl-D ends")
    for index in count():
        prompt = reader.next_prompt()
        if prompt is None:
            break
        complete_prompt(generator, unescape(prompt), index, show, on_terminal)
    print()


def complete_prompt(generator: Generator, prompt: str, index: int, show: Callable[[str, str], str], repeat_prompt: bool) -> None:
    """Print one completion as it is generated, and a line end; Ctrl-C stops it."""
    try:
        pieces = generator.stream(prompt, index)
        if repeat_prompt:
            print(show(prompt, DIM), end="", flush=True)
        for piece in pieces:
            print(show(piece, COMPLETED), end="", flush=True)
        print(flush=True)
    except KeyboardInterrupt:
        print(flush=True)
        log.info("(stopped)")
    except DataError as error:
        log.error("%s", error)


ReadLine = Callable[[str], str | None]
"""A function that prints a prompt and reads a line with its line end: "" at the end of the input, None to discard the text."""


class PromptReader:
    """Assembles prompts from lines. Text after a `prompt_end` on the same line begins the next prompt."""

    def __init__(self, read_line: ReadLine, prompt_end: str):
        self.read_line, self.prompt_end = read_line, prompt_end
        self.pending = ""

    def next_prompt(self) -> str | None:
        """Return the next prompt without its end, or None at the end of the input; the last prompt needs no end."""
        while self.prompt_end not in self.pending:
            line = self.read_line(CONTINUATION if self.pending else PROMPT)
            self.pending = "" if line is None else self.pending + line
            if line is not None and not line.endswith(LINE_END):
                break
        prompt, end, rest = self.pending.partition(self.prompt_end)
        self.pending = "" if rest == LINE_END else rest
        return prompt if prompt or end else None


def read_edited_line(prompt: str) -> str | None:
    """Read a line with its line end from a terminal, with editing and history; a tab stays a tab. Return None after Ctrl-C."""
    readline.parse_and_bind("tab: tab-insert")
    try:
        return input(prompt) + LINE_END
    except EOFError:
        return ""
    except KeyboardInterrupt:
        print()
        return None


def read_plain_line(prompt: str) -> str:
    """Read a line with its line end, if it has one, from a pipe or file."""
    print(prompt, end="", flush=True)
    return sys.stdin.readline()


def return_unchanged(text: str, style: str) -> str:
    return text


def format_for_terminal(text: str, style: str) -> str:
    """Return the text for a terminal, in a style unless TERM is dumb or NO_COLOR is set."""
    visible = CONTROL_CHARACTER.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
    if os.environ.get("TERM") == "dumb" or "NO_COLOR" in os.environ:
        return visible
    return f"{style}{visible}{PLAIN}"
