"""Load a trained model onto one device for inference: `load_model(config)`.

Checkpoints of any pipeline and tensor-parallel size are merged. No process group is needed.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from neox_code.checkpoint.layout import find_checkpoint
from neox_code.checkpoint.record import read_record, read_stored_config
from neox_code.checkpoint.resume import check_model, check_vocabulary
from neox_code.checkpoint.vocabulary_rows import choose_padding_mask, count_scored_rows
from neox_code.checkpoint.weights import load_weights, read_weights
from neox_code.config.derive import compute_padded_vocab_size
from neox_code.config.model import ModelConfig
from neox_code.config.neox import NeoXConfig
from neox_code.errors import ConfigError
from neox_code.generation.familiar_text import log_fit
from neox_code.logs import get_logger
from neox_code.model.gpt import DTYPES, GPT, build_layers
from neox_code.model.mlp import fuse_activations
from neox_code.model.native_decoder import build_decoder
from neox_code.parallel.allocator import keep_freed_memory
from neox_code.parallel.grid import select_device, single_process_grid
from neox_code.parallel.packed import pack_weights
from neox_code.tokenizer.protocol import Tokenizer
from neox_code.tokenizer.registry import build_tokenizer

log = get_logger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    gpt: GPT
    """In evaluation mode; tokens_BS -> logits_BSV over the padded vocabulary: ids from `tokenizer.vocab_size` on are padding."""
    tokenizer: Tokenizer
    config: ModelConfig
    device: torch.device
    dtype: torch.dtype
    checkpoint: Path
    """The folder global_stepN that the model was loaded from."""
    scored_rows: int | None = None
    """Number N of vocabulary rows that have probabilities, rows 0 to N - 1; None: `tokenizer.vocab_size`."""
    newlines: str | None = None
    """Treatment of line ends with CR in prompts; see neox_code/tokenizer/newlines.py."""

    @property
    def context_length(self) -> int:
        return self.config.max_position_embeddings


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type that the weights have in training. On a CPU, where fp16 is slow, return fp32 instead of fp16."""
    return torch.float32 if precision == "fp16" and device.type == "cpu" else DTYPES[precision]


def prepare_for_inference(gpt: GPT, device: torch.device, load_in_8bit: bool = False) -> GPT:
    """Return the model on `device`, in evaluation mode. For a CPU, convert the weights to the form that a CPU reads fastest."""
    gpt = gpt.to(device).eval().requires_grad_(False)
    pack_weights(gpt, load_in_8bit)
    fuse_activations(gpt)
    gpt.decoder = build_decoder(gpt.sequential)
    return gpt


def load_model(config: NeoXConfig, device: torch.device | None = None) -> LoadedModel:
    """Return tokenizer and weights of `load` (or of `iteration` in it), on a GPU if there is one.

    Raise ConfigError if `load` is not set, CheckpointError if the checkpoint is missing, damaged or of another model or vocabulary,
    DataError if the vocabulary is missing or damaged.
    """
    if not config.training.load:
        raise ConfigError("load is not set: there is no model to read. Add a file that sets it, or --set load=checkpoints.")
    device = device or select_device()
    if device.type == "cpu":
        keep_freed_memory()
    elif config.generation.load_in_8bit:
        raise ConfigError(f"{config.format_key('load_in_8bit')} is for CPUs, and the model is loaded onto {device}. Remove it.")
    folder = find_checkpoint(config.training.load, config.training.iteration)
    record = read_record(folder)
    stored = read_stored_config(folder, record)
    check_model(folder, stored, config)
    tokenizer = build_tokenizer(config.data)
    check_vocabulary(folder, record, tokenizer)
    model = choose_padding_mask(config, folder, stored).model
    dtype = choose_dtype(model.precision, device)
    weights = read_weights(folder, model)  # before memory is allocated for sizes that they do not have
    padded = compute_padded_vocab_size(tokenizer.vocab_size, model.make_vocab_size_divisible_by, 1)
    rows = count_scored_rows(model, tokenizer.vocab_size, folder, record, weights)
    gpt = GPT(build_layers(model, tokenizer.vocab_size, max(padded, rows), single_process_grid(device), dtype, initialize=False))
    load_weights(gpt, folder, model, tokenizer.vocab_size, weights=weights)
    gpt = prepare_for_inference(gpt, device, config.generation.load_in_8bit)
    log_fit(gpt, tokenizer, model.max_position_embeddings, folder)
    log.info("model from %s on %s, %s", folder, device, str(dtype).removeprefix("torch."))
    return LoadedModel(gpt, tokenizer, model, device, dtype, folder, rows, config.data.newlines)
