"""Losses of a fine-tuning against a plain loop with transformers, against TRL, and against Stanford Alpaca's own data module.

The last two run where NEOX_CODE_TEST_PEERS names a folder that tools/peer_environment.py made.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from distributed_runs import run_ranks
from example_model import write_job
from finetuning_job import write_rows
from transformers import AutoModelForCausalLM

from neox_code.checkpoint.model_folder import load_config
from neox_code.config.command_line import parse_command_line
from neox_code.conversion.convert import convert
from neox_code.conversion.options import ConversionOptions
from neox_code.finetuning.finetune import finetune
from neox_code.finetuning.row_loaders import read_row_data
from neox_code.tokenizer.registry import build_tokenizer
from neox_code.training.trackers import read_metrics

RATE = 1e-3
ROWS = [
    {
        "instruction": f"Write a function that adds {number} to its argument{' and doubles the sum' * (number % 3)}.",
        "input": "" if number % 2 else f"x: {number}",
        "output": f"def add_{number}(x):\n" + f"    x = x + {number}\n" * (number % 5) + "    return x\n",
    }
    for number in range(24)
]
KEYS = {
    "row_template": ["alpaca-input", "alpaca"],
    "completion_column": "output",
    "seq_length": 512,
    "train_iters": 6,
    "train_batch_size": 8,
    "train_micro_batch_size_per_gpu": 2,
    "optimizer": {"type": "Adam", "params": {"lr": RATE}},
    "weight_decay": 0.0,
    "lr_decay_style": "constant",
    "warmup": 0.0,
    "log_interval": 1,
    "num_workers": 0,
}
needs_peers = pytest.mark.skipif(
    "NEOX_CODE_TEST_PEERS" not in os.environ, reason="NEOX_CODE_TEST_PEERS names no folder that tools/peer_environment.py made"
)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the base model in the layout of Hugging Face, `model`, and the configuration of the fine-tuning."""
    folder = tmp_path_factory.mktemp("peers")
    text = write_job(folder).read_text().replace("max_position_embeddings: 32", "max_position_embeddings: 512")
    (folder / "checkpoints" / "configs").mkdir()
    for name in ("code-vocab.json", "code-merges.txt"):
        (folder / name).rename(folder / "checkpoints" / name)
    text = text.replace(f"{folder}/code", f"{folder}/checkpoints/code")
    (folder / "checkpoints" / "configs" / "job.yml").write_text(text)
    convert(folder / "checkpoints", folder / "model", "huggingface", ConversionOptions())
    (folder / "finetuning.yml").write_text(yaml.safe_dump(KEYS | {"train_rows": write_rows(folder / "rows.jsonl", ROWS)}))
    return folder


def make_words(job: Path, **keys: Any) -> list[str]:
    return [str(job / "model"), str(job / "finetuning.yml"), *(f"--set={key}={json.dumps(value)}" for key, value in keys.items())]


def run_from_folder(words: list[str]) -> None:
    finetune(load_config(parse_command_line(words, "", "finetune")).for_finetuning())


def read_our_losses(job: Path, save: Path, **keys: Any) -> list[float]:
    run_ranks(1, run_from_folder, make_words(job, save=str(save), **keys))
    return [row["train/lm_loss"] for row in read_metrics(save / "metrics.jsonl") if "train/lm_loss" in row]


def list_rows_in_order(job: Path, epochs: int) -> list[dict[str, Any]]:
    """The rows in the order in which an unpacked run reads them: the row, its ids between two end-of-document tokens, and the mask
    of those that are learned, from the texts alone."""
    config = load_config(parse_command_line(make_words(job, pack_rows=False), "", "finetune")).for_finetuning()
    tokenizer = build_tokenizer(config.data)
    data = read_row_data(config, tokenizer)
    found = []
    for epoch in range(epochs):
        samples = data.make_samples(config, tokenizer.eod_id, epoch)
        for index in range(len(samples)):
            row = ROWS[samples.list_parts(index)[0].document - 1]
            template = (Path("configs/templates") / ("alpaca-input.txt" if row["input"] else "alpaca.txt")).read_text()[:-1]
            prompt = tokenizer.encode(template.format_map(row))
            completion = [*tokenizer.encode(row["output"]), tokenizer.eod_id]
            ids = [tokenizer.eod_id, *prompt, *completion]
            found.append(row | {"ids": ids, "mask": [0] * (len(prompt) + 1) + [1] * len(completion)})
    return found


