"""Read the new tokens of a pass with one call of compiled code (decoding.cpp), not with many of torch's operators for each layer.

    gpt.decoder = build_decoder(gpt.sequential)        # None without a compiler
    gpt.hidden(tokens_1S, view)                        # then reads the tokens so

On a CPU a single token takes about as long as reading the weights from memory. The results of a token have the same bits beside any
other tokens, however a text is divided into passes. Weights are not copied: the code reads those of PlainLinear, PackedLinear and
QuantizedLinear where they are.

Shape letters: S tokens, H hidden, V vocabulary.
"""

import ctypes
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from neox_code.config.model import ModelConfig
from neox_code.model.block import TransformerBlock
from neox_code.model.embedding import Embedding, FinalNorm, Head
from neox_code.model.kv_cache import CacheView
from neox_code.model.norms import RMSNorm
from neox_code.native_library import load_library
from neox_code.parallel.allocator import use_huge_pages
from neox_code.parallel.packed import PackedLinear, QuantizedLinear
from neox_code.parallel.plain_layers import PlainLinear

SOURCE = Path(__file__).with_name("decoding.cpp")

UNIT = 32
"""Buffers of the compiled code have widths that are multiples of this number."""

FLOAT, BFLOAT16, BFLOAT16_PAIRS, INTEGER = range(4)
"""Formats of weights, in the order of `Format` in decoding.cpp."""

FUNCTIONS = ("bilinear", "gelu geglu", "tanh", "relu reglu", "silu swish swiglu", "glu", "softsign", "mish")
ACTIVATIONS = {name: number for number, names in enumerate(FUNCTIONS) for name in names.split()}
"""Value of the key `activation` -> number of its function in `Activation` of decoding.cpp."""

Pointer = ctypes.c_void_p
Integer = ctypes.c_int64


class Weights(ctypes.Structure):
    """`Linear` of decoding.cpp."""

    _fields_ = [
        *((name, Pointer) for name in ("weight", "bias", "scales", "sums")),
        *((name, Integer) for name in ("rows", "columns", "format", "block")),
    ]


class LayerWeights(ctypes.Structure):
    """`Layer` of decoding.cpp."""

    _fields_ = [
        *((name, Pointer) for name in ("norm", "norm_bias", "second_norm", "second_norm_bias", "query_norm", "key_norm", "slopes")),
        *((name, Pointer) for name in ("embedding_skip", "value_residual")),
        *((name, Weights) for name in ("query_key_value", "dense", "up", "down")),
    ]


class ModelWeights(ctypes.Structure):
    """`Model` of decoding.cpp."""

    _fields_ = [
        *((name, Integer) for name in ("num_layers", "hidden", "heads", "groups", "head_dim", "inner", "rotary_dim", "activation")),
        *((name, Integer) for name in ("is_gated", "is_rms", "is_parallel", "cache_is_bf16")),
        *((name, ctypes.c_double) for name in ("epsilon", "head_epsilon")),
        *((name, Pointer) for name in ("cos", "sin", "norm", "norm_bias", "layers")),
    ]


class CachedToken(ctypes.Structure):
    """`Token` of decoding.cpp."""

    _fields_ = [("cache", Pointer), ("capacity", Integer), ("position", Integer)]


