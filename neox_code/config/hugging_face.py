"""Convert a model's shape between Hugging Face's config.json and GPT-NeoX's keys: one table, read in both directions. No torch.

    read_model_keys("pythia/config.json")              # {"num_layers": 6, "hidden_size": 512, "norm": "layernorm", ...}
    make_config(model, vocab_rows=50304)                # the inverse: {"model_type": "gpt_neox", ...}

Three architectures of transformers hold the models of this package:

    gpt_neox   GPTNeoXForCausalLM   layer norm, biases, one or two residuals a block, partial rotary positions
    llama      LlamaForCausalLM     RMS norm, a gated feed-forward layer, grouped queries
    qwen3      Qwen3ForCausalLM     the same with RMS norm on the queries and keys of each head
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neox_code.config.model import ModelConfig
from neox_code.errors import CheckpointError, DataError
from neox_code.files import read_json

FormatKey = Callable[[str], str]
"""Key -> the key with its value and origin, for messages."""

CONFIG_FILE = "config.json"
MOST_BYTES = 10_000_000
"""Maximum bytes of a config.json or an index of shards. A larger file is not read."""

COMMON = {
    "num_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "num_attention_heads": "num_attention_heads",
    "max_position_embeddings": "max_position_embeddings",
    "use_bias_in_attn_linear": "attention_bias",
    "attention_dropout": "attention_dropout",
    "init_method_std": "initializer_range",
}
GATED = COMMON | {"num_kv_heads": "num_key_value_heads", "rms_norm_epsilon": "rms_norm_eps", "kv_channels": "head_dim"}

PLAIN_ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "silu": "silu", "swish": "silu", "mish": "mish"}
GATE_ACTIVATIONS = {"swiglu": "silu", "geglu": "gelu", "reglu": "relu", "glu": "sigmoid", "bilinear": "linear"}
TANH_GELU = ("gelu_new", "gelu_fast", "gelu_pytorch_tanh")
"""Names that transformers has for the tanh approximation of GELU. Written files contain the first name."""


@dataclass(frozen=True)
class Architecture:
    name: str
    """Class of the architecture in transformers."""

    keys: Mapping[str, str]
    """Our key -> key of config.json with the same value."""

    fixed: Mapping[str, Any]
    """Our key -> the only value that the architecture supports."""

    defaults: Mapping[str, Any]
    """Key of config.json -> the value that transformers uses if the key is missing."""

    activations: Mapping[str, str]
    """Our name of an activation -> its name in this architecture's config.json."""


OWN_KEYS = ("token_smear", "embedding_skip", "value_residual")
"""Keys of this package's models that no other format has."""

RMS_BLOCK = {"norm": "rmsnorm", "pos_emb": "rotary", "gpt_j_residual": False, "rotary_pct": 1.0, **dict.fromkeys(OWN_KEYS, False)}

ARCHITECTURES = {
    "gpt_neox": Architecture(
        "GPTNeoXForCausalLM",
        COMMON
        | {"layernorm_epsilon": "layer_norm_eps", "gpt_j_residual": "use_parallel_residual", "hidden_dropout": "hidden_dropout"},
        {"norm": "layernorm", "pos_emb": "rotary", "use_bias_in_mlp": True, "qk_norm": False}
        | {"num_kv_heads": None, "kv_channels": None, **dict.fromkeys(OWN_KEYS, False)},
        {"attention_bias": True, "use_parallel_residual": True, "layer_norm_eps": 1e-5, "hidden_act": "gelu", "rotary_pct": 0.25},
        PLAIN_ACTIVATIONS,
    ),
    "llama": Architecture(
        "LlamaForCausalLM",
        GATED | {"use_bias_in_mlp": "mlp_bias"},
        RMS_BLOCK | {"qk_norm": False},
        {"attention_bias": False, "mlp_bias": False, "rms_norm_eps": 1e-6, "hidden_act": "silu"},
        GATE_ACTIVATIONS,
    ),
    "qwen3": Architecture(
        "Qwen3ForCausalLM",
        GATED,
        RMS_BLOCK | {"qk_norm": True, "use_bias_in_mlp": False},
        {"attention_bias": False, "rms_norm_eps": 1e-6, "hidden_act": "silu", "head_dim": 128},
        GATE_ACTIVATIONS,
    ),
}  # fmt: skip
"""`model_type` of config.json -> supported architecture."""

REQUIRED = ("num_hidden_layers", "hidden_size", "num_attention_heads", "max_position_embeddings", "intermediate_size", "vocab_size")
"""Keys that a config.json must contain, because transformers' defaults for these keys describe another model."""

