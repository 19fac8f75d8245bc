"""The options of a conversion."""

from dataclasses import dataclass
from pathlib import Path

from neox_code.conversion.card_facts import NO_FACTS, CardFacts

DTYPES = ("fp32", "fp16", "bfloat16")
QUANTIZED = ("q8_0", "q4_0")
"""Quantized types, which only GGUF has: blocks of 32 weights share a scale, and each weight has 8 or 4 bits."""

BYTES_PER_SHARD = 5 * 10**9


@dataclass(frozen=True)
class ConversionOptions:
    dtype: str | None = None
    """Type of the weights in the output; None: the type of the source."""

    shard_bytes: int = BYTES_PER_SHARD
    """Maximum size in bytes of a file of weights."""

    adapter: Path | None = None
    """Folder of an adapter for the model, whose weights are added to the model's; with the format adapter, what is written."""

    facts: CardFacts = NO_FACTS
    """Facts for the model card that no run records."""

    model_parallel_size: int = 1
    pipe_parallel_size: int = 1
    """Pipeline stages; 0 writes all weights of a tensor rank to one file, as GPT-NeoX without a pipeline does."""
