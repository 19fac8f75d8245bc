"""Keys of fine-tuning: files of rows, the form of a row, its template, the loss, packing, and the division into splits."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class FinetuningConfig:
    train_rows: tuple[str, ...] = ()
    """Files of rows to train on: JSON Lines or a JSON list (.jsonl, .json, also compressed), Parquet, or a folder of such files, as
    tools/build_corpus.py writes them. `*` in a name stands for any characters."""

    valid_rows: tuple[str, ...] = ()
    """Files of rows for validation. Rows of `train_rows` that are equal to one of them, or of a project in them, are left out."""

    test_rows: tuple[str, ...] = ()
    """Files of rows for the test after the last step; they are kept out of `train_rows` as `valid_rows` are."""

    valid_share: float = 0.0
    """Share of `train_rows` that is used for validation instead, if `valid_rows` is not set. Whole projects are taken."""

    project_column: str | None = None
    """Column with the project (repository) of a row. All rows of a project are in one split. Default: each row is a project."""

    row_format: Literal["completion", "text", "infilling", "chat", "apps"] = "completion"
    """Form of a row. completion: a prompt and its completion; instructions are prompts made by a `row_template`. text: source code,
    all of which is learned; `fim_rate` gives a share of the rows a middle, which alone is learned. infilling: prefix, middle and
    suffix, of which the middle is learned. chat: a list of messages with role and content. apps: a problem of APPS, with one or
    more solutions."""

    row_template: tuple[str, ...] = ()
    """Text files with {column} names that make the prompt of a row, or for chat each message with {role} and {content}: paths, or
    names of files in configs/templates/. Of several, the first whose columns all have text in the row is used."""

    prompt_column: str = "prompt"
    """Column of the prompt, without a `row_template`. It may be empty."""

    completion_column: str = "completion"
    """Column of the completion, which follows the prompt without any character between them."""

    text_column: str = "text"
    """Column of the source code of `row_format: text`."""

    row_language: str | None = None
    """Language of the rows of `row_format: text`, such as GDScript, whose syntax trees `fim_syntax_rate` reads."""

    prefix_column: str = "prefix"
    """Column of the text before the middle, of `row_format: infilling`. It may be empty."""

    middle_column: str = "middle"
    """Column of the text that is learned, of `row_format: infilling`."""

    suffix_column: str = "suffix"
    """Column of the text after the middle, of `row_format: infilling`. It may be empty."""

    messages_column: str = "messages"
    """Column of the messages of `row_format: chat`."""

    completion_only_loss: bool = True
    """True: only the completion and the end-of-document token after it enter the loss; for chat, the messages of the assistant; for
    infilling, the middle. False: prompts, prefixes and suffixes enter it too."""

    pack_rows: bool = True
    """True: several rows share a sample (best fit). Each begins with an end-of-document token, and no row attends to another.
    False: each sample has one row, and a micro batch is as long as its longest row."""

    long_rows: Literal["refuse", "cut", "split", "drop"] = "refuse"
    """Treatment of a row with more tokens than `seq_length` minus 1; minus 11 with `fim_rate`, and minus 5 for infilling. cut: its
    end is left out; for infilling, what is farthest from the middle. split: it becomes several rows. drop: it is left out. The
    number of such rows is logged."""

    bad_rows: Literal["refuse", "drop"] = "refuse"
    """Treatment of a row that lacks a column, has an empty completion, or is not valid JSON or UTF-8. drop: it is left out, and the
    number of such rows is logged."""

    num_epochs: float | None = None
    """Number of passes through `train_rows`, in place of `train_iters`."""
