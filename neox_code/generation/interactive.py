"""The interactive prompt: type the beginning of a text, see it go on.

    Context prompt >>> def add(a, b):\\n\\treturn
    def add(a, b):
            return a + b

A prompt is a line, or, with another `prompt_end`, everything up to it. Its escapes are those of prompts.unescape. Ctrl-C stops a
completion, or empties a prompt that is being typed; Ctrl-D ends. On a terminal the prompt is repeated, dim, before the completion,
and control characters are shown rather than obeyed; elsewhere standard output has the completions as they are.
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
    """Completes prompts from standard input until it ends. A prompt that cannot be completed gives a message, and the next one."""
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    # exact text: undecodable bytes reach the tokenizer's check, and a carriage return stays
    cast(TextIOWrapper, sys.stdin).reconfigure(encoding="utf-8", errors="surrogateescape", newline=LINE_END)
    cast(TextIOWrapper, sys.stdout).reconfigure(encoding="utf-8", errors="backslashreplace")
    reader = PromptReader(edited_line if on_terminal else plain_line, prompt_end or LINE_END)
    show = styled if on_terminal else as_it_is
    if on_terminal:
        log.info(r"\n is a line end, \t a tab, \\ a backslash; Ctrl-C stops a completion, Ctrl-D ends")
    for index in count():
        prompt = reader.next_prompt()
        if prompt is None:
            break
        answer(generator, unescape(prompt), index, show, on_terminal)
    print()


def answer(generator: Generator, prompt: str, index: int, show: Callable[[str, str], str], repeat_prompt: bool) -> None:
    """Writes one completion as it comes, and a line end; Ctrl-C stops it."""
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
"""Shows a prompt and reads a line with its line end: "" at the end of the input, None where what was typed is to be forgotten."""


class PromptReader:
    """Prompts out of lines. What stands behind a `prompt_end` on the same line begins the next prompt."""

    def __init__(self, read_line: ReadLine, prompt_end: str):
        self.read_line, self.prompt_end = read_line, prompt_end
        self.pending = ""

    def next_prompt(self) -> str | None:
        """The next prompt, without its end; None where the input is at its end. One without an end before that counts."""
        while self.prompt_end not in self.pending:
            line = self.read_line(CONTINUATION if self.pending else PROMPT)
            self.pending = "" if line is None else self.pending + line
            if line is not None and not line.endswith(LINE_END):
                break
        prompt, end, rest = self.pending.partition(self.prompt_end)
        self.pending = "" if rest == LINE_END else rest
        return prompt if prompt or end else None


def edited_line(prompt: str) -> str | None:
    """A line with its line end, typed on a terminal with editing and history; a tab is a tab. None after Ctrl-C."""
    readline.parse_and_bind("tab: tab-insert")
    try:
        return input(prompt) + LINE_END
    except EOFError:
        return ""
    except KeyboardInterrupt:
        print()
        return None


def plain_line(prompt: str) -> str:
    """A line with its line end, if it has one, from a pipe or file."""
    print(prompt, end="", flush=True)
    return sys.stdin.readline()


def as_it_is(text: str, style: str) -> str:
    return text


def styled(text: str, style: str) -> str:
    """The text for a terminal, in a style where the terminal knows any and the user wants it (NO_COLOR)."""
    visible = CONTROL_CHARACTER.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
    if os.environ.get("TERM") == "dumb" or "NO_COLOR" in os.environ:
        return visible
    return f"{style}{visible}{PLAIN}"
