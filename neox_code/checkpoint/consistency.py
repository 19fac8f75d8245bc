"""Check that the weights of a checkpoint belong to the configuration of a model.

check_names(folder, names, model)                        # all parameters, no others; an error names the key that differs
check_entry(place, name, value, model, rank, size)       # entries that are computed from the configuration, such as inv_freq
check_arguments(folder, model)                           # sizes that GPT-NeoX wrote beside the weights
check_size(folder, model)                                # the files are large enough for the model
check_value(folder, name, weight, model)                 # type, shape, finite values
"""

import math
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from neox_code.checkpoint.buffers import make_expected_entry
from neox_code.checkpoint.layout import UNIVERSAL_FOLDER, WHOLE_MODEL_NAME, find_configuration, list_layer_files, list_model_files
from neox_code.checkpoint.serialization import load_file
from neox_code.config.derive import compute_padded_vocab_size
from neox_code.config.model import ModelConfig
from neox_code.errors import CheckpointError
from neox_code.model.gpt import GPT, build_layers
from neox_code.model.sharding import get_sharding
from neox_code.parallel.grid import single_process_grid

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
ROUNDING = 2**-8
"""Maximum relative error of a value that was rounded to bf16. Rounding to fp16 is more exact, except for very small values."""
ABSOLUTE_ROUNDING = 1e-7
"""Maximum absolute error of a very small value that was rounded to fp16."""

MOST_ARGUMENT_BYTES = 64_000_000
"""Maximum bytes of a model state file from which GPT-NeoX's arguments are read; a larger file holds more than arguments."""
ARGUMENTS = ("num_layers", "hidden_size", "num_attention_heads")


