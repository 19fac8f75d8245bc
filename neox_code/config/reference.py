"""Generate the reference of all keys from the fields and rules: configs/README.md, and configs/schema.json for editors.

Path("configs/README.md").write_text(make_readme())
Path("configs/schema.json").write_text(make_schema_text())
"""

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from neox_code.config.assembly import format_value
from neox_code.config.checks import RANGES, ValueRange
from neox_code.config.deepspeed_settings import BF16, FP16, OTHERS, ZERO
from neox_code.config.fields import FIELDS, SECTIONS, Field, list_fields
from neox_code.config.former_keys import RENAMED, SWITCHED
from neox_code.config.legacy_keys import KEYS, OPTIMIZER_PARAMETERS, PARAMETERS_OF_THEIR_OWN, PREFIXES, Rule

MADE_BY = "python tools/describe_config.py"

INTRODUCTION = f"""\
# Configuration files

Flat YAML (or JSON) in GPT-NeoX's keys. Any number of files make one configuration; none may repeat another's key, and
`--set key=value` replaces their values. `-` and `_` are the same in a key. `null` is the default. An editor with a YAML language
server completes and checks the keys by [schema.json](schema.json); `--dry-run` checks the whole configuration.

| file | content |
|---|---|
| `small` `medium` `large` `XL` `2-7B` | a model's size and its training, as PolyCoder's |
| `modern-160M` `modern-405M` `modern-2-7B` | Qwen3's block in three sizes, trained by Muon; `convert` writes Qwen3 |
| `modern` | the same without a size: add `--set size=160M`, `budget_hours` or `budget_flops` |
| `local_setup` | paths of data and checkpoints |
| `polycoder` | the same, with PolyCoder's own vocabulary |
| `text_generation` | settings of `generate` |
| `quickstart` | the model of `./deepy.py quickstart` |

This page and the schema are generated from the fields in `neox_code/config/` by `{MADE_BY}`.
"""

DICTIONARIES = {
    "attention_config": (
        "GPT-NeoX's list of layer kinds, `[[[global], 12]]`. `global` and `flash` differ in `apply_query_key_layer_scaling` alone."
    ),
    "bf16": "DeepSpeed's dictionary; `enabled: true` is `precision: bfloat16`.",
    "deepspeed_extra_args": "A dictionary of DeepSpeed's other settings; each is read as at the top level.",
    "checkpoint": "DeepSpeed's dictionary: `tag_validation` and `parallel_write`.",
    **{key: f"Former name of `{field}`." for key, field in RENAMED.items()},
    **{key: f"`true` is `{field}: {format_value(value)}`." for key, (field, value) in SWITCHED.items()},
    "fp16": "DeepSpeed's dictionary; `enabled: true` is `precision: fp16`, the rest are the loss scale's settings.",
    "fp32_allreduce": "`true` adds gradients of different ranks in fp32.",
    "optimizer": (
        "`{type: ..., params: {...}}`; see the section optimizer for their values. `params.max_grad_norm` is `gradient_clipping`."
    ),
    "split": "Up to three shares, `969, 30, 1` or a list; missing shares are 0.",
    "zero_optimization": "DeepSpeed's dictionary; `stage` is 0 to 3.",
}
"""Key that is a dictionary, or has another form than its field -> its meaning."""


def make_readme() -> str:
    """Return the text of configs/README.md."""
    parts = [INTRODUCTION]
    for section in SECTIONS:
        rows = [
            make_field_row(field, read_explanations(section)[field.name])
            for field in list_fields(section)
            if field.name not in DICTIONARIES
        ]
        parts.append(
            f"## {section.capitalize()}\n\n| key | value | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
        )
    rules = {**KEYS, **{f"{prefix}*": rule for prefix, rule in PREFIXES.items()}}
    parts.append(
        "## Dictionaries and other spellings\n\n| key | meaning |\n|---|---|\n"
        + "".join(f"| `{key}` | {meaning} |\n" for key, meaning in sorted(DICTIONARIES.items()))
        + f"\nChecked, and passed on to DeepSpeed: {', '.join(f'`{key}`' for key in sorted(OTHERS))}.\n"
    )
    parts.append("## Accepted, without effect\n\n| keys | because |\n|---|---|\n" + make_reason_rows(rules, "ignored"))
    parts.append(
        "## Refused\n\nA value that requests no feature (`false`, `null`, `enabled: false`) is accepted.\n\n"
        "| keys | because |\n|---|---|\n" + make_reason_rows(rules, "refused")
    )
    return "\n".join(parts)


