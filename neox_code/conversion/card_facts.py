"""Facts for a model card that no run records: a YAML file of `convert --card`.

base_model: microsoft/phi-1_5          # name of the base on the Hub
base_license: mit
license: mit                           # of the published weights
datasets: [JetBrains/KStack]           # names of the training data on the Hub
labelling_cost: 12 USD (gpt-4.1, 100,000 descriptions)
before: results/before                 # figures of `evaluate`: a file, or a folder of JSON files
after: results/after
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from neox_code.config.yaml_merge import parse_value
from neox_code.errors import ConfigError, DataError
from neox_code.files import read_bounded, read_json

TEXTS = ("base_model", "base_license", "license", "labelling_cost", "before", "after")
KEYS = ("datasets", *TEXTS)


@dataclass(frozen=True)
class CardFacts:
    base_model: str | None = None
    base_license: str | None = None
    license: str | None = None
    datasets: tuple[str, ...] = ()
    labelling_cost: str | None = None
    comparison: tuple[tuple[str, float, float], ...] = ()
    """Name, value before and value after of each figure that both results have."""


NO_FACTS = CardFacts()


def load_card_facts(path: Path) -> CardFacts:
    """Return the facts of a YAML file. Raise ConfigError for an unknown key or a value of another type, DataError for results."""
    try:
        content = parse_value(read_bounded(path).decode())
    except (DataError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"--card {path} cannot be read: {' '.join(str(error).split())}. Correct the path or the file.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"--card {path} has no keys and values. Keys: {', '.join(KEYS)}.")
    if unknown := sorted(str(key) for key in content if key not in KEYS):
        raise ConfigError(f"{path}: {unknown[0]} is no key of a card. Keys: {', '.join(sorted(KEYS))}.")
    names = content.get("datasets", [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: datasets ({names!r:.60}) must be a list of names.")
    for key, value in content.items():
        is_text = isinstance(value, (str, int, float)) and not isinstance(value, bool) and str(value).strip()
        if key in TEXTS and not is_text:
            raise ConfigError(f"{path}: {key} ({value!r:.60}) must be a text.")
    texts = {key: str(value) for key, value in content.items() if key in TEXTS}
    before, after = texts.pop("before", None), texts.pop("after", None)
    if (before is None) != (after is None):
        raise ConfigError(f"{path}: before and after belong together. Add the other one.")
    comparison = compare_figures(before, after) if before and after else ()
    return CardFacts(**texts, datasets=tuple(names), comparison=comparison)


def compare_figures(before: str, after: str) -> tuple[tuple[str, float, float], ...]:
    """Return the figures that two results of `evaluate` share. Raise DataError if there are none."""
    first, second = read_figures(Path(before)), read_figures(Path(after))
    if not (rows := tuple((name, value, second[name]) for name, value in first.items() if name in second)):
        raise DataError(f"before ({before}) and after ({after}) have no figure in common. Name results of `evaluate` of one task.")
    return rows


def read_figures(path: Path) -> dict[str, float]:
    """Return name -> value of the figures in a result of `evaluate`, or in the results in a folder."""
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    figures: dict[str, float] = {}
    for file in files:
        content = read_json(file)
        if not isinstance(content, Mapping):
            continue
        try:
            for row in content.get("languages", []):
                figures[f"bits per byte, {row['language']}"] = float(row["bits_per_byte"]["model"])
            for row in content.get("scores", []):
                if row["value"] is not None:
                    figures[f"{content['task']}, {row['name']}"] = float(row["value"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{file} is no result of `evaluate` ({type(error).__name__}: {error}). Name another file.") from None
    if not figures:
        raise DataError(f"{path} has no figures of `evaluate` (TASK.json or eval_results_N.json). Correct the path.")
    return figures
