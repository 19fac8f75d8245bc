"""Write a whole model as layer files of any tensor-parallel size, without an engine or a process group.

    write_layer_files(folder, read_weights(other, model).items(), model, vocab_size, tensor_size=2)

The files are those that training writes with `pipe_parallel_size` 1 or more; any pipeline size reads them.
"""

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import torch

from neox_code.checkpoint.buffers import make_attention_buffers, make_embedding_buffers
from neox_code.checkpoint.layout import WHOLE_MODEL_NAME, get_layer_path
from neox_code.checkpoint.merge_ranks import get_name_in_file, make_file_part, resize_vocabulary
from neox_code.checkpoint.serialization import save_file
from neox_code.config.derive import compute_padded_vocab_size
from neox_code.config.model import ModelConfig
from neox_code.errors import CheckpointError
from neox_code.model.sharding import get_sharding


def write_layer_files(
    folder: Path, weights: Iterable[tuple[str, torch.Tensor]], model: ModelConfig, vocab_size: int, tensor_size: int = 1
) -> None:
    """Write the layer files of all tensor ranks into a new folder; one layer at a time is in memory.

    `weights` yields whole parameters by their names in a whole model, `sequential.INDEX.NAME`, one layer after the other. The rows
    of the vocabulary are padded for `tensor_size`. Raise CheckpointError for a name of another form, an existing file, a parameter
    that cannot be divided, and a file that cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = compute_padded_vocab_size(vocab_size, model.make_vocab_size_divisible_by, tensor_size)
    for index, layer in groupby(weights, lambda item: split_name(item[0])[0]):
        if get_layer_path(folder, index, 0).exists():
            raise CheckpointError(
                f"layer {index:02d} exists in {folder}. Choose an empty folder, and pass a layer's parameters one after another."
            )
        whole = {split_name(name)[1]: weight for name, weight in layer}
        for name in whole:
            if get_sharding(name).is_vocabulary:
                whole[name] = resize_vocabulary(name, whole[name], rows, vocab_size)
        for rank in range(tensor_size):
            state = {
                get_name_in_file(name, model): copy_shared_storage(make_file_part(name, weight, rank, tensor_size, model))
                for name, weight in whole.items()
            }
            save_file(state | make_layer_buffers(index, model, rank, tensor_size), get_layer_path(folder, index, rank))


def copy_shared_storage(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor, or a copy if other tensors share its storage, because torch.save writes the whole storage."""
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def split_name(name: str) -> tuple[int, str]:
    """Return the layer index and the name within the layer."""
    match = WHOLE_MODEL_NAME.fullmatch(name)
    if not match:
        raise CheckpointError(f"the parameter {name} is not named sequential.LAYER.NAME. Pass the parameters of a whole model.")
    return int(match[1]), match[2]


def make_layer_buffers(index: int, model: ModelConfig, tensor_rank: int, tensor_size: int) -> dict[str, torch.Tensor]:
    """Return the buffers that GPT-NeoX stores for a layer, by their names within the layer."""
    if index == 0:
        return make_embedding_buffers(model)
    if index > model.num_layers + 1:
        return {}
    return {f"attention.{name}": value for name, value in make_attention_buffers(model, tensor_rank, tensor_size).items()}
