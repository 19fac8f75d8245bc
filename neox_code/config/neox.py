"""The whole configuration: all sections, merged from the files and the command line.

    config = NeoXConfig.load(["configs/small.yml", "configs/local_setup.yml"], {"train_iters": 100})
    config.model.hidden_size, config.origins["hidden_size"]        # 768, 'configs/small.yml:9'

A component takes its section; only the code that builds the components takes the whole configuration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from neox_code.config.adapter import AdapterConfig
from neox_code.config.assembly import DEFAULT, Assigned, Draft, IgnoredSetting, format_setting
from neox_code.config.checks import find_value_problems
from neox_code.config.conditional_keys import find_keys_without_effect
from neox_code.config.data import DataConfig
from neox_code.config.derive import BatchSizes, derive_batch_sizes
from neox_code.config.evaluation import EvaluationConfig
from neox_code.config.fields import FIELDS, SECTIONS, list_fields
from neox_code.config.finetuning import FinetuningConfig
from neox_code.config.generation import GenerationConfig
from neox_code.config.legacy_keys import OPTIMIZER_PARAMETERS
from neox_code.config.model import ModelConfig
from neox_code.config.optimizer import OptimizerConfig
from neox_code.config.parallelism import ParallelismConfig
from neox_code.config.sizes import SIZED_BY, SIZING, list_keys_without_use, plan_sizes
from neox_code.config.training import TrainingConfig
from neox_code.config.yaml_merge import Setting, read_settings
from neox_code.errors import ConfigError

OVERRIDE = "--set"
"""The origin of a value from the command line."""


@dataclass(frozen=True)
class NeoXConfig:
    """All sections of a configuration, with checked values. Two configurations are equal if their values are equal."""

    model: ModelConfig
    parallelism: ParallelismConfig
    optimizer: OptimizerConfig
    data: DataConfig
    training: TrainingConfig
    finetuning: FinetuningConfig
    adapter: AdapterConfig
    generation: GenerationConfig
    evaluation: EvaluationConfig

    origins: Mapping[str, str] = field(compare=False)
    """Field -> its origin: `FILE:LINE`, `--set` or another option, or `default`."""

    sources: tuple[Path, ...] = field(compare=False)
    """The files, in their order; no two have the same name."""

    ignored: tuple[IgnoredSetting, ...] = field(compare=False)
    """Settings of the files that have no effect, each with the reason."""

    as_written: Mapping[str, str] = field(compare=False)
    """Field that was set -> key, value and place as the user wrote them, for messages."""

    @classmethod
    def load(
        cls,
        paths: Sequence[str | Path],
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, str] | None = None,
        beneath: Sequence[Setting] = (),
    ) -> "NeoXConfig":
        """Return the merged configuration of the files. `overrides` replace values; `beneath` sets the fields without a value.

        `options` names, for each override that does not come from `--set`, the option that set it.
        Raise ConfigError with all problems of all files, one line each. If a file cannot be read, missing fields are not reported.
        """
        settings, problems = read_settings(paths)
        is_partial = bool(problems) and not {str(path) for path in paths} <= {setting.file for setting in settings}
        draft = Draft(problems=problems)
        for setting in settings:
            draft.add(setting)
        add_overrides(draft, overrides or {}, options or {})
        draft.fill(beneath)
        fill_sizes(draft)
        if is_partial:
            draft.bad_fields.update(FIELDS.keys() - draft.assigned.keys())
        return cls.from_draft(draft, tuple(map(Path, paths)))

    @classmethod
    def from_draft(cls, draft: Draft, sources: tuple[Path, ...]) -> "NeoXConfig":
        """Return the configuration of a draft; raise ConfigError with all its problems."""
        values, origins = draft.values(), draft.origins()
        found = find_value_problems(values, lambda name: draft.format_field(name, values, origins))
        messages = [problem.text for problem in found if draft.bad_fields.isdisjoint(problem.fields)]
        problems = draft.messages() + messages
        if problems:
            raise ConfigError("\n".join(problems))
        already = {entry.key for entry in draft.ignored}
        for key, because in find_keys_without_effect(values, draft.assigned):
            if key in already:
                continue
            field, _, inner = key.partition(".")
            value = values[field][inner] if inner else values[field]
            draft.ignored.append(IgnoredSetting(key, value, origins[field], because))
        sections = {
            name: kind(**{known.name: values[known.name] for known in list_fields(name)}) for name, kind in SECTIONS.items()
        }
        return cls(**sections, origins=origins, sources=sources, ignored=tuple(draft.ignored), as_written=draft.as_written())

    def replace(self, origin: str = OVERRIDE, **keys: Any) -> "NeoXConfig":
        """Return a checked copy with other values, given by flat keys. Raise ConfigError if a value is not valid."""
        given = {
            name: Assigned(value, self.origins[name], self.as_written.get(name, ""))
            for name, value in self.values().items()
            if self.origins[name] != DEFAULT
        }
        draft = Draft(given, [entry for entry in self.ignored if entry.key not in FIELDS])
        add_overrides(draft, keys, dict.fromkeys(keys, origin))
        return type(self).from_draft(draft, self.sources)

    def values(self) -> dict[str, Any]:
        """Return all fields by name, in the sections' order."""
        return {name: getattr(getattr(self, known.section), name) for name, known in FIELDS.items()}

    def to_yaml(self) -> str:
        """Return the text of a configuration file in GPT-NeoX's keys that loads as an equal configuration."""
        keys = {name: to_yaml(value) for name, value in self.values().items() if value is not None and value != () and value != {}}
        written = {name: value for name, value in keys.items() if name not in NESTED}
        allowed = OPTIMIZER_PARAMETERS[keys["optimizer_type"]]
        parameters = {name: written.pop(name) for name in allowed if name in written and name != "weight_decay"}
        written["optimizer"] = {"type": keys["optimizer_type"], "params": parameters}
        written["zero_optimization"] = {"stage": keys["zero_stage"], **keys.get("zero_optimization", {})}
        if "attention_config" in keys:
            written["attention_config"] = [[keys["attention_config"], "all"]]
        return yaml.safe_dump(written, sort_keys=False, allow_unicode=True)

    def format_key(self, key: str) -> str:
        """Return a key with its value and origin, for messages."""
        return self.as_written.get(key) or format_setting(key, self.values()[key], self.origins[key])

    def batch_sizes(self, data_parallel_size: int) -> BatchSizes:
        """Return the three batch sizes for a number of data-parallel ranks; raise ConfigError if they do not divide evenly."""
        given = self.training
        try:
            sizes = derive_batch_sizes(
                given.train_batch_size, given.train_micro_batch_size_per_gpu, given.gradient_accumulation_steps, data_parallel_size
            )
        except ConfigError as error:
            places = [self.format_key(name) for name in BATCH_SIZES if getattr(given, name) is not None]
            raise ConfigError(f"{error} Given: {', '.join(places)}." if places else str(error)) from None
        if given.rampup_batch_size is not None:
            self.check_rampup(sizes, given.rampup_batch_size, data_parallel_size)
        return sizes

    def check_rampup(self, sizes: BatchSizes, rampup: tuple[int, int, int], data_parallel_size: int) -> None:
        """Raise ConfigError unless every batch size of the warm-up is a multiple of the micro batches of all ranks."""
        first, increment, samples = rampup
        shown, step = self.format_key("rampup_batch_size"), sizes.micro_batch_size * data_parallel_size
        if not 0 < first < sizes.train_batch_size or increment < 1 or samples < 1 or (sizes.train_batch_size - first) % increment:
            raise ConfigError(
                f"{shown} must be a first size below train_batch_size {sizes.train_batch_size}, an increment that divides the "
                "difference, and a number of samples above 0."
            )
        if first % step or increment % step:
            raise ConfigError(
                f"{shown}: first size and increment must be multiples of train_micro_batch_size_per_gpu * data-parallel ranks = "
                f"{sizes.micro_batch_size} * {data_parallel_size} = {step}. Change them, or lower the micro batch."
            )

    def require_training_keys(self, data: bool = True) -> None:
        """Raise ConfigError with all missing settings that training needs. With `data`, data settings are checked too."""
        missing = self.find_missing(TRAINING_NEEDS) + (self.find_missing_data() if data else [])
        if missing:
            raise ConfigError("\n".join(missing))

    def for_finetuning(self) -> "NeoXConfig":
        """Return the configuration of a fine-tuning: it loads only weights, and rows that share a sample are separated."""
        is_packed = self.finetuning.pack_rows
        return self.replace("finetune", finetune=True, reset_attention_mask=is_packed, reset_position_ids=is_packed)

    def require_finetuning_keys(self) -> None:
        """Raise ConfigError with all missing settings that fine-tuning needs."""
        if missing := self.find_missing(FINETUNING_NEEDS):
            raise ConfigError("\n".join(missing))

    def find_missing_data(self) -> list[str]:
        """Return a message for each missing setting of the training data."""
        return self.find_missing(DATA_NEEDS) + self.find_missing_vocabulary()

    def find_missing_vocabulary(self) -> list[str]:
        """Return a message if no vocabulary is set. CharLevelTokenizer needs none."""
        return [] if self.data.tokenizer_type == "CharLevelTokenizer" else self.find_missing(VOCABULARY_NEEDS)

    def find_missing(self, needs: Mapping[tuple[str, ...], str]) -> list[str]:
        """Return the message of each need (alternative fields -> message) for which no field has a value."""
        values = self.values()
        return [message for names, message in needs.items() if not any(values[name] for name in names)]


