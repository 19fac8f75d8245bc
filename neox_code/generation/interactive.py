r"""The interactive prompt: type the beginning of a text, and read its completion.

    Context prompt >>> def add(a, b):\n\treturn
    def add(a, b):
            return a + b

A prompt is a line, or, if `prompt_end` is set to another text, everything up to that text. Its escapes are those of
prompts.unescape. On a terminal a paste of several lines is one prompt without escapes, a line that begins with a colon is a command
(`:help` lists them), and prompts stay in a history on the disk. Ctrl-C stops a completion, or deletes a prompt that is being typed;
Ctrl-D ends. The terminal shows the prompt again, dim, before the completion, and control characters as escapes. Without a terminal,
standard output has the exact completions.
"""

import locale
import os
import re
import readline
import sys
from collections.abc import Callable
from io import TextIOWrapper
from itertools import count
from pathlib import Path
from typing import Any, cast

from neox_code.errors import DataError, NeoXError
from neox_code.generation.generator import Generator
from neox_code.generation.prompts import ROW_KEYS, PromptItem, convert_setting, escape, read_text, unescape
from neox_code.logs import get_logger

log = get_logger(__name__)

PROMPT = "Context prompt >>> "
CONTINUATION = "... "
LINE_END = "\n"
HISTORY_ENTRIES = 1000

DIM, COMPLETED, PLAIN = "\x1b[2m", "\x1b[36m", "\x1b[0m"
UNSHOWN_CHARACTER = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
"""Control characters, and characters without width that reorder or hide text."""
VISIBLE_WHITESPACE = {" ": "·", "\t": "→\t", "\n": "↵\n"}

HELP = r"""\n is a line end, \t a tab, \\ a backslash; a paste of several lines is one prompt. Ctrl-C stops, Ctrl-D ends. Commands:
  :KEY VALUE         set a key of the generation settings: temperature, top_p, maximum_tokens, stop, ...
  :n 4               completions of each prompt        :seed 1          seed of the random numbers
  :file PATH         complete a file                   :multiline       end a prompt by a line with ":go"
  :whitespace        show spaces, tabs and line ends   :settings        list what was set
  \:                 a prompt that begins with a colon"""


def interact(generator: Generator, prompt_end: str | None = None) -> None:
    """Complete prompts from standard input until it ends. If a prompt cannot be completed, report the reason and continue."""
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    # exact text: undecodable bytes reach the tokenizer's check, and a carriage return is kept
    cast(TextIOWrapper, sys.stdin).reconfigure(encoding="utf-8", errors="surrogateescape", newline=LINE_END)
    cast(TextIOWrapper, sys.stdout).reconfigure(encoding="utf-8", errors="backslashreplace")
    if on_terminal:
        log.info(r"\n is a line end, \t a tab, \\ a backslash; :help lists commands; Ctrl-C stops a completion, Ctrl-D ends")
        with History():
            Dialog(generator, prompt_end).run()
    else:
        reader = PromptReader(read_plain_line, prompt_end or LINE_END)
        for index in count():
            prompt = reader.next_prompt()
            if prompt is None:
                break
            complete_prompt(generator, PromptItem(unescape(prompt)), index, return_unchanged)
    print()


