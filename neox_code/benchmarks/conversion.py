"""Conversion of a checkpoint to Hugging Face and back, against `cp -r` of the same files. Each waits until its files are on disk.

    python -m neox_code.benchmarks.conversion to-huggingface:1 FOLDER

FOLDER/checkpoint has random weights of the configured model in its own precision. Speeds are in megabytes of its files per second.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from neox_code.benchmarks.contestant import TimedStep, run_contestant
from neox_code.checkpoint.layer_writer import write_layer_files
from neox_code.checkpoint.layout import get_latest_path, make_step_name
from neox_code.checkpoint.model_folder import MODEL_FILE, make_model_file
from neox_code.config.neox import NeoXConfig
from neox_code.conversion.convert import convert
from neox_code.conversion.options import ConversionOptions
from neox_code.files import sync_tree
from neox_code.model.gpt import DTYPES, GPT, build_layers
from neox_code.parallel.grid import single_process_grid

CHECKPOINT, HUGGING_FACE, BACK, COPY = "checkpoint", "huggingface", "back", "copy"
VOCAB_ROWS = 50_304
"""Rows of PolyCoder's padded vocabulary."""


def write_random_checkpoint(config: NeoXConfig, folder: Path) -> int:
    """Write a checkpoint with random weights to FOLDER/checkpoint; return its size in bytes."""
    step = folder / CHECKPOINT / make_step_name(1)
    write_layer_files(step, iter_random_weights(config), config.model, VOCAB_ROWS)
    (step / MODEL_FILE).write_bytes(make_model_file(config))
    get_latest_path(folder / CHECKPOINT).write_text(step.name + "\n", encoding="utf-8")
    sync_tree(folder / CHECKPOINT)
    return count_bytes(folder / CHECKPOINT)


def iter_random_weights(config: NeoXConfig) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the parameters of a whole model, layer by layer, in the configured precision."""
    dtype = DTYPES[config.model.precision]
    grid = single_process_grid(torch.device("meta"))
    layers = build_layers(config.model, VOCAB_ROWS, VOCAB_ROWS, grid, dtype, initialize=False)
    for name, parameter in GPT(layers).named_parameters():
        yield name, torch.empty(parameter.shape, dtype=dtype).uniform_(-0.02, 0.02)


def count_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def convert_to_hugging_face(folder: Path, cores: int) -> TimedStep:
    return make_conversion_step(folder, CHECKPOINT, HUGGING_FACE, "huggingface", ())


def convert_to_neox(folder: Path, cores: int) -> TimedStep:
    """Return the step that converts FOLDER/huggingface to FOLDER/back. After each run both are removed; this is not timed."""
    return make_conversion_step(folder, HUGGING_FACE, BACK, "neox", (HUGGING_FACE, BACK))


def make_conversion_step(folder: Path, source: str, output: str, form: str, removed: Sequence[str]) -> TimedStep:
    run = partial(convert, folder / source, folder / output, form, ConversionOptions())
    return TimedStep(run, partial(measure_output, folder, output, removed), count_bytes(folder / CHECKPOINT))


def copy_files(folder: Path, cores: int) -> TimedStep:
    def run() -> None:
        subprocess.run(["cp", "-r", folder / CHECKPOINT, folder / COPY], check=True)
        sync_tree(folder / COPY)

    return TimedStep(run, partial(measure_output, folder, COPY, (COPY,)), count_bytes(folder / CHECKPOINT))


def measure_output(folder: Path, output: str, removed: Sequence[str]) -> int:
    """Return the size of a step's output in bytes, and remove the folders that the next round writes again."""
    size = count_bytes(folder / output)
    for name in removed:
        shutil.rmtree(folder / name)
    return size


if __name__ == "__main__":
    sys.exit(run_contestant({"to-huggingface": convert_to_hugging_face, "from-huggingface": convert_to_neox, "cp": copy_files}))
