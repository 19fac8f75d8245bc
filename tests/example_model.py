"""A small model with random weights as a checkpoint, its vocabulary, and a corpus to judge it by."""

from pathlib import Path

import torch
import yaml
from real_code import real_file
from small_corpus import write_corpus

from neox_code.checkpoint.layout import get_latest_path, get_layer_path, make_step_name
from neox_code.config.model import ModelConfig
from neox_code.model.gpt import GPT, build_layers
from neox_code.parallel.grid import single_process_grid
from neox_code.tokenizer.train_bpe import train_bpe

VOCAB_SIZE, PADDED = 420, 512
CONTEXT_LENGTH = 32
SHAPE = {
    "num_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT_LENGTH,
    "pos_emb": "rotary",
    "no_weight_tying": True,
}

PYTHON = ["pygments/regexopt.py", "pygments/modeline.py", "pygments/token.py", "pygments/filter.py", "pygments/console.py"]
C = ["int main(void) {\n    return 0;\n}\n", "#include <stdio.h>\n\nint twice(int number) {\n    return 2 * number;\n}\n" * 3]
RUST = ["fn main() {}\n"]


def random_gpt(**keys: object) -> GPT:
    """A model in fp32 whose predictions are far from uniform."""
    gpt = GPT(build_layers(ModelConfig(**SHAPE | keys), VOCAB_SIZE, PADDED, single_process_grid(), torch.float32)).eval()
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return gpt


def write_job(folder: Path) -> Path:
    """Writes vocabulary, corpus and checkpoint of iteration 7 into the folder; returns the configuration file."""
    texts = [real_file(path).read_text(encoding="utf-8") for path in PYTHON]
    train_bpe(iter([*texts, *C]), VOCAB_SIZE, folder)
    write_corpus(
        folder / "corpus", {"train": {"Python": texts[:1], "C": C[:1], "Rust": RUST}, "test": {"Python": texts[1:], "C": C}}
    )
    checkpoint = folder / "checkpoints" / make_step_name(7)
    checkpoint.mkdir(parents=True)
    for index, layer in random_gpt().sequential.items():
        torch.save(layer.state_dict(), get_layer_path(checkpoint, int(index), 0))
    get_latest_path(checkpoint.parent).write_text(checkpoint.name)
    settings = SHAPE | {
        "vocab_file": str(folder / "code-vocab.json"),
        "merge_file": str(folder / "code-merges.txt"),
        "load": str(checkpoint.parent),
        "heldout_path": str(folder / "corpus"),
    }
    (folder / "job.yml").write_text(yaml.safe_dump(settings))
    return folder / "job.yml"
