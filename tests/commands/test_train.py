"""A rank as launchers other than ours start it."""

import os
import subprocess
import sys


def test_a_rank_without_gpu_and_launcher_prints_no_warnings():
    environment = {name: value for name, value in os.environ.items() if name not in ("DS_ACCELERATOR", "PYTHONWARNINGS")}
    words = [sys.executable, "-c", "import neox_code.commands.train"]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("", "")