def make_field_row(field: Field, meaning: str) -> str:
    default = "needed" if field.required else f"`{format_value(field.default)}`" if field.default not in (None, (), {}) else ""
    return f"| `{field.name}` | {format_cell(format_type(field))} | {format_cell(default)} | {format_cell(meaning)} |"


def format_cell(text: str) -> str:
    return text.replace("|", "\\|")


def make_reason_rows(rules: Mapping[str, Rule], attribute: str) -> str:
    reasons: dict[str, list[str]] = {}
    for key, rule in sorted(rules.items()):
        if getattr(rule, attribute):
            reasons.setdefault(getattr(rule, attribute), []).append(f"`{key}`")
    return "".join(f"| {' '.join(keys)} | {because} |\n" for because, keys in reasons.items())


def read_explanations(section: str) -> dict[str, str]:
    """Return the docstring under each field of a section, on one line."""
    [body] = ast.parse(textwrap.dedent(inspect.getsource(SECTIONS[section]))).body
    assert isinstance(body, ast.ClassDef)
    return dict(read_docstrings(body))


def read_docstrings(body: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant), f"{field.target.id} has no docstring"
            yield field.target.id, " ".join(str(text.value.value).split())


def format_type(field: Field) -> str:
    """Return the type and range of a field's values, in words."""
    kind = drop_none(field.annotation)
    inner, many = (get_args(kind)[0], " list") if get_origin(kind) is tuple else (kind, "")
    value_range = f", {RANGES[field.name]}" if field.name in RANGES else ""
    if get_origin(inner) is Literal:
        return " ".join(f"`{choice}`" for choice in get_args(inner))
    names = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    return names.get(inner, "dictionary") + many + value_range


def drop_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        return next(argument for argument in get_args(annotation) if argument is not NoneType)
    return annotation


# ---- the JSON schema


def make_schema_text() -> str:
    """Return the text of configs/schema.json."""
    return json.dumps(make_schema(), indent=1, ensure_ascii=False) + "\n"


def make_schema() -> dict[str, Any]:
    """Return a JSON schema (draft 7) of one configuration file, in which every key is optional."""
    meanings = {name: text for section in SECTIONS for name, text in read_explanations(section).items()}
    properties = {key: make_key_schema(key, rule, meanings) for key, rule in KEYS.items()}
    dashed = {key.replace("_", "-"): {"$ref": f"#/properties/{key}"} for key in properties if "_" in key}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "neox-code configuration",
        "type": "object",
        "definitions": {"nothing": NOTHING},
        "properties": {**properties, **dashed},
        "patternProperties": {f"^{prefix.replace('_', '[-_]')}": make_reason_schema(rule) for prefix, rule in PREFIXES.items()},
        "additionalProperties": False,
    }


def make_key_schema(key: str, rule: Rule, meanings: Mapping[str, str]) -> dict[str, Any]:
    """Return the schema of a key's value. It contains the key's meaning, or the reason why the key is refused."""
    if key in BUILT_SCHEMAS:
        return {"description": DICTIONARIES[key], **BUILT_SCHEMAS[key]}
    if key in OTHERS:
        return make_passed_on_schema(OTHERS[key])
    if key in FIELDS:
        field = FIELDS[key]
        default = {} if field.required or field.default in (None, (), {}) else {"default": make_json_value(field.default)}
        kinds = make_type_schema(field.annotation, RANGES.get(key))
        return {"description": meanings[key], **default, **(kinds if field.required else accept_null(kinds))}
    return make_reason_schema(rule)


def make_reason_schema(rule: Rule) -> dict[str, Any]:
    if rule.refused:
        if not any(value is False for value in rule.harmless):
            return {"description": f"Refused: {rule.refused}.", "enum": [*rule.harmless, {}, [], ""]}
        own = [value for value in rule.harmless if value is not None and value is not False]
        nothing = [{"$ref": "#/definitions/nothing"}, *([{"enum": own}] if own else [])]
        return {"description": f"Refused: {rule.refused}.", "anyOf": nothing}
    assert rule.ignored
    return {"description": f"No effect: {rule.ignored}."}


def make_passed_on_schema(kind: Any) -> dict[str, Any]:
    if isinstance(kind, Mapping):
        kinds = make_deepspeed_schema(kind)
    else:
        kinds = {"enum": [*get_args(kind), None, "auto"]} if get_origin(kind) is Literal else {}
    return {"description": "Checked, and passed on to DeepSpeed.", **kinds}


