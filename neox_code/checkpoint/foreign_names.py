"""A table of each parameter's names in other formats, with the conversion of its tensors. It is read in both directions.

    rows = list_foreign_rows("llama", model)
    rows["sequential.2.attention.query_key_value.weight"].names      # ("model.layers.0.self_attn.q_proj.weight", ..k.., ..v..)
    row.split(whole, model)                                          # our parameter -> their tensors, in the order of the names
    row.join(tensors, model)                                         # the inverse

Formats: `gpt_neox`, `llama` and `qwen3` are the architectures of Hugging Face; `gguf_gpt_neox`, `gguf_llama` and `gguf_qwen3` are
those of llama.cpp. In a name {} is the number of the block, from 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange

from neox_code.config.model import ModelConfig
from neox_code.model.sharding import count_query_key_value_rows

Tensors = Sequence[torch.Tensor]


@dataclass(frozen=True)
class Transformation:
    """Conversion of one of our parameters into the tensors of another format, and back."""

    split: Callable[[torch.Tensor, ModelConfig], Tensors] = lambda whole, model: [whole]
    join: Callable[[Tensors, ModelConfig], torch.Tensor] = lambda tensors, model: tensors[0]


def split_heads(whole: torch.Tensor, model: ModelConfig) -> Tensors:
    """Split the fused projection into queries [heads * D, ...], keys [groups * D, ...] and values [groups * D, ...]."""
    if rows := count_query_key_value_rows(model):
        return whole.split(rows)
    return [rearrange(part, "n d ... -> (n d) ...") for part in whole.unflatten(0, (-1, 3, model.head_dim)).unbind(1)]


def join_heads(tensors: Tensors, model: ModelConfig) -> torch.Tensor:
    if count_query_key_value_rows(model):
        return torch.cat(list(tensors))
    return torch.stack([tensor.unflatten(0, (-1, model.head_dim)) for tensor in tensors], 1).flatten(0, 2)


def interleave_dimensions(tensor: torch.Tensor, model: ModelConfig) -> torch.Tensor:
    """Reorder each head's rows so that row i of the first half stands directly before row i of the second half.

    The architecture `llama` of llama.cpp rotates neighboring rows together.
    """
    return rearrange(tensor, "(n half d) ... -> (n d half) ...", half=2, d=model.head_dim // 2)


def deinterleave_dimensions(tensor: torch.Tensor, model: ModelConfig) -> torch.Tensor:
    """The inverse of `interleave_dimensions`."""
    return rearrange(tensor, "(n d half) ... -> (n half d) ...", half=2, d=model.head_dim // 2)


def split_interleaved_heads(whole: torch.Tensor, model: ModelConfig) -> Tensors:
    query, key, value = split_heads(whole, model)
    return [interleave_dimensions(query, model), interleave_dimensions(key, model), value]


def join_interleaved_heads(tensors: Tensors, model: ModelConfig) -> torch.Tensor:
    query, key, value = tensors
    return join_heads([deinterleave_dimensions(query, model), deinterleave_dimensions(key, model), value], model)


SAME = Transformation()
HEADS = Transformation(split_heads, join_heads)
STACKED_HEADS = Transformation(
    lambda whole, model: [torch.cat(list(split_heads(whole, model)))],
    lambda tensors, model: join_heads(tensors[0].chunk(3), model),
)
PAIRED_HEADS = Transformation(split_interleaved_heads, join_interleaved_heads)
GATE = Transformation(lambda whole, model: whole.chunk(2)[::-1], lambda tensors, model: torch.cat([tensors[1], tensors[0]]))
"""In our parameter the rows of `up` come first and the rows of the gate follow; other formats store gate and up as two tensors."""


@dataclass(frozen=True)
class ForeignRow:
    names: tuple[str, ...]
    transformation: Transformation = SAME

    def split(self, whole: torch.Tensor, model: ModelConfig) -> Tensors:
        """Return the other format's tensors in the order of `names`."""
        return self.transformation.split(whole, model)

    def join(self, tensors: Tensors, model: ModelConfig) -> torch.Tensor:
        """Return our parameter: the inverse of `split`."""
        return self.transformation.join(tensors, model)


def map_linear(ours: str, *theirs: str, change: Transformation = SAME) -> dict[str, ForeignRow]:
    """Return the table entries for the weight and the bias of a linear layer."""
    return {f"{ours}.{end}": ForeignRow(tuple(f"{name}.{end}" for name in theirs), change) for end in ("weight", "bias")}


def map_layer_norm(ours: str, theirs: str) -> dict[str, ForeignRow]:
    return map_linear(ours, theirs)


def map_rms_norm(ours: str, theirs: str) -> dict[str, ForeignRow]:
    """Return the table entry for the scale of an RMS norm. Other formats call the scale `weight`."""
    return {f"{ours}.scale": ForeignRow((f"{theirs}.weight",))}


LLAMA = "model.layers.{}."
NEOX = "gpt_neox.layers.{}."
GGUF = "blk.{}."

