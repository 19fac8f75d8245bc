"""A fine-tuning of the example model on a few rows, for tests."""

import json
from pathlib import Path
from typing import Any

import yaml
from distributed_runs import run_ranks
from example_model import write_job

from neox_code.config.neox import NeoXConfig
from neox_code.finetuning.finetune import finetune
from neox_code.training.trackers import read_metrics

ROWS = [
    {"instruction": f"Add {number} to x.", "output": f"func add(x):\n\treturn x + {number}\n", "repo": f"r{number % 7}"}
    for number in range(40)
]
KEYS = {
    "max_position_embeddings": 256,
    "seq_length": 192,
    "row_template": "godot-dodo",
    "completion_column": "output",
    "train_iters": 4,
    "train_batch_size": 4,
    "train_micro_batch_size_per_gpu": 2,
    "optimizer": {"type": "Adam", "params": {"lr": 0.001}},
    "log_interval": 1,
    "eval_interval": 2,
    "num_workers": 0,
}


def write_rows(path: Path, rows: list[Any]) -> str:
    """Writes rows as JSON Lines; a text is written as it is. Returns the path."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def write_finetuning(folder: Path, **keys: Any) -> Path:
    """Writes base model, vocabulary and rows into the folder; returns the configuration file. Keywords change keys."""
    base = yaml.safe_load(write_job(folder).read_text())
    settings = base | KEYS | {"train_rows": write_rows(folder / "rows.jsonl", ROWS)} | keys
    (folder / "finetuning.yml").write_text(yaml.safe_dump(settings))
    return folder / "finetuning.yml"


def run_finetuning(file: str, overrides: dict[str, Any]) -> int:
    return run_finetuning_files([file], overrides)


def run_finetuning_files(files: list[str], overrides: dict[str, Any]) -> int:
    """Fine-tunes on this rank; returns the last iteration."""
    return finetune(NeoXConfig.load(files, overrides).for_finetuning()).iteration


def losses_of_finetuning(world_size: int, file: Path, save: Path, **overrides: Any) -> list[float]:
    """The training losses, step by step, of a run on so many ranks."""
    run_ranks(world_size, run_finetuning, str(file), {"save": str(save), **overrides})
    return [row["train/lm_loss"] for row in read_metrics(save / "metrics.jsonl") if "train/lm_loss" in row]
