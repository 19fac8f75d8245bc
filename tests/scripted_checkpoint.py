"""A checkpoint whose completions are known beforehand: each byte is always followed by the same one.

    config_file = write_checkpoint(tmp_path)            # loads as a configuration with `load`, vocabulary and shape

After `(` it goes on with COMPLETION and ends the document; after any other byte come dots without end. The vocabulary is the
256 bytes after the three special tokens. Attention and feed-forward add nothing, so a token's own embedding picks the next one.
"""

import json
from pathlib import Path
from typing import Any

import torch
import yaml

from neox_code.checkpoint.layout import get_latest_path, get_layer_path, make_step_name
from neox_code.config.derive import compute_padded_vocab_size
from neox_code.config.model import ModelConfig
from neox_code.files import write_text
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid
from neox_code.tokenizer.byte_level import SPECIAL_TOKENS, make_byte_alphabet
from neox_code.tokenizer.gpt2 import GPT2Tokenizer

COMPLETION = "a, é):\r\n\t\x1b~"
"""No byte twice: a character of two bytes, line end, tab and a control character."""

START = "("
CONTEXT_LENGTH = 64
SHAPE = {"num_layers": 2, "hidden_size": 128, "num_attention_heads": 4, "max_position_embeddings": CONTEXT_LENGTH}
KEYS: dict[str, Any] = SHAPE | {"pos_emb": "rotary", "no_weight_tying": True, "precision": "fp32"}


def write_vocabulary(folder: Path, *further: str) -> GPT2Tokenizer:
    """Write the files of the vocabulary; the last token of `further` is the only merge, of its two characters."""
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *make_byte_alphabet(), *further])}
    write_text(folder / "vocab.json", json.dumps(vocabulary))
    write_text(folder / "merges.txt", "#version: 0.2\n" + "".join(f"{first} {second}\n" for first, second in further[-1:]))
    return GPT2Tokenizer.from_files(folder / "vocab.json", folder / "merges.txt")


def scripted_gpt(tokenizer: GPT2Tokenizer) -> GPT:
    """The model; rows of the head are the embeddings of the tokens before, of which all that lead to a dot share a part."""
    model = ModelConfig(**KEYS)
    padded = compute_padded_vocab_size(tokenizer.vocab_size, model.make_vocab_size_divisible_by, 1)
    gpt = GPT(build_layers(model, tokenizer.vocab_size, padded, single_process_grid(), torch.float32)).eval()
    (dot,) = tokenizer.encode(".")
    chain = [tokenizer.eod_id, *tokenizer.encode(START + COMPLETION), tokenizer.eod_id]
    assert len(set(chain)) == len(chain) - 1 and dot not in chain
    generator = torch.Generator().manual_seed(5)
    embedding = torch.randn(tokenizer.vocab_size, model.hidden_size, generator=generator)
    to_dot = torch.randn(model.hidden_size, generator=generator)
    embedding[[token for token in range(tokenizer.vocab_size) if token not in chain]] += to_dot
    with torch.no_grad():
        for name, parameter in gpt.named_parameters():
            if "dense" in name:
                parameter.zero_()
        gpt.get_parameter("sequential.0.word_embeddings.weight")[: tokenizer.vocab_size] = embedding
        head = gpt.get_parameter(f"sequential.{model.num_layers + 4}.final_linear.weight").zero_()
        head[dot] = to_dot
        head[chain[1:]] = embedding[chain[:-1]]
    return gpt


def write_checkpoint(folder: Path, *further: str, **keys: Any) -> Path:
    """Vocabulary, weights in the checkpoint's layout, and a configuration file; returns its path. Keywords are further keys."""
    tokenizer = write_vocabulary(folder, *further)
    step = folder / "checkpoints" / make_step_name(1)
    step.mkdir(parents=True)
    for index, module in scripted_gpt(tokenizer).sequential.items():
        torch.save(module.state_dict(), get_layer_path(step, int(index), 0))
    write_text(get_latest_path(step.parent), step.name)
    files = {"load": str(step.parent), "vocab_file": str(folder / "vocab.json"), "merge_file": str(folder / "merges.txt")}
    write_text(folder / "model.yml", yaml.safe_dump(KEYS | files | keys))
    return folder / "model.yml"