def make_type_schema(annotation: Any, value_range: ValueRange | None) -> dict[str, Any]:
    """Return the schema of a field's type, with the bounds of its range."""
    kind = drop_none(annotation)
    if get_origin(kind) is Literal:
        return {"enum": list(get_args(kind))}
    if get_origin(kind) is tuple:
        item = make_type_schema(get_args(kind)[0], value_range)
        if get_args(kind)[-1] is not Ellipsis:
            return {"type": "array", "items": item, "minItems": len(get_args(kind)), "maxItems": len(get_args(kind))}
        return {"anyOf": [{"type": "array", "items": item}, item]}
    types = {int: "integer", float: "number", bool: "boolean", str: "string"}
    return {"type": types.get(kind, "object"), **(make_bounds(value_range) if value_range else {})}


def make_bounds(value_range: ValueRange) -> dict[str, float]:
    """Return the bounds of a range under the keywords of JSON schema.

    >>> make_bounds(ValueRange(0, 1, open_low=True))
    {'exclusiveMinimum': 0, 'maximum': 1}
    """
    low = {"exclusiveMinimum" if value_range.open_low else "minimum": value_range.low}
    return (
        low
        if value_range.high == float("inf")
        else {**low, "exclusiveMaximum" if value_range.open_high else "maximum": value_range.high}
    )


def accept_null(kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema that also accepts null, which is the default."""
    if "enum" in kinds:
        return {"enum": [*kinds["enum"], None]}
    if "anyOf" in kinds:
        return {"anyOf": [*kinds["anyOf"], {"type": "null"}]}
    return {**kinds, "type": [kinds["type"], "null"]}


def make_json_value(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def make_any_case_pattern(words: list[str]) -> str:
    """Return a pattern that matches the words in upper and lower case.

    >>> make_any_case_pattern(["sgd", "lion"])
    '^([sS][gG][dD]|[lL][iI][oO][nN])$'
    """
    return f"^({'|'.join(re.sub('[a-z]', lambda letter: f'[{letter[0]}{letter[0].upper()}]', word) for word in words)})$"


def make_deepspeed_schema(known: Mapping[str, Any], **own: Any) -> dict[str, Any]:
    """Return the schema of one of DeepSpeed's dictionaries. `own` has the schemas of keys that this project adds to the dictionary.

    >>> make_deepspeed_schema({"loss_scale": float}, enabled={"type": "boolean"})["properties"]
    {'enabled': {'type': 'boolean'}, 'loss_scale': {}}
    """
    theirs = {name: make_deepspeed_schema(kind) if isinstance(kind, Mapping) else {} for name, kind in known.items()}
    return {**OBJECT_OR_NULL, "properties": {**own, **theirs}, "additionalProperties": False}


OBJECT_OR_NULL: dict[str, Any] = {"type": ["object", "null"]}

OBJECT_OR_SWITCH: dict[str, Any] = {"type": ["object", "boolean", "null"]}

NOTHING = {
    "anyOf": [
        {"enum": [None, False, {}, [], ""]},
        {"type": "object", "properties": {"enabled": {"const": False}}, "required": ["enabled"]},
    ]
}
"""Schema of the values that request no feature. They are accepted for every refused key."""

ENABLED = {"type": ["boolean", "null"]}

BUILT_SCHEMAS: dict[str, dict[str, Any]] = {
    "attention_config": {"type": ["array", "null"]},
    "checkpoint": OBJECT_OR_NULL,
    "bf16": make_deepspeed_schema(BF16, enabled=ENABLED) | OBJECT_OR_SWITCH,
    "deepspeed_extra_args": OBJECT_OR_NULL,
    **{key: {"$ref": f"#/properties/{field}"} for key, field in RENAMED.items()},
    **{key: {"type": ["boolean", "null"]} for key in SWITCHED},
    "fp16": make_deepspeed_schema(FP16, enabled=ENABLED, fp16={}, type={}) | OBJECT_OR_SWITCH,
    "fp32_allreduce": {"type": ["boolean", "null"]},
    "optimizer": {
        **OBJECT_OR_NULL,
        "properties": {
            "type": {"type": "string", "pattern": make_any_case_pattern([*OPTIMIZER_PARAMETERS, "cpu_torch_adam"])},
            "params": {
                "type": "object",
                "properties": {
                    name: make_type_schema(FIELDS[name].annotation, RANGES.get(name))
                    for names in OPTIMIZER_PARAMETERS.values()
                    for name in names
                }
                | {name: {"$ref": f"#/properties/{field}"} for name, field in PARAMETERS_OF_THEIR_OWN.items()},
            },
        },
        "additionalProperties": False,
    },
    "split": {"type": ["string", "array", "number", "null"]},
    "zero_optimization": make_deepspeed_schema(ZERO, stage={"enum": [0, 1, 2, 3, None]}),
}
