"""Count the vocabulary rows that enter the softmax in the model of a checkpoint.

config = choose_padding_mask(config, folder, stored)           # mask_padded_vocab, as the model was trained
rows = count_scored_rows(config.model, vocab_size, folder, record, weights)

Models of GPT-NeoX and of Hugging Face give a probability to every row of their files, the padding rows of the vocabulary included.
Rows that only a layout adds, to divide the vocabulary over tensor-parallel ranks, never enter the softmax.
"""

from pathlib import Path

from neox_code.checkpoint.layout import is_written_by_this_package
from neox_code.checkpoint.model_folder import FROM_CHECKPOINT
from neox_code.checkpoint.record import SCORED_ROWS, RunRecord, StoredConfig
from neox_code.checkpoint.weights import EMBEDDING, LazyWeights, read_weights
from neox_code.config.assembly import DEFAULT
from neox_code.config.model import ModelConfig
from neox_code.config.neox import NeoXConfig
from neox_code.logs import get_logger

log = get_logger(__name__)


def choose_padding_mask(config: NeoXConfig, folder: Path, stored: StoredConfig | None) -> NeoXConfig:
    """Return the configuration with the checkpoint's value of `mask_padded_vocab`, unless a file or option sets this key."""
    if config.origins["mask_padded_vocab"] != DEFAULT or not config.model.mask_padded_vocab:
        return config
    is_own = is_written_by_this_package(folder)
    if stored.values.get("mask_padded_vocab", True) if stored else is_own:
        return config
    if not is_own:
        log.info("the padding rows of the vocabulary were trained and get probabilities (mask_padded_vocab: false)")
    return config.replace(FROM_CHECKPOINT, mask_padded_vocab=False)


def count_scored_rows(
    model: ModelConfig, vocab_size: int, folder: Path, record: RunRecord | None, weights: LazyWeights | None = None
) -> int:
    """Return the number N of vocabulary rows that enter the softmax: the rows 0 to N - 1.

    Pass the checkpoint's `weights` if they are open already. Raise CheckpointError if the weights cannot be read.
    """
    if model.mask_padded_vocab:
        return vocab_size
    if record and (recorded := record.layout.get(SCORED_ROWS) or record.layout.get("padded_vocab_size")):
        return recorded
    name = f"sequential.{model.num_layers + 4}.final_linear.weight" if model.no_weight_tying else EMBEDDING
    head = (weights or read_weights(folder, model, names_only=True))[name]
    rows = head.shape[0]
    if is_written_by_this_package(folder):  # whose files have zeros in rows that were added for the layout
        while rows > vocab_size and not head[rows - 1].any():
            rows -= 1
    return max(rows, vocab_size)
