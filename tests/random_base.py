"""A small model with random weights as a checkpoint, and random adapters for it."""

from pathlib import Path

import torch

from neox_code.adapters.attach import find_base, prepare_adapters
from neox_code.adapters.files import make_peft_config, make_sample, write_adapter
from neox_code.checkpoint.layout import get_layer_path
from neox_code.checkpoint.weights import read_weights
from neox_code.config.neox import NeoXConfig
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid


def write_random_base(config: NeoXConfig, folder: Path, rows: int) -> Path:
    """Writes layer files and the configuration; returns the folder. The predictions are far from uniform."""
    gpt = GPT(build_layers(config.model, rows, rows, single_process_grid(), torch.float32, seed=3))
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "merged.yml").write_text(config.to_yaml())
    generator = torch.Generator().manual_seed(1)
    for index, layer in gpt.sequential.items():
        state = {name: value + 0.05 * torch.randn(value.shape, generator=generator) for name, value in layer.state_dict().items()}
        torch.save(state, get_layer_path(folder, int(index), 0))
    return folder


def write_random_adapter(config: NeoXConfig, folder: Path, rows: int, seed: int) -> Path:
    """Writes an adapter, with the configuration's settings, for the model in its `load`; returns the folder."""
    gpt = GPT(build_layers(config.model, rows, rows, single_process_grid(), torch.float32))
    prepare_adapters(gpt, config, rows, single_process_grid())
    trained = {name: parameter.detach() for name, parameter in gpt.named_parameters() if parameter.requires_grad}
    generator = torch.Generator().manual_seed(seed)
    for tensor in trained.values():
        tensor.add_(0.2 * torch.randn(tensor.shape, generator=generator))
    sample = make_sample(read_weights(find_base(config), config.model))
    write_adapter(folder, make_peft_config(config, rows), config.model, trained, sample)
    return folder