@lru_cache(maxsize=4)
def compute_expected_shapes(model: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of each whole parameter by its name. The vocabulary dimension is that of one entry, padded."""
    try:
        with torch.device("meta"):
            rows = compute_padded_vocab_size(1, model.make_vocab_size_divisible_by, 1)
            gpt = GPT(build_layers(model, 1, rows, single_process_grid("meta"), torch.float32, initialize=False))
    except (RuntimeError, OverflowError, TypeError):
        raise CheckpointError(f"a model of hidden_size {model.hidden_size} is too large for any machine. Correct it.") from None
    return {name: tuple(parameter.shape) for name, parameter in gpt.named_parameters()}


def format_configuration_hint(folder: Path) -> str:
    return f"Use the configuration that it was trained with: {find_configuration(folder)}."


def check_names(folder: Path, names: Collection[str], model: ModelConfig) -> None:
    """Raise CheckpointError unless `names` are the names of all parameters of the model."""
    blocks = {int(match[1]) - 2 for name in names if (match := WHOLE_MODEL_NAME.fullmatch(name)) and "attention." in name}
    if len(blocks) != model.num_layers and (blocks == set(range(len(blocks))) or model.num_layers > len(names)):
        raise CheckpointError(
            f"{folder} has {len(blocks)} blocks, and num_layers is {model.num_layers}. {format_configuration_hint(folder)}"
        )
    ends = {match[2] for name in names if (match := WHOLE_MODEL_NAME.fullmatch(name))}
    parts = {
        "use_bias_in_attn_linear": (model.use_bias_in_attn_linear, {"attention.query_key_value.bias", "attention.dense.bias"}),
        "use_bias_in_mlp": (model.use_bias_in_mlp, {"mlp.dense_h_to_4h.bias", "mlp.dense_4h_to_h.bias"}),
        "qk_norm": (model.qk_norm, {"attention.q_norm.scale", "attention.k_norm.scale"}),
        "token_smear": (model.token_smear, {"smear"}),
        "embedding_skip": (model.embedding_skip, {"embedding_skip"}),
        "value_residual": (model.value_residual and model.num_layers > 1, {"attention.value_residual"}),
        "no_weight_tying": (model.no_weight_tying, {"final_linear.weight"}),
        "norm": (model.norm == "layernorm", {"input_layernorm.weight", "norm.weight"}),
        "pos_emb": (model.pos_emb == "learned", {"position_embeddings.weight"}),
    }
    for key, (is_wanted, wanted) in parts.items():
        if wanted.isdisjoint(ends) if is_wanted else not wanted.isdisjoint(ends):
            has = "has no" if is_wanted else "has"
            found = sorted(wanted if is_wanted else wanted & ends)[0]
            raise CheckpointError(
                f"{folder} {has} {found}, which contradicts {key} ({getattr(model, key)}) of the configuration. "
                f"{format_configuration_hint(folder)}"
            )
    expected = compute_expected_shapes(model)
    if missing := [name for name in expected if name not in names]:
        raise CheckpointError(f"{folder} holds no {missing[0]}. {format_configuration_hint(folder)}")
    if extra := sorted(set(names) - set(expected)):
        raise CheckpointError(
            f"{folder} holds {extra[0]} and {len(extra) - 1} more parameters than this model. {format_configuration_hint(folder)}"
        )


def check_size(folder: Path, model: ModelConfig) -> None:
    """Raise CheckpointError if the files of a folder are too small for the parameters of the model, at two bytes each."""
    shapes = compute_expected_shapes(model).items()
    needed = 2 * sum(math.prod(shape) for name, shape in shapes if not get_sharding(name).is_vocabulary)
    paths = [*folder.iterdir(), *folder.glob(f"{UNIVERSAL_FOLDER}/*/*")]
    there = sum(path.stat().st_size for path in paths if path.is_file())
    if there < needed:
        raise CheckpointError(
            f"{folder} has {there:,} bytes, and the configured model needs {needed:,} or more. {format_configuration_hint(folder)}"
        )


def check_value(folder: Path, name: str, weight: torch.Tensor, model: ModelConfig) -> None:
    """Raise CheckpointError unless a whole parameter has the model's shape, a floating-point type and finite values.

    The number of vocabulary rows is not compared. The shape is compared before the values, because a damaged file can declare a
    huge tensor that repeats a small storage.
    """
    shape, vocabulary = compute_expected_shapes(model)[name], int(get_sharding(name).is_vocabulary)
    if tuple(weight.shape)[vocabulary:] != shape[vocabulary:] or weight.dim() != len(shape):
        wanted = ("any", *shape[1:]) if vocabulary else shape
        raise CheckpointError(
            f"{name} has shape {tuple(weight.shape)} in {folder} and ({', '.join(map(str, wanted))}) in this model. "
            f"{format_configuration_hint(folder)}"
        )
    if weight.dtype not in FLOATS or not has_finite_values(weight):
        reason = "values that are not finite" if weight.dtype in FLOATS else f"values of type {weight.dtype}"
        raise CheckpointError(f"{name} has {reason} in {folder}. Choose an earlier checkpoint, or copy it again.")


def has_finite_values(weight: torch.Tensor) -> bool:
    """Return True if no value is infinite or NaN; ten times as fast as `isfinite` for bf16 on a CPU."""
    return weight.numel() == 0 or all(math.isfinite(bound) for bound in weight.aminmax())


def check_entry(place: str, name: str, value: torch.Tensor, model: ModelConfig, rank: int = 0, size: int = 1) -> None:
    """Raise CheckpointError if `value`, the entry `name` of a rank's file, differs from the value that the configuration gives."""
    expected = make_expected_entry(name, model, rank, size)
    if expected is None:
        raise CheckpointError(
            f"{place} has {name}, which contradicts pos_emb ({model.pos_emb}) of the configuration. Use pos_emb of the training."
        )
    found = value.double()
    if found.shape == expected.shape and torch.allclose(found, expected.double(), rtol=ROUNDING, atol=ABSOLUTE_ROUNDING):
        return
    raise CheckpointError(
        f"{place} has {format_values(found)} in {name}, and the configuration gives {format_values(expected)}: "
        f"{describe_keys(name, model)}. Set these keys to the values of the training."
    )


def format_values(values: torch.Tensor) -> str:
    last = f", the last {values.flatten()[-1].item():.4g}" if values.numel() else ""
    return f"{values.numel()} values{last}"


def describe_keys(name: str, model: ModelConfig) -> str:
    """Return the configuration keys, with their values, from which the checkpoint entry `name` is computed."""
    keys = ["rotary_pct", "rotary_emb_base"] if "rotary" in name else []
    keys += ["num_attention_heads"] if "attention" in name else []
    return ", ".join(f"{key} {getattr(model, key)}" for key in [*keys, "hidden_size"])


def check_arguments(folder: Path, model: ModelConfig) -> None:
    """Raise CheckpointError if the sizes that GPT-NeoX wrote beside the weights differ from the configuration's.

    A file that cannot be read is skipped, because the weights are complete without it.
    """
    path = list_model_files(folder).get(0)
    if path is None or (list_layer_files(folder) and path.stat().st_size > MOST_ARGUMENT_BYTES):
        return
    try:
        content = load_file(path, mmap=True)
    except CheckpointError:
        return
    arguments: Any = content.get("args") if isinstance(content, dict) else None
    for key in ARGUMENTS if isinstance(arguments, dict) else ():
        if isinstance(found := arguments.get(key), int) and found != getattr(model, key):
            raise CheckpointError(
                f"{path} was written with {key} {found}, and the configuration has {getattr(model, key)}. "
                f"{format_configuration_hint(folder)}"
            )
