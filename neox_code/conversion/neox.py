"""Write checkpoints of GPT-NeoX: layer files or model state files, for any tensor-parallel size, with configuration and vocabulary.

OUTPUT/latest, OUTPUT/global_stepN/...      as in checkpoint.layout; N is the source's iteration, or 0
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from neox_code.checkpoint.layer_writer import copy_shared_storage, make_layer_buffers, split_name, write_layer_files
from neox_code.checkpoint.layout import (
    MERGED_CONFIG,
    VOCABULARY_FOLDER,
    get_latest_path,
    make_step_name,
    model_file,
    parse_iteration,
)
from neox_code.checkpoint.merge_ranks import get_name_in_file, make_file_part, resize_vocabulary
from neox_code.checkpoint.model_folder import MODEL_FILE, make_model_file
from neox_code.checkpoint.serialization import save_file
from neox_code.config.derive import compute_padded_vocab_size
from neox_code.config.model import ModelConfig
from neox_code.config.neox import NeoXConfig
from neox_code.conversion.options import ConversionOptions
from neox_code.conversion.source import ModelSource
from neox_code.model.gpt import DTYPES
from neox_code.model.sharding import get_sharding
from neox_code.tokenizer.vocabulary_file import find_vocabulary_files


def write_neox(source: ModelSource, output: Path, options: ConversionOptions) -> None:
    """Write a checkpoint with the parallel sizes in `options`: layer files if there is a pipeline, else model state files."""
    precision = options.dtype or next(name for name, dtype in DTYPES.items() if dtype == source.dtype)
    iteration = parse_iteration(source.folder) or 0
    folder = output / make_step_name(iteration)
    tensor_size, stages = options.model_parallel_size, options.pipe_parallel_size
    config = source.config.replace(
        "the command line",
        precision=precision,
        model_parallel_size=tensor_size,
        pipe_parallel_size=stages,
        save=None,
        load=None,
        finetune=False,
        **make_padding_keys(source, tensor_size),
    )
    weights = source.iter_weights(DTYPES[precision])
    if stages:
        write_layer_files(folder, weights, config.model, source.vocab_rows, tensor_size)
        modules: list[dict[str, torch.Tensor]] = [{} for _ in range(tensor_size * stages)]
    else:
        folder.mkdir(parents=True)
        modules = divide_weights(source.vocab_rows, weights, config.model, tensor_size)
    for rank, module in enumerate(modules):
        save_file({"module": module, **make_training_state(iteration, tensor_size)}, model_file(folder, rank))
    write_companion_files(config, folder, output)


def write_companion_files(config: NeoXConfig, folder: Path, output: Path) -> None:
    """Write configuration and vocabulary into the checkpoint `folder`, and write its name to the file `latest` in `output`."""
    files = {MODEL_FILE: make_model_file(config), f"configs/{MERGED_CONFIG}": config.to_yaml().encode()}
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    for name, path in find_vocabulary_files(config.data).items():
        (folder / VOCABULARY_FOLDER).mkdir(exist_ok=True)
        shutil.copyfile(path, folder / VOCABULARY_FOLDER / name)
    shutil.copytree(folder / "configs", output / "configs")
    get_latest_path(output).write_text(folder.name + "\n", encoding="utf-8")


def make_padding_keys(source: ModelSource, tensor_size: int) -> dict[str, Any]:
    """Return the keys with which the output keeps the source's trained padding rows. If possible, no rows are added to them."""
    if source.tokenizer is None or source.vocab_rows == source.tokenizer.vocab_size:
        return {}
    usual = source.model.make_vocab_size_divisible_by
    divisors = [
        divisor
        for divisor in (usual, *(2**power for power in range(10, -1, -1)), max(source.vocab_rows // tensor_size, 1))
        if compute_padded_vocab_size(source.tokenizer.vocab_size, divisor, tensor_size) == source.vocab_rows
    ]
    return {"mask_padded_vocab": False, "make_vocab_size_divisible_by": [*divisors, usual][0]}


def make_training_state(iteration: int, tensor_size: int) -> dict[str, Any]:
    """Return the entries that GPT-NeoX and DeepSpeed require in a model state file, besides the weights."""
    sizes = {"dp_world_size": 1, "mp_world_size": tensor_size}
    return {"optimizer": {}, "iteration": iteration, "global_steps": iteration, "skipped_steps": 0, **sizes}


def divide_weights(
    vocab_rows: int, weights: Iterator[tuple[str, torch.Tensor]], model: ModelConfig, tensor_size: int
) -> list[dict[str, torch.Tensor]]:
    """Return the state dict of each tensor rank, with the names of a model without a pipeline. All weights are in memory."""
    rows = compute_padded_vocab_size(vocab_rows, model.make_vocab_size_divisible_by, tensor_size)
    modules: list[dict[str, torch.Tensor]] = [{} for _ in range(tensor_size)]
    seen: set[int] = set()
    for name, weight in weights:
        index, inner = split_name(name)
        whole = resize_vocabulary(name, weight, rows, vocab_rows) if get_sharding(name).is_vocabulary else weight
        for rank, module in enumerate(modules):
            prefix = f"sequential.{index}."
            module[prefix + get_name_in_file(inner, model)] = copy_shared_storage(
                make_file_part(inner, whole, rank, tensor_size, model)
            )
            if index not in seen:
                module |= {prefix + key: value for key, value in make_layer_buffers(index, model, rank, tensor_size).items()}
        seen.add(index)
    return modules