@pytest.fixture(scope="module")
def ours(job: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return read_our_losses(job, tmp_path_factory.mktemp("ours"), pack_rows=False)


def run_peer(job: Path, environment: str, **settings: Any) -> dict[str, Any]:
    """Runs a peer with the settings of the fine-tuning; returns its losses and counts of tokens."""
    python = Path(os.environ["NEOX_CODE_TEST_PEERS"]) / environment / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{python} does not exist")
    path = job / "peer.json"
    path.write_text(json.dumps({"model": str(job / "model"), "lr": RATE, "max_length": 512, **settings}))
    words = [str(python), str(Path(__file__).parents[1] / "peer_trainers.py"), str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def count_learned(rows: list[dict[str, Any]], batch_size: int) -> list[int]:
    return [sum(sum(row["mask"]) for row in rows[begin : begin + batch_size]) for begin in range(0, len(rows), batch_size)]


def test_losses_equal_those_of_a_plain_loop_with_transformers(job, ours, tmp_path):
    rows = list_rows_in_order(job, 2)
    model = AutoModelForCausalLM.from_pretrained(job / "model", dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.0)
    expected = []
    for step in range(6):
        batch = rows[8 * step : 8 * step + 8]
        total = torch.zeros(())
        for row in batch:  # each row alone: nothing can attend across rows
            ids, mask = torch.tensor([row["ids"]]), torch.tensor(row["mask"][1:])
            scores = model(ids[:, :-1]).logits[0]
            total = total + (torch.nn.functional.cross_entropy(scores, ids[0, 1:], reduction="none") * mask).sum()
        loss = total / sum(sum(row["mask"]) for row in batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        expected.append(loss.item())
    assert ours == pytest.approx(expected, abs=1e-4)
    assert ours[-1] < ours[0] - 1


def test_packed_rows_have_the_losses_of_rows_alone(job, tmp_path):
    """A step of the whole data: the loss must not depend on which rows share a sample."""
    packed = read_our_losses(job, tmp_path / "packed", train_batch_size=count_packed(job), train_micro_batch_size_per_gpu=1)
    padded = read_our_losses(job, tmp_path / "padded", train_batch_size=24, train_micro_batch_size_per_gpu=3, pack_rows=False)
    assert packed == pytest.approx(padded, abs=1e-5)


def count_packed(job: Path) -> int:
    config = load_config(parse_command_line(make_words(job), "", "finetune")).for_finetuning()
    tokenizer = build_tokenizer(config.data)
    samples = read_row_data(config, tokenizer).make_samples(config, tokenizer.eod_id)
    assert len(samples) < 12
    return len(samples)


@needs_peers
def test_losses_equal_those_of_trl(job, ours):
    rows = list_rows_in_order(job, 2)
    found = run_peer(job, "2026", trainer="trl", rows=rows, batch_size=8, steps=6, packing=False)
    assert found["losses"] == pytest.approx(ours, abs=1e-3)
    assert found["counts"] == count_learned(rows, 8)


@needs_peers
def test_packed_losses_equal_those_of_trl(job, tmp_path):
    rows = list_rows_in_order(job, 1)
    ours = read_our_losses(job, tmp_path, train_batch_size=count_packed(job), train_micro_batch_size_per_gpu=1)
    found = run_peer(job, "2026", trainer="trl", rows=rows, batch_size=len(rows), steps=6, packing=True)
    assert found["losses"] == pytest.approx(ours, abs=1e-3)
    assert found["counts"] == count_learned(rows, len(rows)) * 6


@needs_peers
def test_losses_equal_those_of_alpaca(job, ours):
    alpaca = Path(os.environ["NEOX_CODE_TEST_PEERS"]) / "stanford-alpaca"
    if not alpaca.exists():
        pytest.skip(f"{alpaca} does not exist")
    rows = list_rows_in_order(job, 2)
    texts = [{key: row[key] for key in ("instruction", "input", "output")} for row in rows]
    found = run_peer(job, "2026", trainer="alpaca", rows=texts, batch_size=8, steps=6, alpaca=str(alpaca))
    assert found["losses"] == pytest.approx(ours, abs=1e-3)
    assert found["counts"] == count_learned(rows, 8)
