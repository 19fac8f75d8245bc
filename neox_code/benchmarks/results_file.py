"""Results of the training benchmark on all machines: a JSON Lines file to which each run appends a row.

row = make_row(config, results, matrix_tflops, flops_per_token)
append_json_line("docs/benchmark-results.jsonl", row)
format_readme_line(read_json_lines("docs/benchmark-results.jsonl"))         # the newest row of a GPU, for the README

{"date": "2026-11-30", "commit": "0123abc", "machine": "...", "gpu": null, "cores": 2, "load": 1.5, "versions": {...},
 "config": {...}, "matrix_tflops": 0.76, "contestants": {NAME: {...}}, "ratios": {NAME: ...}}
"""

import os
import statistics
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from neox_code.benchmarks.contest import Measured, compute_ratio
from neox_code.config.neox import NeoXConfig
from neox_code.machine import read_processor_name
from neox_code.processes.workers import count_available_cores

PACKAGES = ("torch", "transformers", "peft", "deepspeed", "megatron-core")
SHAPE = ("num_layers", "hidden_size", "num_attention_heads", "precision")


def read_commit() -> str | None:
    """Return the commit of this package's repository; None without git or outside of a repository."""
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def read_versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def make_row(config: NeoXConfig, results: Sequence[Measured], matrix_tflops: float, flops_per_token: float) -> dict[str, Any]:
    """Return the row of a run. The first of `results` is this package; ratios are its speed divided by each peer's."""
    ours, *peers = results
    values = config.values()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": read_commit(),
        "machine": read_processor_name(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cores": count_available_cores(),
        "load": round(os.getloadavg()[0], 1),
        "versions": read_versions(),
        "config": {name: values[name] for name in SHAPE}
        | {"micro_batch": config.training.train_micro_batch_size_per_gpu, "sequence": config.model.sample_length},
        "matrix_tflops": matrix_tflops,
        "contestants": {each.name: summarize(each, matrix_tflops, flops_per_token) for each in results},
        "ratios": {peer.name: compute_ratio(ours, peer) for peer in peers},
    }


def summarize(measured: Measured, matrix_tflops: float, flops_per_token: float) -> dict[str, float]:
    """Return medians over rounds: tokens per second, their share of the machine's matrix products, and the peak memory."""
    found = {
        "tokens_per_second": measured.median,
        "utilization": compute_utilization(measured, matrix_tflops, flops_per_token),
        "memory_gib": measured.memory_gib,
    }
    if measured.per_cpu_second:
        found["tokens_per_cpu_second"] = statistics.median(measured.per_cpu_second)
    return found


def compute_utilization(measured: Measured, matrix_tflops: float, flops_per_token: float) -> float:
    return measured.median * flops_per_token / (matrix_tflops * 1e12)


def format_readme_line(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the sentence of the README on the newest row that a GPU has measured, or on the lack of such a row."""
    measured = [row for row in rows if row["gpu"] and row.get("benchmark", "training") == "training"]
    if not measured:
        return "No GPU has been measured yet."
    row = max(measured, key=lambda row: row["date"])
    ours = next(iter(row["contestants"].values()))
    peers = ", ".join(f"{ratio:.2f} x {name}" for name, ratio in row["ratios"].items())
    return (
        f"{row['gpu']}, {row['date']}: {ours['tokens_per_second']:,.0f} tokens/s, {100 * ours['utilization']:.0f}% of the "
        f"machine's matrix products, {ours['memory_gib']:.1f} GiB ({peers})."
    )
