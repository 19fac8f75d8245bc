"""Read and write adapters in PEFT's format, with PEFT's names for Hugging Face's model of the same shape.

    write_adapter(folder, config, vocab_size, tensors, sample)          # adapter_config.json and adapter_model.safetensors
    adapter = read_adapter(folder, model)                       # the inverse, also of PEFT's own folders
    adapter.require_base(folder, weights)                       # CheckpointError for another base

A few values of each weight of the base stand in the header of the safetensors file, so that an adapter is not used with another
base of the same shape. PEFT ignores them, and its own files have none.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from neox_code.adapters.attach import choose_targets, list_linear_rows, list_modules, list_trained_rows, make_low_rank
from neox_code.adapters.low_rank import LowRank, LowRankSettings
from neox_code.checkpoint.foreign_names import OUTSIDE
from neox_code.checkpoint.layout import ADAPTER_CONFIG
from neox_code.checkpoint.weights import EMBEDDING, LazyWeights
from neox_code.config.hugging_face import find_nearest_architecture, read_json_object
from neox_code.config.model import ModelConfig
from neox_code.config.neox import NeoXConfig
from neox_code.errors import CheckpointError
from neox_code.model.sharding import get_sharding
from neox_code.parallel.grid import single_process_grid

CONFIG, WEIGHTS = ADAPTER_CONFIG, "adapter_model.safetensors"
PREFIX = "base_model.model."
SAMPLE = "neox_code_base"
"""Key of the base's sample in the header of the safetensors file."""
SAMPLE_VALUES = 8
SAMPLE_TOLERANCE = 2**-7
"""Maximum relative difference of values from files of different types, which have rounded them; of one type they must be equal."""

BaseSample = dict[str, tuple[str, list[float]]]
"""Name of a weight -> type and values."""

HEADS = ("lm_head", "embed_out")
"""Last names of Hugging Face's head, in the order of preference for writing: transformers 5 renamed that of GPTNeoX."""


