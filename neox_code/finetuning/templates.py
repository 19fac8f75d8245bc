"""Templates: text files with {column} names that make the prompt of a row.

    template = read_template("alpaca")                     # configs/templates/alpaca.txt, or the path of a file
    template.columns                                       # ("instruction",)
    template.fill({"instruction": "Add."})                 # ["Below is ...\\n\\n### Instruction:\\nAdd.\\n\\n..."]

{{ and }} stand for braces. The last line end of the file is not part of the template. The name of a special token of the vocabulary
in a template, such as <|im_start|>, is this token; in a column it is ordinary text, so that no row can contain a special token.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

from neox_code.config.spelling import find_nearest, format_suggestion
from neox_code.config.yaml_merge import PACKAGED_CONFIGS
from neox_code.errors import ConfigError
from neox_code.tokenizer.protocol import Tokenizer

TEMPLATES = PACKAGED_CONFIGS / "templates"

Piece = str | int
"""Text, or the id of a special token."""


@dataclass(frozen=True)
class Template:
    path: Path
    parts: tuple[tuple[tuple[Piece, ...], str | None], ...]
    """Pairs: the pieces before a column, and the column; the last pair may have no column."""

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(column for _, column in self.parts if column)

    def fill(self, row: Mapping[str, str]) -> list[Piece]:
        """Return the filled template as pieces; neighboring texts are joined."""
        return join_texts([piece for before, column in self.parts for piece in (*before, *([row[column]] if column else ()))])

    def fill_from(self, column: str, row: Mapping[str, str]) -> tuple[list[Piece], list[Piece]]:
        """Return the filled template in two halves: before a column, and from this column on."""
        place = self.columns.index(column)
        (before, name), rest = self.parts[place], self.parts[place + 1 :]
        assert name
        head = Template(self.path, (*self.parts[:place], (before, None)))
        return head.fill(row), Template(self.path, (((), name), *rest)).fill(row)


def join_texts(pieces: Sequence[Piece]) -> list[Piece]:
    """Join neighboring texts, and leave out empty ones.

    >>> join_texts(["a", "b", 5, "", "c"])
    ['ab', 5, 'c']
    """
    joined: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and joined and isinstance(joined[-1], str):
            joined[-1] += piece
        elif piece != "":
            joined.append(piece)
    return joined


def read_template(name: str, special_ids: Mapping[str, int]) -> Template:
    """Return the template in the file `name`, or in configs/templates/NAME.txt. Raise ConfigError if it is missing or invalid.

    `special_ids` has the special tokens of the vocabulary by name, see `find_special_ids`.
    """
    path = Path(name)
    if not path.is_file():
        path = TEMPLATES / f"{name}.txt"
        if not path.is_file():
            known = sorted(each.stem for each in TEMPLATES.glob("*.txt"))
            suggestion = format_suggestion(find_nearest(name, known)) if find_nearest(name, known) else ""
            raise ConfigError(f"row_template {name} is neither a file nor one of {', '.join(known)}. {suggestion}".rstrip())
    try:
        text = path.read_text(encoding="utf-8").removesuffix("\n")
        parsed = list(Formatter().parse(text))
    except ValueError as error:  # also of text that is not UTF-8
        raise ConfigError(f"{path} is not a template: {error}. Write {{{{ and }}}} for braces.") from None
    for _, column, form, conversion in parsed:
        if column is not None and (not re.fullmatch(r"\w+", column) or form or conversion):
            raise ConfigError(f"{path} has {{{column}}}, which is not the name of a column. Write {{{{ and }}}} for braces.")
    parts = tuple((split_at_special_names(literal, special_ids), column) for literal, column, *_ in parsed)
    return Template(path, parts)


def split_at_special_names(text: str, special_ids: Mapping[str, int]) -> tuple[Piece, ...]:
    """Replace the names of special tokens in a text by their ids.

    >>> split_at_special_names("<|a|>user", {"<|a|>": 7})
    (7, 'user')
    """
    if not special_ids:
        return (text,)
    names = "|".join(map(re.escape, sorted(special_ids, key=len, reverse=True)))
    return tuple(special_ids.get(piece, piece) for piece in re.split(f"({names})", text) if piece)


def find_special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Return name -> id for the special tokens of a vocabulary."""
    names = ((tokenizer.decode([number]), number) for number in list_special_ids(tokenizer))
    return {name: number for name, number in names if name}


def list_special_ids(tokenizer: Tokenizer) -> list[int]:
    """Return the ids of the special tokens of a vocabulary, which stand for no bytes."""
    return [number for number, data in enumerate(tokenizer.read_token_bytes()) if not data]
