"""From settings to the values of the sections' fields: spelling, conflicts, types. Collects every problem it meets.

draft = Draft()
draft.take(setting)                      # a file's: two that contradict each other are a problem
draft.take(setting, replace=True)        # the command line's: has the last word
draft.values(), draft.problems
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from neox_code.config.deepspeed_settings import Fault
from neox_code.config.fields import FIELDS, Field, converted
from neox_code.config.legacy_keys import (
    ALREADY_DONE,
    SAYS_NOTHING,
    Assignment,
    Demand,
    NoEffect,
    NotBuilt,
    rule_of,
    similar_keys,
)
from neox_code.config.spelling import did_you_mean
from neox_code.config.yaml_merge import Setting, parse_value

DEFAULT = "default"
"""The origin of a value that no file and no option gave."""


@dataclass(frozen=True)
class Assigned:
    """A field's value and where it came from."""

    value: Any
    place: str
    as_written: str = ""
    """Key, value and place as the user wrote them, where the key or the value became another one; else empty."""


@dataclass(frozen=True)
class IgnoredSetting:
    """A setting that has no effect, and why."""

    key: str
    value: Any
    place: str
    because: str

    @property
    def asks_for_something(self) -> bool:
        """False where nothing would be different if the key had an effect."""
        return self.because != ALREADY_DONE and self.value not in (None, False, 0, "", [], {})


@dataclass
class Draft:
    """Fields that were given a value so far."""

    assigned: dict[str, Assigned] = field(default_factory=dict)
    ignored: list[IgnoredSetting] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    refused: dict[str, list[str]] = field(default_factory=dict)
    """Settings that cannot be used, by the reason."""

    missing: list[str] = field(default_factory=list)
    """Required fields that were not given."""

    demands: dict[str, tuple[str, Demand]] = field(default_factory=dict)
    """Of a key, as messages show it, what it demands of a field; judged when all are known."""

    bad_fields: set[str] = field(default_factory=set)
    """Fields of which a problem speaks already, so that checks of their values are left out."""

    def take(self, setting: Setting, replace: bool = False) -> None:
        """Reads a setting by its key's rule."""
        rule = rule_of(setting.key)
        said = shown(setting.key, setting.value, setting.place)
        if rule is None:
            self.problems.append(unknown(setting))
        elif rule.refuses(setting.value):
            self.refuse(said, rule.refused)
        elif rule.read is None:
            because = rule.ignored or ALREADY_DONE
            self.ignored.append(IgnoredSetting(setting.key, setting.value, setting.place, because))
        else:
            try:
                meanings = list(rule.read(setting.value))
            except NotBuilt as error:
                self.refuse(said, str(error))
                return
            except ValueError as error:
                self.problems.append(f"{said} must be {error}.")
                self.bad_fields.add(setting.key)
                return
            self.demands.pop(setting.key, None)
            for meaning in meanings:
                if isinstance(meaning, Assignment):
                    self.assign(meaning, setting, replace)
                elif isinstance(meaning, Demand):
                    self.demands[setting.key] = said, meaning
                elif isinstance(meaning, NoEffect):
                    name, place = f"{setting.key}.{meaning.inner}", setting.inner_places.get(meaning.inner, setting.place)
                    self.ignored.append(IgnoredSetting(name, meaning.value, place, meaning.because))
                else:
                    self.problems.append(faulty(meaning, setting))
                    self.bad_fields.update((setting.key, *(other.field for other in meanings if isinstance(other, Assignment))))
            if not meanings:
                self.ignored.append(IgnoredSetting(setting.key, setting.value, setting.place, ALREADY_DONE))

    def refuse(self, said: str, reason: str) -> None:
        self.refused.setdefault(reason, []).append(said)
        self.bad_fields.update(SAYS_NOTHING.get(reason, ()))

    def assign(self, assignment: Assignment, setting: Setting, replace: bool) -> None:
        place = setting.inner_places.get(assignment.inner, setting.place)
        target = FIELDS[assignment.field]
        name = f"{setting.key}.{assignment.inner}" if assignment.inner else setting.key
        as_written = shown(name, value_at(setting.value, assignment.inner, assignment.value), place)
        try:
            value = value_for(target, assignment.value)
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
        """A value for every field; a required one that was not given is a problem, and 1 stands in for it in the checks."""
        for name, known in FIELDS.items():
            if known.required and name not in self.assigned and name not in self.bad_fields:
                self.missing.append(f"{name} is missing. Set it in a configuration file, such as those in configs/.")
                self.bad_fields.add(name)
        return {name: self.assigned[name].value if name in self.assigned else default_of(known) for name, known in FIELDS.items()}

    def disappointed(self) -> list[str]:
        """The demands on fields that have another value."""
        values, origins = self.values(), self.origins()
        return [
            f"{said} {demand.says} {self.say(demand.field, values, origins)}. Make them agree."
            for said, demand in self.demands.values()
            if demand.field not in self.bad_fields and values[demand.field] != demand.value
        ]

    def sentences(self) -> list[str]:
        """All problems so far; what is refused for one reason is one sentence."""
        refusals = (refusal(settings, reason) for reason, settings in self.refused.items())
        return [*self.problems, *refusals, *self.missing, *self.disappointed()]

    def say(self, name: str, values: Mapping[str, Any], origins: Mapping[str, str]) -> str:
        """A field with its value and origin, as the user wrote them where the user did."""
        return self.as_written().get(name) or shown(name, values[name], origins[name])

    def as_written(self) -> dict[str, str]:
        """Fields whose key, value and place messages repeat as the user wrote them."""
        return {name: given.as_written for name, given in self.assigned.items() if given.as_written and given.value is not None}

    def origins(self) -> dict[str, str]:
        return {name: self.assigned[name].place if name in self.assigned else DEFAULT for name in FIELDS}


