"""The whole configuration: the sections together, merged from files and the command line.

    config = NeoXConfig.load(["configs/small.yml", "configs/local_setup.yml"], {"train_iters": 100})
    config.model.hidden_size, config.origins["hidden_size"]        # 768, 'configs/small.yml:9'

A part of the program takes its section; only what builds the parts sees the whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from neox_code.config.assembly import DEFAULT, Assigned, Draft, IgnoredSetting, shown
from neox_code.config.checks import problems_of
from neox_code.config.conditional_keys import without_effect
from neox_code.config.data import DataConfig
from neox_code.config.derive import BatchSizes, batch_arithmetic
from neox_code.config.fields import FIELDS, SECTIONS, fields_of
from neox_code.config.generation import GenerationConfig
from neox_code.config.legacy_keys import OPTIMIZER_PARAMETERS
from neox_code.config.model import ModelConfig
from neox_code.config.optimizer import OptimizerConfig
from neox_code.config.parallelism import ParallelismConfig
from neox_code.config.training import TrainingConfig
from neox_code.config.yaml_merge import Setting, read_settings
from neox_code.errors import ConfigError

OVERRIDE = "--set"
"""The origin of a value from the command line."""


@dataclass(frozen=True)
class NeoXConfig:
    """All sections, each value checked. Two are equal if their values are."""

    model: ModelConfig
    parallelism: ParallelismConfig
    optimizer: OptimizerConfig
    data: DataConfig
    training: TrainingConfig
    generation: GenerationConfig

    origins: Mapping[str, str] = field(compare=False)
    """Of each field: `FILE:LINE`, `--set`, or `default`."""

    sources: tuple[Path, ...] = field(compare=False)
    """The files, in their order; no two have the same name."""

    ignored: tuple[IgnoredSetting, ...] = field(compare=False)
    """Settings of the files that have no effect, each with the reason."""

    as_written: Mapping[str, str] = field(compare=False)
    """Of each field that was set: key, value and place as the user wrote them, as messages repeat them."""

    @classmethod
    def load(cls, paths: Sequence[str | Path], overrides: Mapping[str, Any] | None = None) -> "NeoXConfig":
        """The merged configuration of the files; `overrides` have the last word.

        Raises ConfigError with all problems of all files, a line each. What a file that cannot be read may set is not missed.
        """
        settings, problems = read_settings(paths)
        is_partial = bool(problems) and not {str(path) for path in paths} <= {setting.file for setting in settings}
        draft = Draft(problems=problems)
        for setting in settings:
            draft.take(setting)
        draft_overrides(draft, overrides or {})
        if is_partial:
            draft.bad_fields.update(FIELDS.keys() - draft.assigned.keys())
        return cls.from_draft(draft, tuple(map(Path, paths)))

    @classmethod
    def from_draft(cls, draft: Draft, sources: tuple[Path, ...]) -> "NeoXConfig":
        values, origins = draft.values(), draft.origins()
        found = problems_of(values, lambda name: draft.say(name, values, origins))
        sentences = [problem.text for problem in found if draft.bad_fields.isdisjoint(problem.fields)]
        problems = draft.sentences() + sentences
        if problems:
            raise ConfigError("\n".join(problems))
        for key, because in without_effect(values, draft.assigned):
            draft.ignored.append(IgnoredSetting(key, values[key], origins[key], because))
        sections = {name: kind(**{known.name: values[known.name] for known in fields_of(name)}) for name, kind in SECTIONS.items()}
        return cls(**sections, origins=origins, sources=sources, ignored=tuple(draft.ignored), as_written=draft.as_written())

    def replace(self, **keys: Any) -> "NeoXConfig":
        """The same with other values (flat keys), checked again; raises ConfigError."""
        given = {
            name: Assigned(value, self.origins[name], self.as_written.get(name, ""))
            for name, value in self.values().items()
            if self.origins[name] != DEFAULT
        }
        draft = Draft(given, [entry for entry in self.ignored if entry.key not in FIELDS])
        draft_overrides(draft, keys)
        return type(self).from_draft(draft, self.sources)

    def values(self) -> dict[str, Any]:
        """All fields by name, in the sections' order."""
        return {name: getattr(getattr(self, known.section), name) for name, known in FIELDS.items()}

    def to_yaml(self) -> str:
        """A configuration file in GPT-NeoX's keys that loads as an equal configuration."""
        keys = {name: plain(value) for name, value in self.values().items() if value is not None and value != () and value != {}}
        written = {name: value for name, value in keys.items() if name not in NESTED}
        allowed = OPTIMIZER_PARAMETERS[keys["optimizer_type"]]
        parameters = {name: written.pop(name) for name in allowed if name in written and name != "weight_decay"}
        written["optimizer"] = {"type": keys["optimizer_type"], "params": parameters}
        written["zero_optimization"] = {"stage": keys["zero_stage"], **keys.get("zero_optimization", {})}
        if "attention_config" in keys:
            written["attention_config"] = [[keys["attention_config"], "all"]]
        return yaml.safe_dump(written, sort_keys=False, allow_unicode=True)

    def said(self, key: str) -> str:
        """A key with its value and origin, as messages name it."""
        return self.as_written.get(key) or shown(key, self.values()[key], self.origins[key])

    def batch_sizes(self, data_parallel_size: int) -> BatchSizes:
        """The three batch sizes on so many data-parallel ranks; raises ConfigError where they do not come out even."""
        given = self.training
        try:
            return batch_arithmetic(
                given.train_batch_size, given.train_micro_batch_size_per_gpu, given.gradient_accumulation_steps, data_parallel_size
            )
        except ConfigError as error:
            places = [self.said(name) for name in BATCH_SIZES if getattr(given, name) is not None]
            raise ConfigError(f"{error} Given: {', '.join(places)}." if places else str(error)) from None

    def require_training(self, data: bool = True) -> None:
        """Raises ConfigError with everything that training needs and that is not set; its data may be left out."""
        missing = self.missing(TRAINING_NEEDS) + (self.missing_data() if data else [])
        if missing:
            raise ConfigError("\n".join(missing))

    def missing_data(self) -> list[str]:
        """The sentences of the DATA_NEEDS that are not met; CharLevelTokenizer reads no vocabulary."""
        needs = dict(DATA_NEEDS)
        if self.data.tokenizer_type == "CharLevelTokenizer":
            del needs["vocab_file",]
        return self.missing(needs)

    def missing(self, needs: Mapping[tuple[str, ...], str]) -> list[str]:
        """The sentences of the needs of which no field has a value."""
        values = self.values()
        return [sentence for names, sentence in needs.items() if not any(values[name] for name in names)]


