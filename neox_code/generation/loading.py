"""Load a trained model onto one device for inference: `load_model(config)`.

Checkpoints of any pipeline and tensor-parallel size are merged. No process group is needed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from neox_code.adapters.attach import get_linear
from neox_code.adapters.files import Adapter, merge_weights, read_adapter
from neox_code.adapters.low_rank import Selection
from neox_code.checkpoint.layout import ADAPTER_FOLDER, find_checkpoint
from neox_code.checkpoint.optimizer_files import read_chosen_weights
from neox_code.checkpoint.record import read_record, read_stored_config
from neox_code.checkpoint.resume import check_model, check_vocabulary
from neox_code.checkpoint.vocabulary_rows import choose_padding_mask, count_scored_rows
from neox_code.checkpoint.weights import load_weights
from neox_code.config.derive import compute_padded_vocab_size
from neox_code.config.model import ModelConfig
from neox_code.config.neox import NeoXConfig
from neox_code.errors import CheckpointError, ConfigError
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
    adapters: tuple[str, ...] = ()
    """Names of the adapters that `apply` selects."""
    selection: Selection = field(default_factory=Selection)

    @property
    def context_length(self) -> int:
        return self.config.max_position_embeddings

    @contextmanager
    def apply(self, adapter: str | None) -> Iterator[None]:
        """Within the block the model computes with an adapter, and without the compiled decoder, which reads the base alone."""
        if adapter is None:
            yield
            return
        decoder, self.gpt.decoder, self.selection.name = self.gpt.decoder, None, adapter
        try:
            yield
        finally:
            self.gpt.decoder, self.selection.name = decoder, None


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type that the weights have in training. On a CPU, where fp16 is slow, return fp32 instead of fp16."""
    return torch.float32 if precision == "fp16" and device.type == "cpu" else DTYPES[precision]


def prepare_for_inference(gpt: GPT, device: torch.device, load_in_8bit: bool = False, fuses: bool = True) -> GPT:
    """Return the model on `device`, in evaluation mode. For a CPU, convert the weights to the form that a CPU reads fastest."""
    gpt = gpt.to(device).eval().requires_grad_(False)
    pack_weights(gpt, load_in_8bit)
    if fuses:
        fuse_activations(gpt)
    gpt.decoder = build_decoder(gpt.sequential)
    return gpt


def name_adapter(folder: Path) -> str:
    """Return the name under which an adapter is served.

    >>> name_adapter(Path("checkpoints/kotlin/adapter")), name_adapter(Path("lua-v2"))
    ('kotlin', 'lua-v2')
    """
    whole = folder.resolve()
    return whole.parent.name if whole.name == ADAPTER_FOLDER else whole.name


def attach_served(gpt: GPT, adapters: Sequence[Adapter], dtype: torch.dtype, device: torch.device, load_in_8bit: bool) -> Selection:
    """Prepare a model that computes with one of several adapters, by the returned selection."""
    for adapter in adapters:
        if adapter.rows:
            raise CheckpointError(f"{adapter.folder} has rows of tokens, which are not served. Merge it (convert --merge-adapter).")
        for name, change in adapter.changes.items():
            change.to(dtype=dtype).fix(get_linear(gpt.sequential, name))
    prepare_for_inference(gpt, device, load_in_8bit, fuses=False)
    selection = Selection()
    for adapter in adapters:
        for name, change in adapter.changes.items():
            change.move(device)
            change.attach(get_linear(gpt.sequential, name), name_adapter(adapter.folder), selection)
    return selection


def load_model(config: NeoXConfig, device: torch.device | None = None, serves: bool = False) -> LoadedModel:
    """Return tokenizer and weights of `load` (or of `iteration` in it), on a GPU if there is one.

    One adapter is merged into the weights; with `serves`, any number is kept beside them, and `LoadedModel.apply` selects one.
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
    # before memory is allocated for sizes that the weights do not have
    weights = read_chosen_weights(folder, model, config.generation.use_average)
    adapters = [read_adapter(Path(path), model) for path in config.adapter.adapters]
    names = [name_adapter(adapter.folder) for adapter in adapters]
    if len(set(names)) < len(names) or (len(names) > 1 and not serves):
        reason = "two have the same name" if serves else "only serve takes several"
        raise ConfigError(f"{config.format_key('adapters')}: {reason}. Change it.")
    if adapters and not serves:
        weights = merge_weights(weights, adapters[0], folder)
    padded = compute_padded_vocab_size(tokenizer.vocab_size, model.make_vocab_size_divisible_by, 1)
    rows = count_scored_rows(model, tokenizer.vocab_size, folder, record, weights)
    gpt = GPT(build_layers(model, tokenizer.vocab_size, max(padded, rows), single_process_grid(device), dtype, initialize=False))
    load_weights(gpt, folder, model, tokenizer.vocab_size, weights=weights)
    selection = Selection()
    if adapters and serves:
        for adapter in adapters:
            adapter.require_base(folder, weights)
        selection = attach_served(gpt, adapters, dtype, device, config.generation.load_in_8bit)
    else:
        gpt = prepare_for_inference(gpt, device, config.generation.load_in_8bit)
    log_fit(gpt, tokenizer, model.max_position_embeddings, folder)
    log.info("model from %s on %s, %s", folder, device, str(dtype).removeprefix("torch."))
    return LoadedModel(
        gpt, tokenizer, model, device, dtype, folder, rows, config.data.newlines, tuple(names if serves else ()), selection
    )
