"""A small model with random weights as a checkpoint, to which adapters are added."""

from pathlib import Path

import torch

from neox_code.checkpoint.layout import get_layer_path
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
