"""Write a model in the layout of Hugging Face, with the files that transformers 5 writes.

write_hugging_face(source, Path("model"), ConversionOptions(dtype="bfloat16"))

config.json, generation_config.json: the architecture follows from the block, see config.hugging_face. Weights:
model.safetensors, or shards with an index, see conversion.safetensors_shards. Tokenizer: see
conversion.tokenizer_files. README.md: see conversion.model_card.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from neox_code.checkpoint.foreign_names import ForeignRow, list_foreign_rows
from neox_code.config.hugging_face import CONFIG_FILE, make_config
from neox_code.conversion.model_card import make_model_card
from neox_code.conversion.options import ConversionOptions
from neox_code.conversion.safetensors_shards import write_safetensors
from neox_code.conversion.source import ModelSource
from neox_code.conversion.tokenizer_files import write_tokenizer
from neox_code.files import write_json, write_text
from neox_code.model.gpt import DTYPES


def write_hugging_face(source: ModelSource, output: Path, options: ConversionOptions) -> None:
    """Write the model's folder. Raise CheckpointError, before anything is written, if no architecture has the model's block."""
    model = source.model
    config = make_config(model, source.vocab_rows, source.config.format_key)
    dtype = DTYPES[options.dtype] if options.dtype else source.dtype
    rows = list_foreign_rows(config["model_type"], model)
    shapes = {
        name: part.shape
        for ours, shape in source.shapes.items()
        for name, part in zip(rows[ours].names, rows[ours].split(torch.empty(shape, device="meta"), model), strict=True)
    }
    tokens = get_special_ids(source)
    output.mkdir(parents=True)
    # Llama keeps the row of a pad_token_id at zero and never trains it, so the end of a document must not be one
    pad = tokens.get("pad_token_id") if tokens.get("pad_token_id") != tokens.get("eos_token_id") else None
    write_json(output / CONFIG_FILE, config | tokens | {"pad_token_id": pad, "dtype": str(dtype).removeprefix("torch.")})
    write_json(output / "generation_config.json", tokens)
    write_safetensors(output, shapes, split_parameters(source, rows, dtype), dtype, options.shard_bytes)
    write_tokenizer(source.tokenizer, source.config.data, model.max_position_embeddings, output)
    write_text(output / "README.md", make_model_card(source, options.facts, options.adapter))


def get_special_ids(source: ModelSource) -> dict[str, Any]:
    """Return the ids of special tokens under transformers' keys. The end-of-document token is also the token that begins a text."""
    tokenizer = source.tokenizer
    if tokenizer is None:
        return {"bos_token_id": None, "eos_token_id": None}
    return {"bos_token_id": tokenizer.eod_id, "eos_token_id": tokenizer.eod_id, "pad_token_id": tokenizer.pad_id}


def split_parameters(source: ModelSource, rows: dict[str, ForeignRow], dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    for ours, weight in source.iter_weights(dtype):
        yield from zip(rows[ours].names, rows[ours].split(weight, source.model), strict=True)
