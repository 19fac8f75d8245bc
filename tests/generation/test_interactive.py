"""How lines become prompts, and what a terminal is shown. The dialog itself is in tests/commands/test_generate.py."""

import pytest

from neox_code.config.generation import GenerationConfig
from neox_code.errors import DataError
from neox_code.generation.generator import Generator
from neox_code.generation.interactive import PROMPT, Dialog, PromptReader, format_for_terminal
from neox_code.generation.prompts import escape, unescape


def prompts_of(lines: list[str | None], prompt_end: str) -> list[str]:
    """All prompts of lines that are typed one after the other."""
    typed = iter(lines)
    reader = PromptReader(lambda shown: next(typed, ""), prompt_end)
    return list(iter(reader.next_prompt, None))


@pytest.mark.parametrize(
    ("lines", "prompt_end", "prompts"),
    [
        (["a \r\n", "\n", "b"], "\n", ["a \r", "", "b"]),
        (["a\n", "  b\n", "END\n", "c END d END\n"], "END", ["a\n  b\n", "c ", " d "]),
        (["a\n", "b\n", "\n", "c\n"], "\n\n", ["a\nb", "c\n"]),
        ([], "\n", []),
    ],
)
def test_prompts_are_the_texts_between_their_ends(lines, prompt_end, prompts):
    assert prompts_of(lines, prompt_end) == prompts


def test_text_typed_before_an_interruption_is_discarded():
    assert prompts_of(["a\n", None, "b\n", "END\n"], "END") == ["b\n"]


def test_the_input_prompt_is_printed_once_for_several_lines():
    shown = []

    def read_line(prompt: str) -> str:
        shown.append(prompt)
        return "a\n" if len(shown) < 3 else "END\n"

    PromptReader(read_line, "END").next_prompt()
    assert shown[0] == PROMPT and PROMPT not in shown[1:]


def test_control_characters_are_escaped_on_a_terminal(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    shown = format_for_terminal("\tx\n\x1b]0;title\x07\r\x9b\u202e\u200b", "\x1b[2m")
    assert shown == "\x1b[2m\tx\n\\x1b]0;title\\x07\\r\\x9b\\u202e\\u200b\x1b[0m"


@pytest.mark.parametrize("text", ["def f():\n\treturn '\\n'", "\\", "\\\\n\n\\t\t"])
def test_an_escaped_text_is_one_line_and_the_same_text_again(text):
    assert "\n" not in escape(text) and unescape(escape(text)) == text


def test_commands_change_the_settings_of_the_next_prompts_alone(scripted):
    dialog = Dialog(Generator(scripted, GenerationConfig(), 1), None)
    for typed in (":temperature 0.5", ":n 4", ":seed 9", r":stop ):\n", ":stop_rules block"):
        assert dialog.run_command(typed) is None
    expected = {"temperature": 0.5, "samples_per_prompt": 4, "stop": ("):\n",), "stop_rules": ("block",)}
    assert (dialog.settings, dialog.generator.seed) == (expected, 9)
    for typed in (":temperature -1", ":top_p high", ":n 0", ":nothing", ":file missing", ":stop_rules everywhere"):
        with pytest.raises(DataError):
            dialog.run_command(typed)
    assert dialog.settings == expected
    assert (dialog.interpret(r"\:x\n"), dialog.interpret("a\\n\nb")) == (":x\n", "a\\n\nb")


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colors_can_be_disabled(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert format_for_terminal("x", "\x1b[2m") == "x"
