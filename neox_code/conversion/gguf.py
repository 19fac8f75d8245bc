"""Write a model as GGUF, the format of llama.cpp: one file with weights, sizes and vocabulary.

    write_gguf(source, Path("model.gguf"), ConversionOptions(dtype="q8_0"))

The model's transformer block determines the architecture, as for Hugging Face: gptneox, llama or qwen3. One parameter is in memory
at a time. Tensors of one dimension stay in fp32, as in all files of llama.cpp. Quantized types have blocks of 32 values, so a
tensor is written in fp16 if its row length is not a multiple of 32.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neox_code.checkpoint.foreign_names import ForeignRow, list_foreign_rows
from neox_code.config.hugging_face import choose_architecture
from neox_code.config.neox import NeoXConfig
from neox_code.conversion.gguf_vocabulary import add_vocabulary
from neox_code.conversion.options import ConversionOptions
from neox_code.conversion.source import EMBEDDING, ModelSource
from neox_code.errors import CheckpointError
from neox_code.logs import get_logger
from neox_code.model.gpt import DTYPES
from neox_code.model.positions import count_rotary_dims

try:
    import gguf
except ModuleNotFoundError:
    gguf = None  # type: ignore[assignment]

log = get_logger(__name__)

ARCHITECTURES = {"gpt_neox": "gptneox", "llama": "llama", "qwen3": "qwen3"}
"""`model_type` of Hugging Face -> the architecture of llama.cpp with the same block."""

ACTIVATIONS = {"gpt_neox": "gelu", "llama": "swiglu", "qwen3": "swiglu"}
"""`model_type` of Hugging Face -> the only activation that llama.cpp supports for this architecture."""

TYPES = {
    "fp32": ("F32", "ALL_F32"),
    "fp16": ("F16", "MOSTLY_F16"),
    "bfloat16": ("BF16", "MOSTLY_BF16"),
    "q8_0": ("Q8_0", "MOSTLY_Q8_0"),
    "q4_0": ("Q4_0", "MOSTLY_Q4_0"),
}
"""Value of --dtype -> GGUF's type for tensors of two dimensions, and GGUF's type for the file."""

TORCH_TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
GELU_DIFFERENCE = 5e-4
"""Maximum difference between exact GELU and its approximation by the hyperbolic tangent, at an input of about 2.2."""


@dataclass(frozen=True)
class PlannedTensor:
    name: str
    """Name in GGUF, with the number of the block: blk.0.attn_qkv.weight."""
    shape: tuple[int, ...]
    type: str
    """A name of gguf.GGMLQuantizationType."""


@dataclass(frozen=True)
class PlannedParameter:
    ours: str
    row: ForeignRow
    shape: tuple[int, ...]
    """Shape of our whole parameter."""
    tensors: tuple[PlannedTensor, ...]


def write_gguf(source: ModelSource, output: Path, options: ConversionOptions) -> None:
    """Write the model to the file `output`. Raise CheckpointError or DataError for a model that llama.cpp cannot run."""
    if gguf is None:
        raise CheckpointError("--to gguf needs the package gguf, which is not installed. Install it with: pip install gguf==0.19.0")
    model = source.model
    kind = choose_architecture(model, source.config.format_key)
    refuse_unsupported_blocks(source.config, kind)
    dtype = options.dtype or next(name for name, dtype in DTYPES.items() if dtype == source.dtype)
    tensor_type, file_type = TYPES[dtype]
    planned = plan_tensors(source, kind, tensor_type)
    writer = gguf.GGUFWriter(output, ARCHITECTURES[kind])
    try:
        add_sizes(writer, source, kind)
        writer.add_file_type(gguf.LlamaFileType[file_type])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        add_vocabulary(writer, source.tokenizer, source.vocab_rows)
        for tensor in (tensor for parameter in planned for tensor in parameter.tensors):
            raw = gguf.GGMLQuantizationType[tensor.type]
            num_bytes = int(np.prod(gguf.quant_shape_to_byte_shape(tensor.shape, raw)))
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), num_bytes, raw_dtype=raw)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for content in read_contents(source, planned):
            writer.write_tensor_data(content)
    finally:
        writer.close()


def refuse_unsupported_blocks(config: NeoXConfig, kind: str) -> None:
    """Raise CheckpointError for a block that llama.cpp's architecture lacks; log a warning if llama.cpp approximates the block."""
    model, name = config.model, ARCHITECTURES[kind]
    remedy = "Convert it to Hugging Face's format (--to huggingface) instead."
    if model.activation != ACTIVATIONS[kind]:
        raise CheckpointError(f"llama.cpp's {name} needs {ACTIVATIONS[kind]}, not {config.format_key('activation')}. {remedy}")
    if kind == "qwen3" and model.use_bias_in_attn_linear:
        raise CheckpointError(f"llama.cpp's {name} does not support {config.format_key('use_bias_in_attn_linear')}. {remedy}")
    if kind == "gpt_neox" and not model.bias_gelu_fusion:
        log.warning(
            "llama.cpp's %s uses the tanh approximation of gelu, but this model uses exact gelu (bias_gelu_fusion: false): "
            "activations differ by up to %g, so its text can differ where two tokens are almost equally probable",
            name,
            GELU_DIFFERENCE,
        )


