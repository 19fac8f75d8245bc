"""Checkpoints as GPT-NeoX writes them, from the weights of a transformers model: every naming, form and tensor-parallel size.

    write_foreign_checkpoint(save, build_peer(gpt_j_residual=True), naming="v1", form="layers", tensor_size=2, keys=keys)

namings   v1 (PolyCoder: the older names and the rotary frequencies), legacy (the older names), new (linear1 and linear2)
forms     layers (a file of each layer and tensor rank), sequential (all weights in mp_rank files)

Weights are divided here by GPT-NeoX's rules, not by the project's functions. Every mp_rank file holds numpy's random state.
"""

import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

NAMINGS, FORMS = ("v1", "legacy", "new"), ("layers", "sequential")
BY_ROWS = (
    "embeddings.weight",
    "final_linear.weight",
    *(f"{name}.{kind}" for name in ("value", "h_to_4h") for kind in ("weight", "bias")),
)
BY_COLUMNS, ROW_BIASES = ("dense.weight", "4h_to_h.weight"), ("dense.bias", "4h_to_h.bias")
STEP = "global_step150000"
SMALL_MODEL = {
    "num_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "pos_emb": "rotary",
    "no_weight_tying": True,
}
"""Keys of a model whose checkpoint is written in no time."""


def build_peer(keys: dict[str, Any], rows: int, dtype: torch.dtype = torch.float32) -> GPTNeoXForCausalLM:
    """Return a model of transformers with random weights, biases included, whose logits are far from uniform."""
    config = GPTNeoXConfig(
        vocab_size=rows,
        hidden_size=keys["hidden_size"],
        num_hidden_layers=keys["num_layers"],
        num_attention_heads=keys["num_attention_heads"],
        intermediate_size=4 * keys["hidden_size"],
        max_position_embeddings=keys["max_position_embeddings"],
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": keys.get("rotary_pct", 1.0)},
        use_parallel_residual=keys.get("gpt_j_residual", False),
        tie_word_embeddings=not keys["no_weight_tying"],
    )
    peer = GPTNeoXForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return peer.to(dtype)


def read_layers(peer: GPTNeoXForCausalLM) -> dict[int, dict[str, torch.Tensor]]:
    """Return the weights by GPT-NeoX's layer index and its older names; a tied head has no layer of its own."""
    last = peer.config.num_hidden_layers
    layers: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in peer.state_dict().items():
        place = name.removeprefix("gpt_neox.").removeprefix("layers.")
        first, _, rest = place.partition(".")
        ends = {"embed_in": (0, "word_embeddings.weight"), "final_layer_norm": (last + 3, f"norm.{rest}")}
        index, ours = ends.get(first) or ((int(first) + 2, rest) if first.isdecimal() else (last + 4, "final_linear.weight"))
        if index < last + 4 or not peer.config.tie_word_embeddings:
            layers.setdefault(index, {})[ours] = value
    return layers


def divide(name: str, value: torch.Tensor, rank: int, size: int, is_parallel: bool) -> torch.Tensor:
    """Return a tensor rank's part. With a parallel residual row biases are summands, here unequal ones; otherwise copies."""
    if name.endswith(BY_ROWS):
        return value.chunk(size)[rank].clone()
    if name.endswith(BY_COLUMNS):
        return value.chunk(size, 1)[rank].clone()
    if name.endswith(ROW_BIASES) and is_parallel:
        return value * (rank + 1) / sum(range(1, size + 1))
    return value.clone()


def rename(state: dict[str, torch.Tensor], naming: str, peer: GPTNeoXForCausalLM, rotary_pct: float) -> dict[str, torch.Tensor]:
    if naming == "new":
        return {
            name.replace("dense_h_to_4h", "linear1").replace("dense_4h_to_h", "linear2"): value for name, value in state.items()
        }
    if naming == "v1" and "attention.dense.weight" in state:
        width = int(peer.config.hidden_size // peer.config.num_attention_heads * rotary_pct)
        frequencies = 1 / 10000 ** (torch.arange(0, width, 2) / width)
        return state | {"attention.rotary_emb.inv_freq": frequencies.to(state["attention.dense.weight"].dtype)}
    return state


def save_as_numpy_1(content: Any, path: Path) -> None:
    """Write a file as torch.save does beside numpy 1, which has another module name in the pickles of its arrays."""
    torch.save(content, path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, record in records.items():
            archive.writestr(name, record.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))


def write_foreign_checkpoint(
    save: Path, peer: GPTNeoXForCausalLM, keys: dict[str, Any], naming: str, form: str, tensor_size: int = 1
) -> None:
    """Write SAVE/latest, SAVE/configs/model.yml and the files of one step."""
    folder = save / STEP
    folder.mkdir(parents=True)
    (save / "configs").mkdir()
    (save / "configs" / "model.yml").write_text(yaml.safe_dump({**keys, "model_parallel_size": tensor_size}))
    (save / "latest").write_text(STEP)
    layers, is_parallel = read_layers(peer), peer.config.use_parallel_residual
    for rank in range(tensor_size):
        module = {}
        for index, layer in layers.items():
            state = {name: divide(name, value, rank, tensor_size, is_parallel) for name, value in layer.items()}
            state = rename(state, naming, peer, keys.get("rotary_pct", 1.0))
            if form == "layers":
                torch.save(state, folder / f"layer_{index:02}-model_{rank:02}-model_states.pt")
            module.update({f"sequential.{index}.{name}": value for name, value in state.items()})
        content = {
            "module": module if form == "sequential" else None,
            "optimizer": None,
            "lr_scheduler": {"num_iters": 150_000, "warmup_iter": 1600, "start_lr": 1.6e-4},
            "global_steps": 150_000,
            "iteration": 150_000,
            "mp_world_size": tensor_size,
            "args": {
                "num_layers": peer.config.num_hidden_layers,
                "hidden_size": peer.config.hidden_size,
                "num_attention_heads": peer.config.num_attention_heads,
                "padded_vocab_size": peer.config.vocab_size,
            },
            "random_rng_state": random.Random(rank).getstate(),
            "np_rng_state": np.random.RandomState(rank).get_state(),
            "torch_rng_state": torch.get_rng_state(),
        }
        save_as_numpy_1(content, folder / f"mp_rank_{rank:02}_model_states.pt")
