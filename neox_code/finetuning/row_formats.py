"""Convert a row to its pieces: texts and special tokens, each learned or only read.

    convert = build_row_converter(config.finetuning, tokenizer)
    convert({"prompt": "def a():", "completion": " pass"})      # [[RowSpan("def a():", False), RowSpan(" pass", True)]]

A row of APPS gives one row for each of its solutions. A row that cannot be used is a BadRow.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from neox_code.config.finetuning import FinetuningConfig
from neox_code.config.spelling import find_nearest
from neox_code.corpus.sources.row_files import BadRow, Row
from neox_code.errors import ConfigError
from neox_code.finetuning.templates import Piece, Template, find_special_ids, read_template
from neox_code.tokenizer.protocol import Tokenizer


class RowSpan(NamedTuple):
    piece: Piece
    is_target: bool
    """True if the span enters the loss."""


MISSING, EMPTY, NO_TEXT = "has no column", "has an empty column", "has a column without text"

RowConverter = Callable[[Row], list[list[RowSpan]] | BadRow]
CHAT_COLUMNS = ("role", "content")
LEARNED_ROLE = "assistant"
STANDARD_INPUT, CALL_BASED = "Standard Input", "Call-Based"


class UnusableRow(Exception):
    """Raised inside this module for a row that cannot be used."""

    def __init__(self, reason: str, detail: str = ""):
        self.row = BadRow(reason, detail)


def build_row_converter(section: FinetuningConfig, tokenizer: Tokenizer) -> RowConverter:
    """Return the function that converts a row. Raise ConfigError for templates that do not fit `row_format`."""
    special_ids = find_special_ids(tokenizer) if section.row_template else {}
    templates = [read_template(name, special_ids) for name in section.row_template]
    makers: dict[str, Callable[[Row], Iterator[list[RowSpan]]]] = {
        "completion": partial(convert_completion, section, templates),
        "text": partial(convert_text, section),
        "infilling": partial(convert_infilling, section),
        "chat": partial(convert_chat, section, templates),
        "apps": partial(convert_apps, section, templates),
    }
    if section.row_format in ("chat", "apps") and not templates:
        name = "chatml" if section.row_format == "chat" else "[apps-starter, apps]"
        raise ConfigError(f"row_format {section.row_format} needs a row_template. Set row_template: {name}, or a file.")
    if section.row_format in ("text", "infilling") and templates:
        raise ConfigError(f"row_format {section.row_format} has no template. Remove row_template, or set another row_format.")
    if section.row_format == "chat":
        for template in templates:
            if set(template.columns) != set(CHAT_COLUMNS):
                raise ConfigError(f"{template.path} must have {{role}} and {{content}}, for the messages of row_format chat.")
    make = makers[section.row_format]

    def convert(row: Row) -> list[list[RowSpan]] | BadRow:
        try:
            return list(make(row))
        except UnusableRow as error:
            return error.row

    return convert


def convert_completion(section: FinetuningConfig, templates: Sequence[Template], row: Row) -> Iterator[list[RowSpan]]:
    """Yield the prompt and the completion of a row."""
    prompt = fill_first(templates, row) if templates else [read_text(row, section.prompt_column, may_be_empty=True)]
    yield make_spans(section, prompt, [read_text(row, section.completion_column)])


def convert_text(section: FinetuningConfig, row: Row) -> Iterator[list[RowSpan]]:
    yield [RowSpan(read_text(row, section.text_column), True)]


def convert_infilling(section: FinetuningConfig, row: Row) -> Iterator[list[RowSpan]]:
    """Yield prefix, middle and suffix of a row; the middle is learned."""
    prefix, suffix = (read_text(row, column, may_be_empty=True) for column in (section.prefix_column, section.suffix_column))
    middle = read_text(row, section.middle_column)
    yield [span for span in (RowSpan(prefix, False), RowSpan(middle, True), RowSpan(suffix, False)) if span.piece]


def convert_chat(section: FinetuningConfig, templates: Sequence[Template], row: Row) -> Iterator[list[RowSpan]]:
    """Yield the messages of a row. From its content on, the filled template of an assistant's message is learned."""
    messages = row.get(section.messages_column)
    if section.messages_column not in row:
        raise_missing(row, section.messages_column)
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise UnusableRow("has no list of messages in", section.messages_column)
    spans: list[RowSpan] = []
    for message in messages:
        filled = {column: read_text(message, column) for column in CHAT_COLUMNS}
        head, tail = templates[0].fill_from("content", filled)
        spans += make_spans(section, head, tail) if filled["role"] == LEARNED_ROLE else make_spans(section, [*head, *tail], [])
    if not any(span.is_target for span in spans):
        raise UnusableRow("has no message of the role", LEARNED_ROLE)
    yield spans


def convert_apps(section: FinetuningConfig, templates: Sequence[Template], row: Row) -> Iterator[list[RowSpan]]:
    """Yield prompt and solution for each solution of a problem; `solutions` and `input_output` are JSON text, as published."""
    try:
        solutions = row.get("solutions") or "[]"
        solutions = json.loads(solutions) if isinstance(solutions, str) else solutions
        tests = row.get("input_output") or "{}"
        tests = json.loads(tests) if isinstance(tests, str) else tests
        is_called = bool(tests.get("fn_name"))
    except (ValueError, AttributeError) as error:
        raise UnusableRow("has no JSON in solutions or input_output", f"({error})") from None
    if not isinstance(solutions, list) or not solutions:
        raise UnusableRow(EMPTY, "solutions")
    filled = {"starter_code": ""} | row | {"call_kind": CALL_BASED if is_called else STANDARD_INPUT}
    prompt = fill_first(templates, filled)
    for solution in solutions:
        yield make_spans(section, prompt, [read_text({"solutions": solution}, "solutions")])


def make_spans(section: FinetuningConfig, prompt: Sequence[Piece], completion: Sequence[Piece]) -> list[RowSpan]:
    return [
        *(RowSpan(piece, not section.completion_only_loss) for piece in prompt if piece != ""),
        *(RowSpan(piece, True) for piece in completion if piece != ""),
    ]


def fill_first(templates: Sequence[Template], row: Row) -> list[Piece]:
    """Return the first template whose columns all have text in the row, filled. Raise UnusableRow for the last one if none has."""
    for template in templates:
        if all(isinstance(row.get(column), str) and row[column].strip() for column in template.columns):
            return template.fill(row)
    last = templates[-1]
    for column in last.columns:
        if column not in row:
            raise_missing(row, column, f"which {last.path.name} has")
        read_text(row, column)
    raise AssertionError("a column of the template has no text")


def read_text(row: Mapping[str, Any], column: str, may_be_empty: bool = False) -> str:
    """Return the text in a column. Raise UnusableRow if it is missing, no text, or blank."""
    if column not in row:
        raise_missing(row, column)
    value = row[column]
    if not isinstance(value, str) and not (may_be_empty and value is None):
        raise UnusableRow(NO_TEXT, f"({column}: {type(value).__name__})")
    if not may_be_empty and not str(value).strip():
        raise UnusableRow(EMPTY, column)
    return value or ""


def raise_missing(row: Mapping[str, Any], column: str, whose: str = "") -> None:
    """Raise UnusableRow for a missing column, with the row's columns."""
    similar = find_nearest(column, row)
    parts = (f"{column}{', ' if whose else ''}{whose}", f"its columns are {', '.join(row) or 'none'}")
    raise UnusableRow(MISSING, "; ".join(filter(None, (*parts, f"did you mean {similar[0]}?" if similar else ""))))