OUTSIDE = {
    form: {
        "word_embeddings.weight": ForeignRow((f"{embedding}.weight",)),
        **norm("norm", final_norm),
        "final_linear.weight": ForeignRow((f"{head}.weight",)),
    }
    for form, norm, embedding, final_norm, head in (
        ("gpt_neox", map_layer_norm, "gpt_neox.embed_in", "gpt_neox.final_layer_norm", "embed_out"),
        ("llama", map_rms_norm, "model.embed_tokens", "model.norm", "lm_head"),
        ("qwen3", map_rms_norm, "model.embed_tokens", "model.norm", "lm_head"),
        ("gguf_gpt_neox", map_layer_norm, "token_embd", "output_norm", "output"),
        ("gguf_llama", map_rms_norm, "token_embd", "output_norm", "output"),
        ("gguf_qwen3", map_rms_norm, "token_embd", "output_norm", "output"),
    )
}
"""Format -> entries for the parameters outside the transformer blocks."""

BLOCK = {
    "gpt_neox": {
        **map_layer_norm("input_layernorm", NEOX + "input_layernorm"),
        **map_layer_norm("post_attention_layernorm", NEOX + "post_attention_layernorm"),
        **map_linear("attention.query_key_value", NEOX + "attention.query_key_value"),
        **map_linear("attention.dense", NEOX + "attention.dense"),
        **map_linear("mlp.dense_h_to_4h", NEOX + "mlp.dense_h_to_4h"),
        **map_linear("mlp.dense_4h_to_h", NEOX + "mlp.dense_4h_to_h"),
    },
    "llama": {
        **map_rms_norm("input_layernorm", LLAMA + "input_layernorm"),
        **map_rms_norm("post_attention_layernorm", LLAMA + "post_attention_layernorm"),
        **map_linear("attention.query_key_value", *(f"{LLAMA}self_attn.{letter}_proj" for letter in "qkv"), change=HEADS),
        **map_rms_norm("attention.q_norm", LLAMA + "self_attn.q_norm"),
        **map_rms_norm("attention.k_norm", LLAMA + "self_attn.k_norm"),
        **map_linear("attention.dense", LLAMA + "self_attn.o_proj"),
        **map_linear("mlp.dense_h_to_4h", LLAMA + "mlp.gate_proj", LLAMA + "mlp.up_proj", change=GATE),
        **map_linear("mlp.dense_4h_to_h", LLAMA + "mlp.down_proj"),
    },
    "gguf_gpt_neox": {
        **map_layer_norm("input_layernorm", GGUF + "attn_norm"),
        **map_layer_norm("post_attention_layernorm", GGUF + "ffn_norm"),
        **map_linear("attention.query_key_value", GGUF + "attn_qkv", change=STACKED_HEADS),
        **map_linear("attention.dense", GGUF + "attn_output"),
        **map_linear("mlp.dense_h_to_4h", GGUF + "ffn_up"),
        **map_linear("mlp.dense_4h_to_h", GGUF + "ffn_down"),
    },
    "gguf_qwen3": {
        **map_rms_norm("input_layernorm", GGUF + "attn_norm"),
        **map_rms_norm("post_attention_layernorm", GGUF + "ffn_norm"),
        **map_linear("attention.query_key_value", *(f"{GGUF}attn_{letter}" for letter in "qkv"), change=HEADS),
        **map_rms_norm("attention.q_norm", GGUF + "attn_q_norm"),
        **map_rms_norm("attention.k_norm", GGUF + "attn_k_norm"),
        **map_linear("attention.dense", GGUF + "attn_output"),
        **map_linear("mlp.dense_h_to_4h", GGUF + "ffn_gate", GGUF + "ffn_up", change=GATE),
        **map_linear("mlp.dense_4h_to_h", GGUF + "ffn_down"),
    },
}
"""Format -> entries for the parameters of a transformer block."""

BLOCK["qwen3"] = BLOCK["llama"]
BLOCK["gguf_llama"] = BLOCK["gguf_qwen3"] | map_linear(
    "attention.query_key_value", *(f"{GGUF}attn_{letter}" for letter in "qkv"), change=PAIRED_HEADS
)

FREQUENCIES = "rotary_emb.inv_freq"
SKIPPED = ("attention.bias", "attention.masked_bias", FREQUENCIES)
"""Endings of tensor names to skip: earlier versions of transformers stored these tensors, which are not parameters."""


def list_foreign_rows(form: str, model: ModelConfig) -> dict[str, ForeignRow]:
    """Return the entries of a format for all layers of a model, in layer order, by our full names `sequential.INDEX.NAME`.

    Entries for parameters that the model may lack, such as biases, are included.
    """
    last = model.num_layers + 4
    outside = {0: "word_embeddings.", last - 1: "norm.", last: "final_linear."}
    found: dict[str, ForeignRow] = {}
    for index in range(last + 1):
        if index in outside:
            found |= {f"sequential.{index}.{name}": row for name, row in OUTSIDE[form].items() if name.startswith(outside[index])}
        elif 2 <= index < last - 2:
            for name, row in BLOCK[form].items():
                names = tuple(foreign.format(index - 2) for foreign in row.names)
                found[f"sequential.{index}.{name}"] = ForeignRow(names, row.transformation)
    return found