BATCH_SIZES = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")

NESTED = ("optimizer_type", "zero_stage", "zero_optimization")
"""Fields that GPT-NeoX writes within a dictionary."""

LAUNCHER_SWITCHES = ("deepspeed_mpi", "deepspeed_slurm")
"""Keys that set `launcher`, each to another value."""

TRAINING_NEEDS = {
    ("lr",): "lr is missing. Set optimizer.params.lr, or --set lr=6e-4.",
    ("train_iters",): "train_iters is missing. Set the number of optimizer steps, or --set train_iters=1000.",
    ("train_batch_size", "train_micro_batch_size_per_gpu"): (
        "neither train_batch_size nor train_micro_batch_size_per_gpu is set. Set one of them."
    ),
}
"""Of what training cannot do without, any one of several fields, and what to say where none is set."""

DATA_NEEDS = {
    ("data_path", "train_data_paths"): (
        "training data: neither data_path nor train_data_paths is set. "
        "Add a file that says where it is, such as configs/local_setup.yml."
    ),
    ("vocab_file",): "vocab_file: it is not set. Set it to the vocabulary that the token files were made with.",
}


def draft_overrides(draft: Draft, overrides: Mapping[str, Any]) -> None:
    for key, value in overrides.items():
        top, _, inner = key.replace("-", "_").partition(".")
        for part in reversed(inner.split(".") if inner else []):
            value = {part: value}
        draft.take(Setting(top, value, OVERRIDE), replace=True)
    if all(overrides.get(key) is True for key in LAUNCHER_SWITCHES):
        pair = [shown(key, True, OVERRIDE) for key in LAUNCHER_SWITCHES]
        draft.problems.append(f"{pair[0]} and {pair[1]} exclude each other. Remove one of them.")


def plain(value: Any) -> Any:
    """The value in YAML's own types."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