BATCH_SIZES = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")

NESTED = ("optimizer_type", "zero_stage", "zero_optimization")
"""Fields that GPT-NeoX's files store inside a dictionary."""

LAUNCHER_SWITCHES = ("deepspeed_mpi", "deepspeed_slurm")
"""Former keys that set `launcher`."""

TRAINING_NEEDS: dict[tuple[str, ...], str] = {
    ("lr",): "lr is missing. Set optimizer.params.lr, or --set lr=6e-4.",
    ("train_iters",): "train_iters is missing. Set the number of optimizer steps, or --set train_iters=1000.",
    ("train_batch_size", "train_micro_batch_size_per_gpu"): (
        "neither train_batch_size nor train_micro_batch_size_per_gpu is set. Set one of them."
    ),
}
"""Alternative fields, of which training needs one -> the message if none is set."""

FINETUNING_NEEDS: dict[tuple[str, ...], str] = {
    ("lr",): TRAINING_NEEDS["lr",],
    ("train_iters", "num_epochs"): "neither num_epochs nor train_iters is set. Set one of them, such as --set num_epochs=3.",
    ("train_batch_size", "train_micro_batch_size_per_gpu"): TRAINING_NEEDS["train_batch_size", "train_micro_batch_size_per_gpu"],
    ("load",): "no base model is set. Name its folder before the configuration files, or set load to it.",
    ("train_rows",): "train_rows is missing. Set it to files of rows, such as --set train_rows=rows.jsonl.",
}
"""The same for fine-tuning."""