PRECISIONS = {"fp32": "float32", "fp16": "float16", "bfloat16": "bfloat16"}


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of a model. Raise CheckpointError for other content and for files above MOST_BYTES."""
    try:
        content = read_json(path, MOST_BYTES)
    except DataError as error:
        raise CheckpointError(str(error)) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a JSON object. Copy the model again.")
    return content


def read_config(path: Path) -> dict[str, Any]:
    """Return the content of a config.json. Raise CheckpointError if it describes none of the ARCHITECTURES."""
    content = read_json_object(path)
    if str(content.get("model_type")) not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise CheckpointError(
            f"{path} has model_type {content.get('model_type')!r}, which is not supported. "
            f"Choose a model of one of these types: {known}."
        )
    return content


def read_model_keys(path: Path) -> dict[str, Any]:
    """Return the GPT-NeoX keys of the model that a config.json describes.

    Raise CheckpointError if this package has no such transformer block; the message names the key.
    """
    content = read_config(path)
    architecture = ARCHITECTURES[content["model_type"]]
    if missing := [key for key in REQUIRED if not isinstance(content.get(key), int) or isinstance(content.get(key), bool)]:
        raise CheckpointError(f"{path} has no integer value of {missing[0]}. Copy the model again.")
    values = {**architecture.defaults, **content}
    refuse_unsupported_blocks(path, values)
    keys = dict(architecture.fixed)
    keys |= {ours: values[theirs] for ours, theirs in architecture.keys.items() if values.get(theirs) is not None}
    rotary = read_rotary(path, values)
    keys |= {"rotary_emb_base": rotary.get("rope_theta", 10000), "no_weight_tying": not values.get("tie_word_embeddings", False)}
    if content["model_type"] == "gpt_neox":
        keys["rotary_pct"] = rotary.get("partial_rotary_factor", values["rotary_pct"])
    keys |= read_activation(path, values, architecture)
    keys["intermediate_size"] = values["intermediate_size"] * (3 if architecture.activations is GATE_ACTIVATIONS else 1)
    dtype = str(values.get("dtype") or values.get("torch_dtype") or "float32").removeprefix("torch.")
    keys["precision"] = next((ours for ours, theirs in PRECISIONS.items() if theirs == dtype), "fp32")
    if keys.get("kv_channels") == values["hidden_size"] // values["num_attention_heads"]:
        del keys["kv_channels"]
    if keys.get("num_kv_heads") == values["num_attention_heads"]:
        del keys["num_kv_heads"]
    return {key: value for key, value in keys.items() if value is not None}


def refuse_unsupported_blocks(path: Path, values: Mapping[str, Any]) -> None:
    """Raise CheckpointError if a config.json sets an option that this package's transformer blocks do not have."""
    others = {
        "use_sliding_window": bool(values.get("use_sliding_window")),
        "layer_types": not is_full_attention(values.get("layer_types")),
        "quantization_config": values.get("quantization_config") is not None,
        "pretraining_tp": values.get("pretraining_tp", 1) not in (1, None),
    }
    for key, is_other in others.items():
        if is_other:
            raise CheckpointError(
                f"{path} has {key} ({values[key]!r:.60}), which this package does not support. Choose a model without it."
            )


def is_full_attention(layer_types: Any) -> bool:
    return layer_types is None or (isinstance(layer_types, list) and all(kind == "full_attention" for kind in layer_types))


