"""Convert settings (keys of files and options) to the fields of a configuration: check spelling, conflicts and types.

All problems are collected.

draft = Draft()
draft.add(setting)                       # from a file: a second, different value for the same field is a problem
draft.add(setting, replace=True)         # from the command line: it replaces the files' value
draft.values(), draft.problems
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from neox_code.config.deepspeed_settings import SettingProblem
from neox_code.config.fields import FIELDS, Field, convert
from neox_code.config.legacy_keys import (
    ALREADY_DONE,
    FIELDS_WITHOUT_MEANING,
    Assignment,
    NoEffect,
    NotBuilt,
    Requirement,
    find_rule,
    find_similar_keys,
)
from neox_code.config.spelling import format_suggestion
from neox_code.config.yaml_merge import Setting, parse_value

DEFAULT = "default"
"""The origin of a value that neither a file nor an option sets."""


@dataclass(frozen=True)
class Assigned:
    """A field's value, and its origin: the file and line or the option that set the value."""

    value: Any
    place: str
    as_written: str = ""
    """Key, value and place as the user wrote them, if the key or the value was converted; otherwise empty."""


@dataclass(frozen=True)
class IgnoredSetting:
    """A setting that has no effect, with the reason."""

    key: str
    value: Any
    place: str
    because: str
    is_changed: bool = False
    """True if the value is known to differ from the default."""

    @property
    def requests_feature(self) -> bool:
        """True if the ignored value requests a feature, so that the run differs from what the user asked for."""
        return self.because != ALREADY_DONE and (self.is_changed or self.value not in (None, False, 0, "", [], {}))


@dataclass
class Draft:
    """A configuration that is being read: the values of its fields, and the problems found so far."""

    assigned: dict[str, Assigned] = field(default_factory=dict)
    ignored: list[IgnoredSetting] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    refused: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> the settings that are refused for this reason, formatted for messages."""

    missing: list[str] = field(default_factory=list)
    """Messages about required fields without a value."""

    requirements: dict[str, tuple[str, Requirement]] = field(default_factory=dict)
    """Key -> the setting formatted for messages, and its requirement. Requirements are checked after all settings are read."""

    bad_fields: set[str] = field(default_factory=set)
    """Fields with a problem. Their values are not checked again."""

    def add(self, setting: Setting, replace: bool = False) -> None:
        """Apply the rule of a setting's key: store the value, a problem, or the reason why the setting has no effect."""
        rule = find_rule(setting.key)
        written = format_setting(setting.key, setting.value, setting.place)
        if rule is None:
            self.problems.append(format_unknown(setting))
        elif rule.refuses(setting.value):
            self.refuse(written, rule.refused)
        elif rule.read is None:
            because = rule.ignored or ALREADY_DONE
            self.ignored.append(IgnoredSetting(setting.key, setting.value, setting.place, because))
        else:
            try:
                meanings = list(rule.read(setting.value))
            except NotBuilt as error:
                self.refuse(written, str(error))
                return
            except ValueError as error:
                self.problems.append(f"{written} must be {error}.")
                self.bad_fields.add(setting.key)
                return
            self.requirements.pop(setting.key, None)
            for meaning in meanings:
                if isinstance(meaning, Assignment):
                    self.assign(meaning, setting, replace)
                elif isinstance(meaning, Requirement):
                    self.requirements[setting.key] = written, meaning
                elif isinstance(meaning, NoEffect):
                    name, place = f"{setting.key}.{meaning.inner}", setting.inner_places.get(meaning.inner, setting.place)
                    self.ignored.append(IgnoredSetting(name, meaning.value, place, meaning.because, meaning.is_changed))
                else:
                    self.problems.append(format_problem(meaning, setting))
                    self.bad_fields.update((setting.key, *(other.field for other in meanings if isinstance(other, Assignment))))
            if not meanings:
                self.ignored.append(IgnoredSetting(setting.key, setting.value, setting.place, ALREADY_DONE))

    def fill(self, settings: Iterable[Setting]) -> None:
        """Read settings of lower priority, which set only the fields without a value."""
        lower = Draft()
        for setting in settings:
            lower.add(setting)
        self.assigned = lower.assigned | self.assigned
        self.problems += lower.messages()

    def refuse(self, written: str, reason: str) -> None:
        self.refused.setdefault(reason, []).append(written)
        self.bad_fields.update(FIELDS_WITHOUT_MEANING.get(reason, ()))

    def assign(self, assignment: Assignment, setting: Setting, replace: bool) -> None:
        """Store a field's value. A second, different value is a problem unless `replace` is True."""
        place = setting.inner_places.get(assignment.inner, setting.place)
        target = FIELDS[assignment.field]
        name = f"{setting.key}.{assignment.inner}" if assignment.inner else setting.key
        as_written = format_setting(name, get_value_at(setting.value, assignment.inner, assignment.value), place)
        try:
            value = convert_to_field_type(target, assignment.value)
        except ValueError as error:
            self.problems.append(f"{as_written} must be {error}.")
            self.bad_fields.add(target.name)
            return
        before = self.assigned.get(target.name)
        if before and isinstance(value, Mapping):
            value, as_written = {**before.value, **value}, ""
        elif before and not replace and before.value != value:
            self.problems.append(f"{before.as_written} contradicts {as_written}. Remove one of them.")
            self.bad_fields.add(target.name)
        self.assigned[target.name] = Assigned(value, place, as_written)

    def values(self) -> dict[str, Any]:
        """Return a value for every field. A missing required field is recorded as a problem; for the checks its value is 1."""
        for name, known in FIELDS.items():
            if known.required and name not in self.assigned and name not in self.bad_fields:
                self.missing.append(f"{name} is missing. Set it in a configuration file, such as those in configs/.")
                self.bad_fields.add(name)
        return {name: self.assigned[name].value if name in self.assigned else get_default(known) for name, known in FIELDS.items()}

    def unmet_requirements(self) -> list[str]:
        """Return a message for each requirement that is not met."""
        values, origins = self.values(), self.origins()
        return [
            f"{written} {requirement.text} {self.format_field(requirement.field, values, origins)}. Make them agree."
            for written, requirement in self.requirements.values()
            if requirement.field not in self.bad_fields and values[requirement.field] != requirement.value
        ]

    def messages(self) -> list[str]:
        """Return the messages of all problems so far; settings refused for one reason share one message."""
        refusals = (format_refusal(settings, reason) for reason, settings in self.refused.items())
        return [*self.problems, *refusals, *self.missing, *self.unmet_requirements()]

    def format_field(self, name: str, values: Mapping[str, Any], origins: Mapping[str, str]) -> str:
        """Return a field with its value and origin, as the user wrote them if the user set it."""
        return self.as_written().get(name) or format_setting(name, values[name], origins[name])

    def as_written(self) -> dict[str, str]:
        """Return, for each field that the user set, key, value and place as the user wrote them."""
        return {name: given.as_written for name, given in self.assigned.items() if given.as_written and given.value is not None}

    def origins(self) -> dict[str, str]:
        return {name: self.assigned[name].place if name in self.assigned else DEFAULT for name in FIELDS}


