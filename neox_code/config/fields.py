"""The sections' fields by name, and the way of a YAML value into a field.

A configuration file is flat: each field's name is a key, and no two sections share one.

    FIELDS["hidden_size"].section                    # "model"
    converted(["a", "b"], tuple[str, ...])           # ("a", "b")
"""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from neox_code.config.data import DataConfig
from neox_code.config.generation import GenerationConfig
from neox_code.config.model import ModelConfig
from neox_code.config.optimizer import OptimizerConfig
from neox_code.config.parallelism import ParallelismConfig
from neox_code.config.training import TrainingConfig

SECTIONS: dict[str, Any] = {
    "model": ModelConfig,
    "parallelism": ParallelismConfig,
    "optimizer": OptimizerConfig,
    "data": DataConfig,
    "training": TrainingConfig,
    "generation": GenerationConfig,
}


@dataclass(frozen=True)
class Field:
    """One field of one section."""

    name: str
    section: str
    annotation: Any
    default: Any
    required: bool


def choices(name: str) -> tuple[Any, ...]:
    """The values that a field of a Literal type takes, in their order.

    >>> choices("heldout_split")
    ('valid', 'test')
    """
    return literal_values(FIELDS[name].annotation)


def literal_values(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(value for argument in get_args(annotation) for value in literal_values(argument))


def one_of(values: Sequence[Any]) -> str:
    """Values as a sentence lists them.

    >>> one_of(["adam", "sgd", "lion"]), one_of([1])
    ('adam, sgd or lion', '1')
    """
    return " or ".join(filter(None, [", ".join(map(str, values[:-1])), str(values[-1])]))


def fields_of(section: str) -> list[Field]:
    """A section's fields, in their order in the source."""
    return [described(section, field) for field in dataclasses.fields(SECTIONS[section])]


def described(section: str, field: "dataclasses.Field[Any]") -> Field:
    made = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
    required = made is dataclasses.MISSING
    return Field(field.name, section, field.type, None if required else made, required)


FIELDS: dict[str, Field] = {field.name: field for section in SECTIONS for field in fields_of(section)}
assert len(FIELDS) == sum(len(dataclasses.fields(section)) for section in SECTIONS.values()), "two sections share a field's name"


def converted(value: Any, annotation: Any) -> Any:
    """The value as the field's type. Raises ValueError with what was expected, to be read after "must be".

    >>> converted(3, float), converted("a", tuple[str, ...]), converted(None, int | None)
    (3.0, ('a',), None)
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        inner = next(argument for argument in arguments if argument is not NoneType)
        return None if value is None else converted(value, inner)
    if origin is Literal:
        return chosen(value, arguments)
    if origin is tuple:
        return listed(value, arguments)
    if origin is Mapping:
        return mapped(value)
    return SCALARS[annotation](value)


def chosen(value: Any, allowed: tuple[Any, ...]) -> Any:
    if isinstance(value, bool) or value not in allowed:
        raise ValueError(one_of(allowed))
    return value


def listed(value: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """A tuple of any length (`tuple[X, ...]`; a single X will do) or of a given one (`tuple[X, X]`)."""
    inner, any_length = arguments[0], arguments[-1] is Ellipsis
    if any_length and not isinstance(value, (list, tuple)):
        value = [] if value is None else [value]
    if not isinstance(value, (list, tuple)) or not (any_length or len(value) == len(arguments)):
        raise ValueError(f"a list of {len(arguments)}")
    try:
        return tuple(converted(item, inner) for item in value)
    except ValueError as error:
        raise ValueError(f"a list in which each entry is {error}") from None


def mapped(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError("a dictionary")
    return dict(value)


LARGEST = 2**63 - 1
LARGEST_FLOAT = 1e30
"""Larger numbers are mistakes, and sums of them overflow."""


def unquoted(expected: str, value: Any) -> ValueError:
    """The error of a value that is no number; text that spells one has quotes too many."""
    try:
        float(value if isinstance(value, str) else "")
    except ValueError:
        return ValueError(expected)
    return ValueError(f"{expected}, without quotes")


def whole_number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or value % 1 != 0:
        raise unquoted("a whole number", value)
    if abs(value) > LARGEST:
        raise ValueError("a whole number that 64 bits can hold")
    return int(value)


def number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise unquoted("a number", value)
    if abs(value) > LARGEST_FLOAT:
        raise ValueError(f"a number of at most {LARGEST_FLOAT:g}")
    return float(value)


def truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def text(value: Any) -> str:
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(value, str):
        raise ValueError("text: put it in quotes" if isinstance(value, (int, float)) else "text")
    return value


SCALARS = {int: whole_number, float: number, bool: truth, str: text}
