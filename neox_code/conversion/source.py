"""The source model of a conversion, in any format: its configuration, its vocabulary, and its weights, which are read when used.

source = open_source(Path("checkpoints"), iteration=1000)
for name, weight in source.iter_weights(): ...    # ("sequential.0.word_embeddings.weight", [rows, H]), one in memory at a time
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from neox_code.checkpoint.consistency import compute_expected_shapes, has_finite_values
from neox_code.checkpoint.layout import find_checkpoint, parse_iteration
from neox_code.checkpoint.model_folder import merge_config
from neox_code.checkpoint.optimizer_files import read_chosen_weights
from neox_code.checkpoint.record import RunRecord, read_record, read_stored_config
from neox_code.checkpoint.vocabulary_rows import choose_padding_mask, count_scored_rows
from neox_code.checkpoint.weights import EMBEDDING, LazyWeights
from neox_code.config.command_line import CommandLine
from neox_code.config.model import ModelConfig
from neox_code.config.neox import NeoXConfig
from neox_code.errors import CheckpointError
from neox_code.logs import get_logger
from neox_code.model.sharding import get_sharding
from neox_code.tokenizer.protocol import Tokenizer
from neox_code.tokenizer.registry import build_tokenizer

log = get_logger(__name__)


@dataclass(frozen=True)
class ModelSource:
    folder: Path
    """The checkpoint global_stepN, or the folder of Hugging Face."""

    config: NeoXConfig
    """Configuration with the keys of the model and its vocabulary. All other keys have their defaults."""

    weights: LazyWeights
    record: RunRecord | None
    """The run's record in a checkpoint of this package."""

    @property
    def model(self) -> ModelConfig:
        return self.config.model

    @property
    def name(self) -> str:
        """Name of the model's folder; for a checkpoint global_stepN, the name of the folder that contains it."""
        return (self.folder if parse_iteration(self.folder) is None else self.folder.parent).resolve().name

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """Tokenizer of the model; None if the source has no vocabulary."""
        data = self.config.data
        return build_tokenizer(data) if data.vocab_file or data.tokenizer_type == "CharLevelTokenizer" else None

    @cached_property
    def vocab_rows(self) -> int:
        """Number of embedding rows that are written.

        Padding rows of the vocabulary are not counted if they never enter the softmax.
        """
        rows = self.weights[EMBEDDING].shape[0]
        if self.tokenizer is None:
            return rows
        if rows < self.tokenizer.vocab_size:
            raise CheckpointError(
                f"{self.folder} has {rows:,} vocabulary rows, but its tokenizer has {self.tokenizer.vocab_size:,} entries. "
                "Use the vocabulary of the training."
            )
        model = choose_padding_mask(self.config, self.folder, read_stored_config(self.folder, self.record)).model
        return count_scored_rows(model, self.tokenizer.vocab_size, self.folder, self.record, self.weights)

    @cached_property
    def dtype(self) -> torch.dtype:
        """Type of the weights in the files."""
        return self.weights[EMBEDDING].dtype

    @cached_property
    def shapes(self) -> dict[str, torch.Size]:
        """Shape of each parameter, in the order of `iter_weights`, computed from the configuration. No weight is read."""
        shapes = compute_expected_shapes(self.model)
        rows = {name: (self.vocab_rows, *shapes[name][1:]) if get_sharding(name).is_vocabulary else shapes[name] for name in shapes}
        return {name: torch.Size(rows[name]) for name in rows}

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return a whole parameter by our name, in `dtype` or in the type of its file. Embedding and head have `vocab_rows` rows.

        Raise CheckpointError if the file is damaged, or if a value exceeds the range of `dtype`.
        """
        weight = self.weights[name]
        if get_sharding(name).is_vocabulary:
            weight = weight[: self.vocab_rows]
        converted = weight.to(dtype or weight.dtype)
        if not has_finite_values(converted):
            raise CheckpointError(
                f"{name} of {self.folder} has values beyond the range of {converted.dtype}. Choose bfloat16 or fp32."
            )
        return converted

    def iter_weights(self, dtype: torch.dtype | None = None) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield each parameter as `read` does, in the order of the layers."""
        for name in self.shapes:
            yield name, self.read(name, dtype)


def open_source(path: Path, iteration: int | None = None, overrides: Mapping[str, Any] | None = None) -> ModelSource:
    """Return the model in a folder of any format. `overrides` replace keys of its configuration.

    Raise CheckpointError or ConfigError if it cannot be read.
    """
    chosen = {} if iteration is None else {"iteration": iteration}
    config = merge_config(CommandLine((path,), {**(overrides or {}), **chosen}))
    folder = find_checkpoint(path, iteration)
    weights = read_chosen_weights(folder, config.model, config.generation.use_average)
    log.info("%s %s", folder, weights.description)
    return ModelSource(folder, config, weights, read_record(folder))