NEEDS = {"train": TRAINING_NEEDS, "finetune": FINETUNING_NEEDS}
"""The same by command."""

DATA_NEEDS: dict[tuple[str, ...], str] = {
    ("data_path", "train_data_paths"): (
        "training data: neither data_path nor train_data_paths is set. Add a file that sets one, such as configs/local_setup.yml."
    ),
}

VOCABULARY_NEEDS: dict[tuple[str, ...], str] = {
    ("vocab_file",): "vocab_file: it is not set. Set it to the vocabulary that the token files were made with.",
}


def add_overrides(draft: Draft, overrides: Mapping[str, Any], options: Mapping[str, str]) -> None:
    for key, value in overrides.items():
        top, _, inner = key.replace("-", "_").partition(".")
        for part in reversed(inner.split(".") if inner else []):
            value = {part: value}
        draft.add(Setting(top, value, options.get(key, OVERRIDE)), replace=True)
    if all(overrides.get(key) is True for key in LAUNCHER_SWITCHES):
        pair = [format_setting(key, True, OVERRIDE) for key in LAUNCHER_SWITCHES]
        draft.problems.append(f"{pair[0]} and {pair[1]} exclude each other. Remove one of them.")


def fill_sizes(draft: Draft) -> None:
    """Set the fields that follow from `size` or a budget and have no value; the origin of each is its rule."""
    given = {name: assigned.value for name, assigned in draft.assigned.items()}
    if not any(given.get(key) for key in SIZING):
        return
    try:
        is_wrong = any(isinstance(value, int | float) and value <= 0 and value is not False for value in map(given.get, SIZED_BY))
        planned = None if is_wrong or draft.bad_fields else plan_sizes(given)
    except ConfigError as error:
        draft.problems.append(str(error))
        planned = None
    if planned is None:
        draft.bad_fields.update({"num_layers", "hidden_size", "num_attention_heads", "max_position_embeddings"} - given.keys())
        return
    draft.assigned |= {name: Assigned(each.value, each.rule) for name, each in planned.items()}
    for key, because in list_keys_without_use(given, planned):
        draft.ignored.append(IgnoredSetting(key, given[key], draft.assigned[key].place, because))


def to_yaml(value: Any) -> Any:
    """Return the value in YAML's own types: dictionaries and lists."""
    if isinstance(value, Mapping):
        return {key: to_yaml(inner) for key, inner in value.items()}
    return [to_yaml(inner) for inner in value] if isinstance(value, (list, tuple)) else value