def pad(count: int) -> int:
    return -(-count // UNIT) * UNIT


class NativeDecoder:
    """The layers of a GPT in the form that decoding.cpp reads. The model's weights must stay where they are."""

    def __init__(self, library: ctypes.CDLL, layers: nn.ModuleDict):
        self.library = library
        self.tensors: list[torch.Tensor] = []
        """Tensors whose addresses the structures contain."""
        modules = list(layers.values())
        self.embedding: Embedding = next(module for module in modules if isinstance(module, Embedding))
        blocks = [module for module in modules if isinstance(module, TransformerBlock)]
        final_norm = next(module for module in modules if isinstance(module, FinalNorm))
        head = next((module.final_linear for module in modules if isinstance(module, Head)), self.embedding.word_embeddings)
        self.dtype = self.embedding.word_embeddings.weight.dtype
        self.config: ModelConfig = self.embedding.model
        self.layers = (LayerWeights * len(blocks))(*map(self.convert_block, blocks))
        self.head = self.convert_linear(head)
        self.model = self.convert_model(blocks, final_norm)
        self.hidden_width = pad(self.config.hidden_size)

    @cached_property
    def products(self) -> list[Weights]:
        """The weights of a step's matrix products, from the first layer to the head."""
        return [*(getattr(layer, name) for layer in self.layers for name in ("query_key_value", "dense", "up", "down")), self.head]

    def keep(self, tensor: torch.Tensor | None, dtype: torch.dtype = torch.float32) -> int | None:
        """Return the address of a vector's copy, padded with zeros to a multiple of UNIT; None for None."""
        if tensor is None:
            return None
        copied = F.pad(tensor.detach().to(dtype).flatten(), (0, -tensor.numel() % UNIT))
        self.tensors.append(copied)
        return copied.data_ptr()

    def convert_linear(self, linear: nn.Module) -> Weights:
        """Return the structure of a layer of the classes that `is_readable` accepts."""
        weight = linear.weight
        assert isinstance(weight, torch.Tensor)
        self.tensors.append(weight)
        (rows, columns), bias = weight.shape, self.keep(getattr(linear, "bias", None))
        if isinstance(linear, PackedLinear):
            address = torch.ops.mkldnn.data_ptr(weight)
            use_huge_pages(address, 2 * rows * columns)
            return Weights(address, bias, None, None, rows, columns, BFLOAT16_PAIRS, linear.block)
        address = weight.data_ptr()
        use_huge_pages(address, weight.nbytes)
        if isinstance(linear, QuantizedLinear):
            sums = self.keep(128 * weight.sum(1, dtype=torch.int32), torch.int32)
            return Weights(address, bias, self.keep(linear.scale), sums, rows, columns, INTEGER, 0)
        return Weights(address, bias, None, None, rows, columns, FLOAT if self.dtype is torch.float32 else BFLOAT16, 0)

    def convert_norm(self, norm: nn.Module) -> tuple[int | None, int | None]:
        if isinstance(norm, nn.LayerNorm):
            return self.keep(norm.weight), self.keep(norm.bias)
        assert isinstance(norm, RMSNorm)
        return self.keep(norm.scale), None

    def convert_block(self, block: TransformerBlock) -> LayerWeights:
        attention, mlp = block.attention, block.mlp
        head_norms = [None if norm is None else self.keep(norm.scale) for norm in (attention.q_norm, attention.k_norm)]
        slopes = None if attention.slopes is None else self.keep(torch.tensor(attention.slopes))
        linears = (attention.query_key_value, attention.dense, mlp.dense_h_to_4h, mlp.dense_4h_to_h)
        norms = [*self.convert_norm(block.input_layernorm), *self.convert_norm(block.post_attention_layernorm)]
        residuals = map(self.keep, (block.embedding_skip, attention.value_residual))
        return LayerWeights(*norms, *head_norms, slopes, *residuals, *map(self.convert_linear, linears))

    def convert_model(self, blocks: Sequence[TransformerBlock], final_norm: FinalNorm) -> ModelWeights:
        """Return the structure of the whole model, which refers to `layers`."""
        model, rotary = self.config, blocks[0].attention.rotary
        cos, sin = (None, None) if rotary is None else map(self.keep, rotary.lookup(torch.device("cpu"), torch.float32))
        is_rms, is_tanh = model.norm == "rmsnorm", model.activation == "gelu" and model.bias_gelu_fusion
        return ModelWeights(
            model.num_layers,
            model.hidden_size,
            model.num_attention_heads,
            model.kv_heads,
            model.head_dim,
            model.feed_forward_size,
            0 if rotary is None else rotary.rotary_dim,
            ACTIVATIONS["tanh" if is_tanh else model.activation],
            model.is_gated,
            is_rms,
            model.gpt_j_residual,
            self.dtype is torch.bfloat16,
            model.rms_norm_epsilon if is_rms else model.layernorm_epsilon,
            model.rms_norm_epsilon,
            cos,
            sin,
            *self.convert_norm(final_norm.norm),
            ctypes.cast(self.layers, Pointer),
        )

    def read(self, tokens_1S: torch.Tensor, view: CacheView) -> torch.Tensor:
        """Return the hidden state before the head, [1, S, H]; the new tokens are added to the caches."""
        embedded_SH = self.embedding(tokens_1S, view)[0]
        states = self.copy_padded(embedded_SH)
        tokens = (CachedToken * len(states))(
            *(
                CachedToken(row.tensor.data_ptr(), row.tensor.shape[3], position)
                for row, count in view.pairs
                for position in range(row.length, row.length + count)
            )
        )
        self.library.read_tokens(
            ctypes.byref(self.model), tokens, Integer(len(states)), Pointer(states.data_ptr()), Integer(torch.get_num_threads())
        )
        view.advance()
        return states[None, :, : self.config.hidden_size].to(embedded_SH.dtype)

    def logits(self, hidden_1SH: torch.Tensor) -> torch.Tensor:
        """Return fp32 logits [1, S, V]."""
        return self.multiply(self.head, hidden_1SH[0])[None]

    def multiply(self, weights: Weights, vectors: torch.Tensor) -> torch.Tensor:
        """Return the products [S, rows] of vectors [S, columns] with weights, in fp32."""
        inputs = self.copy_padded(vectors)
        outputs = torch.empty(len(inputs), weights.rows)
        self.library.multiply_vectors(
            ctypes.byref(weights),
            Pointer(inputs.data_ptr()),
            Integer(len(inputs)),
            Pointer(outputs.data_ptr()),
            Integer(torch.get_num_threads()),
        )
        return outputs

    def copy_padded(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return an fp32 copy of vectors, with zeros up to a width that is a multiple of UNIT."""
        return F.pad(vectors.to(torch.float32, copy=True), (0, -vectors.shape[-1] % UNIT)).contiguous()


def is_readable(linear: nn.Module) -> bool:
    """Return True if decoding.cpp has a kernel for the layer's weights."""
    if isinstance(linear, PackedLinear):
        return linear.block > 0
    return isinstance(linear, QuantizedLinear) or (
        isinstance(linear, PlainLinear) and linear.weight.dtype in (torch.float32, torch.bfloat16) and linear.weight.is_contiguous()
    )


def build_decoder(layers: nn.ModuleDict) -> NativeDecoder | None:
    """Return the decoder of a model on the CPU, or None if there is no compiler, or no kernel for the weights' format."""
    linears = [module for module in layers.modules() if isinstance(module, PlainLinear | PackedLinear | QuantizedLinear)]
    if not all(map(is_readable, linears)) or next(layers.parameters()).device.type != "cpu":
        return None
    library = load_library(SOURCE, "generation")
    return None if library is None else NativeDecoder(library, layers)