class Dialog:
    """Prompts and commands on a terminal, with settings that the commands change."""

    def __init__(self, generator: Generator, prompt_end: str | None):
        self.generator, self.prompt_end = generator, prompt_end
        self.settings: dict[str, Any] = {}
        self.is_whitespace_shown = self.is_multiline = False

    def run(self) -> None:
        """Read prompts and commands until the end of the input."""
        index = 0
        while (typed := self.read_prompt()) is not None:
            readline.add_history(escape(typed) if LINE_END in typed else typed)
            try:
                item = self.run_command(typed) if typed.startswith(":") else PromptItem(self.interpret(typed))
            except NeoXError as error:
                log.error("%s", error)
                continue
            if item is not None:
                complete_prompt(self.generator, PromptItem(item.prompt, settings=self.settings), index, self.show)
                index += 1

    def read_prompt(self) -> str | None:
        """Return a prompt, which may be a paste of several lines, or a command; None at the end of the input."""
        end = ":go" if self.is_multiline else self.prompt_end
        if end is not None:
            return PromptReader(read_edited_line, LINE_END + end + LINE_END if self.is_multiline else end).next_prompt()
        typed: str | None = None
        while typed is None:  # after Ctrl-C
            typed = read_edited_line(PROMPT)
        return typed.removesuffix(LINE_END) if typed else None

    def interpret(self, typed: str) -> str:
        """Return a prompt of several lines unchanged, and a prompt of one line with its escapes replaced."""
        typed = typed.removeprefix("\\") if typed.startswith("\\:") else typed
        return typed if LINE_END in typed else unescape(typed)

    def run_command(self, typed: str) -> PromptItem | None:
        """Run a command. Return the prompt of `:file`, else None. Raise DataError for an unknown command or an invalid value."""
        name, _, value = typed[1:].strip().partition(" ")
        value = value.strip()
        key = {"n": "samples_per_prompt"}.get(name, name)
        if name == "help":
            print(HELP)
        elif name == "whitespace":
            self.is_whitespace_shown = not self.is_whitespace_shown
        elif name == "multiline":
            self.is_multiline = not self.is_multiline
            print('a prompt ends with a line that is ":go"' if self.is_multiline else "a prompt is a line or a paste")
        elif name == "settings":
            print({**self.settings, "seed": self.generator.seed})
        elif name == "file":
            return PromptItem(read_text(value))
        elif key == "seed" or key in ROW_KEYS:
            changed = parse_setting(key, value)
            if key == "seed":
                self.generator.seed = changed
            else:
                self.settings[key] = changed
        else:
            raise DataError(f":{name} is not a command. :help lists the commands; \\: begins a prompt with a colon.")
        return None

    def show(self, text: str, style: str) -> str:
        if self.is_whitespace_shown:
            text = "".join(VISIBLE_WHITESPACE.get(character, character) for character in text)
        return format_for_terminal(text, style)


def parse_setting(key: str, typed: str) -> Any:
    """Return the value of a key; raise DataError if it has another type or is out of range."""
    value: Any = typed
    for parse in (int, float, {"true": True, "false": False}.__getitem__):
        try:
            value = parse(typed)
            break
        except (ValueError, KeyError):
            continue
    return convert_setting(key, unescape(typed) if key == "stop" else value, f"{key} ({typed})")


class History:
    """The prompts of earlier dialogs, in readline's history and in a file of the user."""

    def __enter__(self) -> None:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
        self.path = state / "neox-code" / "prompts"
        readline.set_auto_history(False)
        readline.set_history_length(HISTORY_ENTRIES)
        # a terminal of a locale without UTF-8 would lose the bytes of other letters
        if locale.nl_langinfo(locale.CODESET) != "UTF-8":
            locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
        for binding in ("tab: tab-insert", "set enable-bracketed-paste on", "set convert-meta off", "set input-meta on"):
            readline.parse_and_bind(binding)
        try:
            readline.read_history_file(self.path)
        except OSError:
            log.debug("no history in %s", self.path)

    def __exit__(self, *raised: object) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(self.path)
        except OSError as error:
            log.warning("the history of prompts is not kept: %s", error)


def complete_prompt(generator: Generator, item: PromptItem, index: int, show: Callable[[str, str], str]) -> None:
    """Print the completions of a prompt, a single one as it is generated, and a line end; Ctrl-C stops them."""
    try:
        repeated = "" if show is return_unchanged or not isinstance(item.prompt, str) else show(item.prompt, DIM)
        if item.settings.get("samples_per_prompt", generator.section.samples_per_prompt) > 1:
            for completion in generator.complete([item], index):
                print(f"[{completion.sample + 1}] {repeated}{show(completion.text, COMPLETED)}")
            return
        pieces = generator.stream(item, index)
        print(repeated, end="", flush=True)
        for piece in pieces:
            print(show(piece, COMPLETED), end="", flush=True)
        print(flush=True)
    except KeyboardInterrupt:
        print(flush=True)
        log.info("(stopped)")
    except NeoXError as error:
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
    """Read a line, or a paste of several, with its line end from a terminal, with editing and history. Return None after Ctrl-C."""
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
    """Return the text for a terminal, in a style unless TERM is dumb or NO_COLOR is set.

    Control characters, and characters that reorder or hide others, become escapes.
    """
    visible = UNSHOWN_CHARACTER.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
    if os.environ.get("TERM") == "dumb" or "NO_COLOR" in os.environ:
        return visible
    return f"{style}{visible}{PLAIN}"