def value_at(value: Any, inner: str, otherwise: Any) -> Any:
    """The value at a dotted name within nested dictionaries; `otherwise` where a key of theirs is spelled in another way.

    >>> value_at({"type": "SGD", "params": {"lr": 1}}, "params.lr", None), value_at(5, "", None)
    (1, 5)
    """
    for part in inner.split(".") if inner else ():
        if not isinstance(value, Mapping) or part not in value:
            return otherwise
        value = value[part]
    return value


def default_of(known: Field) -> Any:
    return 1 if known.required else known.default


def value_for(target: Field, value: Any) -> Any:
    """The value as the field's type; null is the default. Raises ValueError with what was expected."""
    if value is None and not target.required:
        return target.default
    return converted(value, target.annotation)


def refusal(settings: list[str], reason: str) -> str:
    """One sentence for the settings that a reason speaks of.

    >>> refusal(["a (1, x.yml:1)", "b (2, x.yml:2)", "c (3, x.yml:3)"], "X is not built. Remove it")
    'a (1, x.yml:1), b (2, x.yml:2) and c (3, x.yml:3) cannot be used: X is not built. Remove them.'
    """
    *rest, last = settings
    if not rest:
        return f"{last} cannot be used: {reason}."
    return f"{', '.join(rest)} and {last} cannot be used: {re.sub('(?<=[Rr]emove )it$', 'them', reason)}."


def unknown(setting: Setting) -> str:
    similar = similar_keys(setting.key)
    remedy = did_you_mean(similar) if similar else "configs/README.md lists all keys. Correct or remove it."
    return f"{shown(setting.key, setting.value, setting.place)} is an unknown key: {remedy}"


def faulty(fault: Fault, setting: Setting) -> str:
    place = setting.inner_places.get(fault.inner, setting.place)
    return f"{shown(f'{setting.key}.{fault.inner}', fault.value, place)} {fault.says}"


def shown(key: str, value: Any, place: str) -> str:
    """A value and its origin, as messages name them.

    >>> shown("hidden_size", 770, "configs/mine.yml:12")
    'hidden_size (770, configs/mine.yml:12)'
    """
    return f"{key} ({shortened(written(value))}, {place})"


def shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def written(value: object) -> str:
    """A value as a configuration file has it, more or less.

    >>> written((98.9, 0.1, 1.0)), written(None), written(True), written({"a": [1, "b"]}), written("\\n"), written("1e-4")
    ('[98.9, 0.1, 1.0]', 'null', 'true', '{a: [1, b]}', "'\\\\n'", "'1e-4'")
    """
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {written(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(written, value))}]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) and value.isprintable() and is_text_without_quotes(value) else repr(value)


def is_text_without_quotes(value: str) -> bool:
    """Whether YAML takes it for text; `320000`, `true` and nothing at all it does not."""
    try:
        return not isinstance(parse_value(value), (bool, int, float, type(None)))
    except yaml.YAMLError:
        return True