def add_sizes(writer: Any, source: ModelSource, kind: str) -> None:
    """Add the model's name, sizes and constants under llama.cpp's keys."""
    model = source.model
    writer.add_name(source.name)
    writer.add_context_length(model.max_position_embeddings)
    writer.add_embedding_length(model.hidden_size)
    writer.add_block_count(model.num_layers)
    writer.add_feed_forward_length(model.feed_forward_size)
    writer.add_head_count(model.num_attention_heads)
    writer.add_head_count_kv(model.kv_heads)
    writer.add_key_length(model.head_dim)
    writer.add_value_length(model.head_dim)
    writer.add_rope_dimension_count(count_rotary_dims(model.head_dim, model.rotary_pct))
    writer.add_rope_freq_base(float(model.rotary_emb_base))
    writer.add_vocab_size(source.vocab_rows)
    if kind == "gpt_neox":
        writer.add_parallel_residual(model.gpt_j_residual)
        writer.add_layer_norm_eps(model.layernorm_epsilon)
    else:
        writer.add_layer_norm_rms_eps(model.rms_norm_epsilon)


def plan_tensors(source: ModelSource, kind: str, tensor_type: str) -> list[PlannedParameter]:
    """Return the parameters in the order of the file. Shapes are computed from the configuration; no weight is read.

    llama.cpp's gptneox requires attention biases and an untied output head. If the model lacks these, they are added to the plan.
    """
    model, shapes = source.model, {name: tuple(shape) for name, shape in source.shapes.items()}
    head = f"sequential.{model.num_layers + 4}.final_linear.weight"
    if kind == "gpt_neox":
        shapes.setdefault(head, shapes[EMBEDDING])
        for weight in [name for name in shapes if name.endswith((".query_key_value.weight", ".attention.dense.weight"))]:
            shapes.setdefault(weight.removesuffix("weight") + "bias", shapes[weight][:1])
    makes_logits = head if head in shapes else EMBEDDING
    planned = []
    for ours, row in list_foreign_rows(f"gguf_{kind}", model).items():
        if ours in shapes:
            pieces = row.split(torch.empty(shapes[ours], device="meta"), model)
            wanted = "Q8_0" if tensor_type == "Q4_0" and ours == makes_logits else tensor_type
            tensors = [
                PlannedTensor(name, tuple(piece.shape), choose_type(tuple(piece.shape), wanted))
                for name, piece in zip(row.names, pieces, strict=True)
            ]
            planned.append(PlannedParameter(ours, row, shapes[ours], tuple(tensors)))
    return planned


def choose_type(shape: tuple[int, ...], wanted: str) -> str:
    """Return the GGUF type of a tensor with this shape. `wanted` is the type requested for the file.

    >>> choose_type((768,), "Q8_0"), choose_type((768, 768), "Q8_0"), choose_type((768, 100), "Q8_0")
    ('F32', 'Q8_0', 'F16')
    """
    if len(shape) == 1:
        return "F32"
    return "F16" if wanted not in TORCH_TYPES and shape[-1] % 32 else wanted


def read_contents(source: ModelSource, planned: list[PlannedParameter]) -> Iterator[NDArray[Any]]:
    """Yield the bytes of each planned tensor."""
    for parameter in planned:
        if parameter.ours in source.shapes:
            whole = source.read(parameter.ours, TORCH_TYPES.get(parameter.tensors[0].type))
        elif parameter.ours.endswith("final_linear.weight"):
            whole = source.read(EMBEDDING, TORCH_TYPES.get(parameter.tensors[0].type))
        else:
            whole = torch.zeros(parameter.shape)
        for tensor, piece in zip(parameter.tensors, parameter.row.split(whole, source.model), strict=True):
            yield encode_tensor(piece, tensor)


def encode_tensor(piece: torch.Tensor, tensor: PlannedTensor) -> NDArray[Any]:
    """Return a tensor as bytes, in its GGUF type."""
    if tensor.type in TORCH_TYPES:
        return piece.contiguous().view(torch.uint8).numpy()
    return gguf.quantize(piece.float().contiguous().numpy(), gguf.GGMLQuantizationType[tensor.type])
