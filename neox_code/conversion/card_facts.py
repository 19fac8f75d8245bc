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
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from neox_code.errors import ConfigError, DataError
from neox_code.files import read_json


@dataclass(frozen=True)
class CardFacts:
    base_model: str | None = None
    base_license: str | None = None
    license: str | None = None
    datasets: tuple[str, ...] = ()
    labelling_cost: str | None = None
    before: str | None = None
    after: str | None = None


NO_FACTS = CardFacts()


def load_card_facts(path: Path) -> CardFacts:
    """Return the facts of a YAML file. Raise ConfigError for an unknown key or a value of another type."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"--card {path} cannot be read: {' '.join(str(error).split())}. Correct the path or the file.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"--card {path} has no keys and values. Keys: {', '.join(each.name for each in fields(CardFacts))}.")
    known = {each.name for each in fields(CardFacts)}
    if unknown := sorted(str(key) for key in content if key not in known):
        raise ConfigError(f"{path}: {unknown[0]} is no key of a card. Keys: {', '.join(sorted(known))}.")
    values: dict[str, Any] = {}
    for key, value in content.items():
        if key == "datasets":
            names = [value] if isinstance(value, str) else value
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ConfigError(f"{path}: datasets ({value!r:.60}) must be a list of names.")
            values[key] = tuple(names)
        elif isinstance(value, (str, int, float)) and not isinstance(value, bool) and str(value).strip():
            values[key] = str(value)
        else:
            raise ConfigError(f"{path}: {key} ({value!r:.60}) must be a text.")
    facts = CardFacts(**values)
    if (facts.before is None) != (facts.after is None):
        raise ConfigError(f"{path}: before and after belong together. Add the other one.")
    compare_figures(facts)
    return facts


def compare_figures(facts: CardFacts) -> list[tuple[str, float, float]]:
    """Return name, value before and value after of each figure that both results have. Raise DataError if they share none."""
    if facts.before is None or facts.after is None:
        return []
    before, after = read_figures(Path(facts.before)), read_figures(Path(facts.after))
    rows = [(name, before[name], after[name]) for name in before if name in after]
    if not rows:
        raise DataError(
            f"before ({facts.before}) and after ({facts.after}) have no figure in common. Name results of `evaluate` of one task."
        )
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
