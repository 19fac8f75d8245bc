"""The average of the weights against its formula over saved weights, in other layouts, after a resume, and where it is used."""

from pathlib import Path

import pytest
import torch
from distributed_runs import losses_of

from neox_code.checkpoint.layout import find_checkpoint
from neox_code.checkpoint.optimizer_files import read_averages, read_optimizer_state
from neox_code.checkpoint.universal import AVERAGE
from neox_code.checkpoint.weights import read_weights
from neox_code.config.neox import NeoXConfig
from neox_code.conversion.convert import convert
from neox_code.conversion.options import ConversionOptions
from neox_code.errors import CheckpointError, ConfigError
from neox_code.training.trackers import read_metrics

VOCABULARY = 640
"""Number of entries of the job's vocabulary. The rows after them are padding, which differs between layouts."""

SAVES = {"extra_save_iters": [0], "checkpoint_factor": 1}


def list_bits(run: Path, steps: int, file: Path) -> dict[str, torch.Tensor]:
    model = NeoXConfig.load([file]).model
    states = read_optimizer_state(run / f"global_step{steps}", model)
    return {name: states.read(name, AVERAGE) for name in states.names}


def read_validation(run: Path, name: str) -> list[float]:
    return [row[name] for row in read_metrics(run / "metrics.jsonl") if name in row]


def test_the_average_follows_its_formula_and_moves_between_layouts(job, tmp_path):
    keys = {"average_decay": 0.3, "train_iters": 4, "eval_interval": 2}
    file = job(**keys, **SAVES)
    losses = losses_of(1, file, tmp_path / "one")
    model, folders = NeoXConfig.load([file]).model, [tmp_path / "one" / f"global_step{step}" for step in range(5)]
    expected = dict(read_weights(folders[0], model))
    for step, folder in enumerate(folders[1:]):
        decay = min(0.3, (1 + step) / (10 + step))
        expected = {name: decay * mean + (1 - decay) * read_weights(folder, model)[name] for name, mean in expected.items()}
    found = read_averages(folders[4], model)
    for name, mean in expected.items():
        torch.testing.assert_close(found[name], mean, rtol=0, atol=1e-6)
    save = tmp_path / "moving"
    for ranks, layout in ((2, {"pipe_parallel_size": 0}), (2, {"pipe_parallel_size": 2})):
        moved = losses_of(ranks, job(**keys, **layout), save, load=str(save), exit_interval=2)
    assert moved == pytest.approx(losses, abs=5e-6)
    for name, mean in read_averages(save / "global_step4", model).items():
        torch.testing.assert_close(mean[:VOCABULARY], found[name][:VOCABULARY], rtol=0, atol=1e-5)
    of_average, of_weights = (read_validation(tmp_path / "one", f"validation/{name}") for name in ("average/lm_loss", "lm_loss"))
    assert len(of_average) == len(of_weights) == 2 and of_average[1] > of_weights[1]  # the loss falls, and the average is behind
    assert read_validation(save, "validation/average/lm_loss")[-1] == pytest.approx(of_average[1], abs=5e-6)
    convert(folders[4], tmp_path / "converted", "neox", ConversionOptions(), None, {"use_average": True})
    converted = read_weights(find_checkpoint(tmp_path / "converted"), model)
    assert all(torch.equal(converted[name][:VOCABULARY], found[name][:VOCABULARY]) for name in found)


def test_a_bf16_run_with_an_average_resumes_to_the_bit_and_trains_as_without_it(job, tmp_path):
    keys = {"precision": "bfloat16", "eval_interval": 2, "pipe_parallel_size": 2}
    file, save = job(**keys, average_decay=0.9), tmp_path / "halves"
    whole = losses_of(2, file, tmp_path / "whole")
    losses_of(2, file, save, load=str(save), exit_interval=3)
    assert losses_of(2, file, save, load=str(save)) == whole
    expected = list_bits(tmp_path / "whole", 6, file)
    assert all(torch.equal(mean, expected[name]) for name, mean in list_bits(save, 6, file).items())
    assert losses_of(2, job(**keys), tmp_path / "without") == whole
    with pytest.raises(CheckpointError, match="holds no averages of weights"):
        read_averages(tmp_path / "without" / "global_step6", NeoXConfig.load([file]).model)


def test_layouts_without_a_whole_average_are_refused(job):
    for keys in ({"zero_optimization": {"stage": 3}, "pipe_parallel_size": 0}, {"lora_rank": 4}):
        with pytest.raises(ConfigError, match="average_decay"):
            NeoXConfig.load([job(**keys, average_decay=0.9)])
