"""The options of a conversion."""

from dataclasses import dataclass

DTYPES = ("fp32", "fp16", "bfloat16")
QUANTIZED = ("q8_0", "q4_0")
"""Types of GGUF alone: blocks of 32 weights with a common factor, of 8 or 4 bits a weight."""

BYTES_PER_SHARD = 5 * 10**9


@dataclass(frozen=True)
class ConversionOptions:
    dtype: str | None = None
    """Type of the weights that are written; None: that of the source."""

    shard_bytes: int = BYTES_PER_SHARD
    """Maximum size of a file of weights in bytes."""

    model_parallel_size: int = 1
    pipe_parallel_size: int = 1
    """Pipeline stages; 0 writes all weights of a tensor rank to one file, as GPT-NeoX without a pipeline does."""