def get_value_at(value: Any, inner: str, otherwise: Any) -> Any:
    """Return the value at a dotted name in nested dictionaries; `otherwise` if the name is not found.

    >>> get_value_at({"type": "SGD", "params": {"lr": 1}}, "params.lr", None), get_value_at(5, "", None)
    (1, 5)
    """
    for part in inner.split(".") if inner else ():
        if not isinstance(value, Mapping) or part not in value:
            return otherwise
        value = value[part]
    return value


def get_default(known: Field) -> Any:
    return 1 if known.required else known.default


def convert_to_field_type(target: Field, value: Any) -> Any:
    """Convert a value to the field's type; null becomes the default. Raise ValueError with the expected values."""
    if value is None and not target.required:
        return target.default
    return convert(value, target.annotation)


def format_refusal(settings: list[str], reason: str) -> str:
    """Return one message for all settings that are refused for a reason.

    >>> format_refusal(["a (1, x.yml:1)", "b (2, x.yml:2)", "c (3, x.yml:3)"], "X is not built. Remove it")
    'a (1, x.yml:1), b (2, x.yml:2) and c (3, x.yml:3) cannot be used: X is not built. Remove them.'
    """
    *rest, last = settings
    if not rest:
        return f"{last} cannot be used: {reason}."
    return f"{', '.join(rest)} and {last} cannot be used: {re.sub('(?<=[Rr]emove )it$', 'them', reason)}."


def format_unknown(setting: Setting) -> str:
    similar = find_similar_keys(setting.key)
    remedy = format_suggestion(similar) if similar else "configs/README.md lists all keys. Correct or remove it."
    return f"{format_setting(setting.key, setting.value, setting.place)} is an unknown key: {remedy}"


def format_problem(fault: SettingProblem, setting: Setting) -> str:
    place = setting.inner_places.get(fault.inner, setting.place)
    return f"{format_setting(f'{setting.key}.{fault.inner}', fault.value, place)} {fault.text}"


def format_setting(key: str, value: Any, place: str) -> str:
    """Format a key with its value and origin for a message.

    >>> format_setting("hidden_size", 770, "configs/mine.yml:12")
    'hidden_size (770, configs/mine.yml:12)'
    """
    return f"{key} ({shorten(format_value(value))}, {place})"


def shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def format_value(value: object) -> str:
    """Format a value as in a configuration file.

    >>> format_value((98.9, 0.1, 1.0)), format_value(None), format_value({"a": [1, "b"]}), format_value("\\n"), format_value("1e-4")
    ('[98.9, 0.1, 1.0]', 'null', '{a: [1, b]}', "'\\\\n'", "'1e-4'")
    """
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {format_value(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(format_value, value))}]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) and value.isprintable() and is_string_when_unquoted(value) else repr(value)


def is_string_when_unquoted(value: str) -> bool:
    """Return True if YAML reads the unquoted value as text. It reads `320000`, `true` and an empty value as other types."""
    try:
        return not isinstance(parse_value(value), (bool, int, float, type(None)))
    except yaml.YAMLError:
        return True
