"""Training on a GPU, as the launcher starts it; skipped where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from distributed_runs import losses_of

from neox_code.files import read_json_lines
from neox_code.launch.hosts import count_gpus

DEEPY = Path(__file__).parents[2] / "deepy.py"

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not count_gpus(), reason="this machine has no NVIDIA GPU")]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bfloat16", 0.03), ("fp16", 0.03)])
def test_a_gpu_gives_the_losses_of_the_cpu(job, tmp_path, precision, tolerance):
    fp16 = {"enabled": True, "initial_scale_power": 8}
    file = job(precision=precision, fp16=fp16) if precision == "fp16" else job(precision=precision)
    environment = {name: value for name, value in os.environ.items() if name not in ("CUDA_VISIBLE_DEVICES", "DS_ACCELERATOR")}
    save = tmp_path / "gpu"
    words = [sys.executable, str(DEEPY), "train", str(file), "--set", f"save={save}", "--set", "num_gpus=1"]
    subprocess.run(words, check=True, env=environment, timeout=600)
    losses = [row["train/lm_loss"] for row in read_json_lines(save / "metrics.jsonl") if "train/lm_loss" in row]
    assert losses == pytest.approx(losses_of(1, job(), tmp_path / "cpu"), abs=tolerance)