def make_sample(weights: Mapping[str, torch.Tensor]) -> BaseSample:
    """Return some values of each weight of a base, at equal distances. Of the vocabulary's weights the first rows are read, because
    files differ in the number of padding rows."""
    found = {}
    for name in weights:
        weight = weights[name]
        values = (weight[:SAMPLE_VALUES] if get_sharding(name).is_vocabulary else weight).reshape(-1)
        places = [number * (len(values) - 1) // (SAMPLE_VALUES - 1) for number in range(SAMPLE_VALUES)]
        found[name] = str(weight.dtype).removeprefix("torch."), values[places].float().tolist()
    return found


def is_same_weight(one: tuple[str, list[float]], other: tuple[str, list[float]]) -> bool:
    """Return True if two samples of a weight can be of the same weight, rounded to their types."""
    first, second = torch.tensor(one[1]), torch.tensor(other[1])
    return torch.equal(first, second) if one[0] == other[0] else torch.allclose(first, second, rtol=SAMPLE_TOLERANCE, atol=1e-6)


def make_peft_config(config: NeoXConfig, vocab_size: int) -> dict[str, Any]:
    """Return the content of adapter_config.json."""
    section, model = config.adapter, config.model
    common = {"base_model_name_or_path": config.training.load, "task_type": "CAUSAL_LM", "inference_mode": True}
    rows = list_trained_rows(config, vocab_size) if section.trains_rows else []
    owners = [name.rpartition(".")[2] for name in map_row_owners(model).values()]
    if not section.lora_rank:
        return common | {"peft_type": "TRAINABLE_TOKENS", "target_modules": owners, "token_indices": rows}
    targets = choose_targets(model, section.lora_target_modules, section.frozen_layers)
    layers = sorted({int(ours.split(".")[1]) - 2 for ours in targets})
    return common | {
        "peft_type": "LORA",
        "r": section.lora_rank,
        "lora_alpha": section.lora_alpha,
        "lora_dropout": section.lora_dropout,
        "use_rslora": section.use_rslora,
        "use_dora": section.use_dora,
        "target_modules": sorted({part for parts in targets.values() for part in parts}),
        "layers_to_transform": layers if len(layers) < model.num_layers else None,
        "trainable_token_indices": dict.fromkeys(owners, rows) if rows else None,
        "bias": "none",
        "fan_in_fan_out": False,
    }


def encode_peft_config(content: Mapping[str, Any]) -> bytes:
    """Return the bytes of an adapter_config.json."""
    return json.dumps(content, indent=1).encode()


def map_row_owners(model: ModelConfig) -> dict[str, str]:
    """Return our names of the embedding and of an untied head -> their modules in Hugging Face's model."""
    nearest, conflicts = find_nearest_architecture(model)
    kind = "gpt_neox" if conflicts else nearest
    embedding = OUTSIDE[kind]["word_embeddings.weight"].names[0].rpartition(".")[0]
    head = f"sequential.{model.num_layers + 4}.final_linear.weight"
    return {EMBEDDING: embedding} | ({head: HEADS[0]} if model.no_weight_tying else {})


def name_tensors(model: ModelConfig, trained: Mapping[str, torch.Tensor], has_lora: bool) -> dict[str, torch.Tensor]:
    """Return PEFT's names -> tensors, from our names of trained parameters."""
    modules = {
        ours: {module.rpartition(".")[2]: module for module in list_modules(row)} for ours, row in list_linear_rows(model).items()
    }
    owners = {ours.removesuffix(".weight"): module for ours, module in map_row_owners(model).items()}
    found = {}
    for name, tensor in trained.items():
        if name.endswith(ROWS_SUFFIX):
            inner = "token_adapter.trainable_tokens_delta" if has_lora else "trainable_tokens_delta"
            found[f"{PREFIX}{owners[name.removesuffix(ROWS_SUFFIX)]}.{inner}"] = tensor
        else:
            ours, _, inner = name.partition(".adapter.")
            kind, _, part = inner.partition(".")
            found[f"{PREFIX}{modules[ours][part]}.{KINDS[kind]}"] = tensor
    return found


ROWS_SUFFIX = ".parametrizations.weight.0.rows"
KINDS = {"lora_A": "lora_A.weight", "lora_B": "lora_B.weight", "magnitude": "lora_magnitude_vector"}
"""Our name of a parameter of an adapter -> PEFT's."""


def write_adapter(
    folder: Path, peft_config: Mapping[str, Any], model: ModelConfig, trained: Mapping[str, torch.Tensor], sample: BaseSample
) -> None:
    """Write an adapter of trained parameters, by our names, to a folder; files of an earlier one are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = name_tensors(model, trained, peft_config["peft_type"] == "LORA")
    partial = folder / f"{WEIGHTS}.partial"
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        partial,
        {"format": "pt", SAMPLE: json.dumps(sample)},
    )
    partial.replace(folder / WEIGHTS)
    (folder / CONFIG).write_bytes(encode_peft_config(peft_config))


@dataclass(frozen=True)
class Adapter:
    """An adapter for inference, on one process."""

    folder: Path
    changes: Mapping[str, LowRank]
    """Our name of a linear layer -> its change."""
    rows: Mapping[str, tuple[list[int], torch.Tensor]] = field(default_factory=dict)
    """Our name of an embedding or head -> ids and their rows."""
    sample: BaseSample | None = None

    def require_base(self, base: Path, weights: Mapping[str, torch.Tensor]) -> None:
        """Raise CheckpointError unless the weights of the base, by our names, are those of the training."""
        if self.sample is None:
            return
        found = make_sample(weights)
        same = {name for name in found if name in self.sample and is_same_weight(found[name], self.sample[name])}
        if other := sorted({*found, *self.sample} - same):
            raise CheckpointError(
                f"{self.folder} is an adapter for another base than {base}: {len(other)} of {len(found)} weights differ, for "
                f"example {other[0]}. Use the base that its training loaded (base_model_name_or_path in its {CONFIG})."
            )

    def merge(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """Return a whole parameter of the base, by our name, with this adapter."""
        if (layer := name.removesuffix(".weight")) in self.changes:
            return self.changes[layer].merge(weight)
        if name in self.rows:
            ids, rows = self.rows[name]
            return weight.index_copy(0, torch.tensor(ids, device=weight.device), rows.to(weight))
        return weight


def read_adapter(folder: Path, model: ModelConfig) -> Adapter:
    """Read an adapter of this package or of PEFT, in fp32. Raise CheckpointError if it does not fit the model."""
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder} has no {CONFIG}: it is no adapter. Name a folder in PEFT's format, such as SAVE/adapter.")
    content = read_json_object(folder / CONFIG)
    settings = read_lora_settings(folder, content)
    tensors, sample = read_tensors(folder / WEIGHTS)
    places = {module: ours for ours, row in list_linear_rows(model).items() for module in list_modules(row)}
    owners = {module: ours for ours, module in map_row_owners(model).items()}
    owners |= {other: owners[HEADS[0]] for other in HEADS if HEADS[0] in owners}
    parts: defaultdict[str, dict[tuple[str, str], torch.Tensor]] = defaultdict(dict)
    rows: dict[str, tuple[list[int], torch.Tensor]] = {}
    for name, tensor in tensors.items():
        module, kind = split_name(name)
        if kind is None and module in owners:
            rows[owners[module]] = (read_row_ids(content, module), tensor)
        elif kind is not None and module in places:
            parts[places[module]][module.rpartition(".")[2], kind] = tensor
        else:
            raise CheckpointError(f"{folder} has {name}, and this model has no such layer: it is an adapter for another base.")
    changes = {}
    for ours, own in parts.items():
        if settings is None or any(kind == "lora_A.weight" and len(a) != settings.rank for (_, kind), a in own.items()):
            raise CheckpointError(f"{folder} has matrices of another rank than its {CONFIG} (r). Copy the adapter again.")
        change = make_low_rank(ours, sorted({part for part, _ in own}), model, settings, single_process_grid(), torch.float32)
        for name, parameter in change.named_parameters():
            kind, _, part = name.partition(".")
            found = own.get((part, KINDS[kind]))
            if found is None or found.shape != parameter.shape:
                given = "missing" if found is None else f"of shape {tuple(found.shape)}"
                raise CheckpointError(
                    f"{folder} has {KINDS[kind]} of {part} of block {int(ours.split('.')[1]) - 2} {given}, and this model needs "
                    f"{tuple(parameter.shape)}: it is an adapter for another base, or damaged."
                )
            parameter.data.copy_(found)
        changes[ours] = change.requires_grad_(False).eval()
    return Adapter(folder, changes, rows, sample)


def merge_weights(weights: LazyWeights, adapter: Adapter, base: Path) -> LazyWeights:
    """Return the weights of a base with the adapter. Raise CheckpointError if it is an adapter for another base."""
    adapter.require_base(base, weights)

    def read(name: str) -> torch.Tensor:
        return adapter.merge(name, weights[name])

    description = f"{weights.description}, with the adapter {adapter.folder}"
    return LazyWeights({name: partial(read, name) for name in weights}, weights.tensor_size, description)


def split_name(name: str) -> tuple[str, str | None]:
    """Return the module of Hugging Face's model and the kind of a tensor; None as the kind of rows of tokens.

    >>> split_name("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight")
    ('model.layers.0.self_attn.q_proj', 'lora_A.weight')
    """
    inner = name.removeprefix(PREFIX)
    for kind in KINDS.values():
        if inner.endswith(f".{kind}"):
            return inner.removesuffix(f".{kind}"), kind
    if inner.endswith(".trainable_tokens_delta"):
        return inner.removesuffix(".trainable_tokens_delta").removesuffix(".token_adapter"), None
    return inner, "?"


def read_row_ids(content: Mapping[str, Any], module: str) -> list[int]:
    """Return the ids of trained rows in an adapter_config.json."""
    given = content.get("trainable_token_indices") or content.get("token_indices") or []
    return list(given.get(module.rpartition(".")[2], []) if isinstance(given, Mapping) else given)


UNSUPPORTED = ("rank_pattern", "alpha_pattern", "modules_to_save", "lora_bias", "fan_in_fan_out", "layer_replication", "use_qalora")
"""Keys of adapter_config.json that must be empty, because they change what the tensors mean."""


def read_lora_settings(folder: Path, content: Mapping[str, Any]) -> LowRankSettings | None:
    """Return the settings of LoRA; None for an adapter of rows alone. Raise CheckpointError for a method that is not supported."""
    kind = content.get("peft_type")
    if kind == "TRAINABLE_TOKENS":
        return None
    given = [key for key in UNSUPPORTED if content.get(key)] + (["bias"] if content.get("bias", "none") != "none" else [])
    if kind != "LORA" or given:
        asked = f"{given[0]} ({content[given[0]]!r:.60})" if given else f"peft_type {kind!r:.60}"
        raise CheckpointError(f"{folder / CONFIG} has {asked}, which is not supported. Merge the adapter with PEFT.")
    try:
        rank, alpha = int(content["r"]), float(content["lora_alpha"])
        if rank < 1:
            raise ValueError(f"r is {rank}")
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG} is damaged ({error}). Copy the adapter again.") from None
    return LowRankSettings(rank, alpha, bool(content.get("use_rslora")), bool(content.get("use_dora")))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], BaseSample | None]:
    """Return the tensors of an adapter, and the sample of its base if it has one."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            sample = json.loads(metadata[SAMPLE]) if SAMPLE in metadata else None
            return {name: file.get_tensor(name) for name in file.keys()}, sample  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is missing or damaged ({error}). Copy the adapter again.") from None