def read_rotary(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return rope_theta and partial_rotary_factor from the keys of transformers 5 or of earlier versions."""
    rotary = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if not isinstance(rotary, dict):
        raise CheckpointError(f"rope_parameters in {path} is not a JSON object. Copy the model again.")
    if (kind := rotary.get("rope_type", rotary.get("type", "default"))) != "default":
        raise CheckpointError(
            f"{path} has rotary positions of type {kind!r}, which this package does not support. Choose another model."
        )
    old = {"rope_theta": values.get("rope_theta", values.get("rotary_emb_base")), "partial_rotary_factor": values.get("rotary_pct")}
    return {key: value for key, value in old.items() if value is not None} | rotary


def read_activation(path: Path, values: Mapping[str, Any], architecture: Architecture) -> dict[str, Any]:
    """Return our keys for the activation function that config.json names."""
    name = values["hidden_act"]
    if architecture.activations is PLAIN_ACTIVATIONS and name in TANH_GELU:
        return {"activation": "gelu", "bias_gelu_fusion": True}
    for ours, theirs in architecture.activations.items():
        if name in (ours, theirs):
            return {"activation": ours, "bias_gelu_fusion": False}
    raise CheckpointError(f"{path} has hidden_act {name!r}, which this package does not support. Choose another model.")


# ---- the other direction


def find_conflicts(architecture: Architecture, model: ModelConfig) -> dict[str, str]:
    """Return the keys whose values an architecture does not support, each with the value that the architecture has instead."""
    found = {
        key: ONE_FOR_EACH.get(key, str(value)) for key, value in architecture.fixed.items() if not is_equal_value(model, key, value)
    }
    if model.activation not in architecture.activations:
        found["activation"] = ", ".join(architecture.activations)
    return found


ONE_FOR_EACH = {"num_kv_heads": "num_attention_heads", "kv_channels": "hidden_size / num_attention_heads"}
"""Our key that an architecture's config.json cannot set -> the value that the architecture always has, for messages."""


def is_equal_value(model: ModelConfig, key: str, value: Any) -> bool:
    if key == "num_kv_heads":
        return model.kv_heads == model.num_attention_heads
    if key == "kv_channels":
        return model.head_dim * model.num_attention_heads == model.hidden_size
    return getattr(model, key) == value


def find_nearest_architecture(model: ModelConfig) -> tuple[str, dict[str, str]]:
    """Return the `model_type` whose block is most similar to the model's, and the conflicting keys (see `find_conflicts`)."""
    found = {kind: find_conflicts(architecture, model) for kind, architecture in ARCHITECTURES.items()}
    nearest = min(found, key=lambda kind: len(found[kind]))
    return nearest, found[nearest]


def format_conflicts(model: ModelConfig, format_key: FormatKey) -> str:
    """Return a sentence on the keys in which the most similar architecture differs; "" if an architecture has the same block."""
    nearest, conflicts = find_nearest_architecture(model)
    reasons = "; ".join(f"{format_key(key)}, where it has {value}" for key, value in conflicts.items())
    name = ARCHITECTURES[nearest].name
    return reasons and f"no architecture of Hugging Face has this model's block. The nearest, {name}, is prevented by {reasons}."


def choose_architecture(model: ModelConfig, format_key: FormatKey | None = None) -> str:
    """Return the `model_type` with the same block as the model. If there is none, raise CheckpointError with the conflicting keys.

    `format_key` returns a key with its value and origin.
    """
    if conflicts := format_conflicts(model, format_key or (lambda key: f"{key} ({getattr(model, key)})")):
        raise CheckpointError(f"{conflicts} Convert it to GPT-NeoX's files (--to neox) instead.")
    return find_nearest_architecture(model)[0]


def make_config(model: ModelConfig, vocab_rows: int, format_key: FormatKey | None = None) -> dict[str, Any]:
    """Return the config.json of a model whose embedding has `vocab_rows` rows, in the keys of transformers 5.

    It also contains the keys for rotary positions of earlier versions. Token ids and dtype are missing: the writer of the file adds
    them. Raise CheckpointError if no architecture has the model's block.
    """
    kind = choose_architecture(model, format_key)
    architecture = ARCHITECTURES[kind]
    config: dict[str, Any] = {"architectures": [architecture.name], "model_type": kind, "vocab_size": vocab_rows}
    config |= {theirs: get_value(model, ours) for ours, theirs in architecture.keys.items()}
    tanh, base = model.activation == "gelu" and model.bias_gelu_fusion, float(model.rotary_emb_base)
    config |= {
        "hidden_act": TANH_GELU[0] if tanh else architecture.activations[model.activation],
        "intermediate_size": model.feed_forward_size,
        "tie_word_embeddings": not model.no_weight_tying,
        "rope_parameters": {"rope_type": "default", "rope_theta": base},
    }
    if kind == "gpt_neox":  # readers of transformers 4's keys, such as llama.cpp's, look for the flat ones
        config["rope_parameters"]["partial_rotary_factor"] = model.rotary_pct
        return config | {"rotary_pct": model.rotary_pct, "rotary_emb_base": base}
    return config | {"rope_theta": base}


COMPUTED: dict[str, Callable[[ModelConfig], Any]] = {
    "num_kv_heads": lambda model: model.kv_heads,
    "kv_channels": lambda model: model.head_dim,
}


def get_value(model: ModelConfig, key: str) -> Any:
    """Return the value of a key; if it is not set, the value that the model uses."""
    return COMPUTED[key](model) if key in COMPUTED else getattr(model, key)
