"""The sections' fields by name, and the conversion of YAML values to the fields' types.

A configuration file is flat: each field's name is a key, and no two sections have a field of the same name.

    FIELDS["hidden_size"].section                    # "model"
    convert(["a", "b"], tuple[str, ...])             # ("a", "b")
"""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from neox_code.config.adapter import AdapterConfig
from neox_code.config.data import DataConfig
from neox_code.config.evaluation import EvaluationConfig
from neox_code.config.finetuning import FinetuningConfig
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
    "finetuning": FinetuningConfig,
    "adapter": AdapterConfig,
    "generation": GenerationConfig,
    "evaluation": EvaluationConfig,
}


@dataclass(frozen=True)
class Field:
    """One field of one section."""

    name: str
    section: str
    annotation: Any
    default: Any
    required: bool


def list_choices(name: str) -> tuple[Any, ...]:
    """Return the values that a field of a Literal type accepts, in their order.

    >>> list_choices("heldout_split")
    ('valid', 'test')
    """
    return list_literal_values(FIELDS[name].annotation)


def list_literal_values(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(value for argument in get_args(annotation) for value in list_literal_values(argument))


def join_with_or(values: Sequence[Any]) -> str:
    """Join values with commas and "or" for a sentence.

    >>> join_with_or(["adam", "sgd", "lion"]), join_with_or([1])
    ('adam, sgd or lion', '1')
    """
    return " or ".join(filter(None, [", ".join(map(str, values[:-1])), str(values[-1])]))


def list_fields(section: str) -> list[Field]:
    """Return a section's fields, in their order in the source."""
    return [make_field(section, field) for field in dataclasses.fields(SECTIONS[section])]


def make_field(section: str, field: "dataclasses.Field[Any]") -> Field:
    made = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
    required = made is dataclasses.MISSING
    return Field(field.name, section, field.type, None if required else made, required)


FIELDS: dict[str, Field] = {field.name: field for section in SECTIONS for field in list_fields(section)}
assert len(FIELDS) == sum(len(dataclasses.fields(section)) for section in SECTIONS.values()), "two sections share a field's name"


def convert(value: Any, annotation: Any) -> Any:
    """Convert a value to a field's type. Raise ValueError with the expected values, which follow "must be" in a message.

    >>> convert(3, float), convert("a", tuple[str, ...]), convert(None, int | None)
    (3.0, ('a',), None)
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        inner = next(argument for argument in arguments if argument is not NoneType)
        return None if value is None else convert(value, inner)
    if origin is Literal:
        return check_choice(value, arguments)
    if origin is tuple:
        return convert_list(value, arguments)
    if origin is Mapping:
        return convert_dictionary(value)
    return SCALARS[annotation](value)


def check_choice(value: Any, allowed: tuple[Any, ...]) -> Any:
    if isinstance(value, bool) or value not in allowed:
        raise ValueError(join_with_or(allowed))
    return allowed[allowed.index(value)]


def convert_list(value: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Convert a value to a tuple. `tuple[X, ...]` has any length and accepts a single X; `tuple[X, X]` has a fixed length."""
    inner, any_length = arguments[0], arguments[-1] is Ellipsis
    if any_length and not isinstance(value, (list, tuple)):
        value = [] if value is None else [value]
    if not isinstance(value, (list, tuple)) or not (any_length or len(value) == len(arguments)):
        raise ValueError(f"a list of {len(arguments)}")
    try:
        return tuple(convert(item, inner) for item in value)
    except ValueError as error:
        raise ValueError(f"a list in which each entry is {error}") from None


def convert_dictionary(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError("a dictionary")
    return {key: to_plain_numbers(item) for key, item in value.items()}


def to_plain_numbers(value: Any) -> Any:
    """Return the value with each float converted to a plain `float`; floats read from YAML also hold their text."""
    if isinstance(value, Mapping):
        return {key: to_plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_plain_numbers(item) for item in value]
    return float(value) if isinstance(value, float) else value


LARGEST = 2**63 - 1
LARGEST_FLOAT = 1e30
"""Greatest number that is accepted. Sums of larger numbers overflow."""


def make_number_error(expected: str, value: Any) -> ValueError:
    """Return the error for a value that is not a number. It mentions the quotes if the value is a number in quotes."""
    try:
        float(value if isinstance(value, str) else "")
    except ValueError:
        return ValueError(expected)
    return ValueError(f"{expected}, without quotes")


def convert_int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or value % 1 != 0:
        raise make_number_error("a whole number", value)
    if abs(value) > LARGEST:
        raise ValueError("a whole number that 64 bits can hold")
    return int(value)


def convert_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise make_number_error("a number", value)
    if abs(value) > LARGEST_FLOAT:
        raise ValueError(f"a number of at most {LARGEST_FLOAT:g}")
    return float(value)


def convert_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def convert_text(value: Any) -> str:
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(value, str):
        raise ValueError("text: put it in quotes" if isinstance(value, (int, float)) else "text")
    return value


SCALARS = {int: convert_int, float: convert_float, bool: convert_bool, str: convert_text}
