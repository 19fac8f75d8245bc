"""Neovim itself, without a screen: a key is typed, and the completion is accepted.

Neovim is `nvim` on the PATH, or NEOX_CODE_TEST_NVIM; NEOX_CODE_TEST_LLAMA_VIM is the folder of the plug-in llama.vim.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scripted_checkpoint import COMPLETION, write_checkpoint

ROOT = Path(__file__).parents[2]
NVIM = os.environ.get("NEOX_CODE_TEST_NVIM") or shutil.which("nvim")
PLUGIN = os.environ.get("NEOX_CODE_TEST_LLAMA_VIM")


@pytest.fixture
def edit(tmp_path):
    """Return a function that sources a script in Neovim and returns the lines of the buffer that the script writes."""
    if NVIM is None:
        pytest.skip("no nvim is on the PATH, and NEOX_CODE_TEST_NVIM names none")

    def run(script: str, **variables: str) -> list[str]:
        answer = tmp_path / "answer.json"
        environment = {**os.environ, "HOME": str(tmp_path), "NEOX_ANSWER": str(answer), **variables}
        command = [NVIM, "--headless", "-u", "NONE", "-i", "NONE", "-n", "-c", f"source {Path(__file__).with_name(script)}", "x.py"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert answer.is_file(), done.stdout + done.stderr
        return json.loads(answer.read_text())

    return run


def test_the_language_client_of_neovim_shows_and_accepts_a_completion(edit, tmp_path):
    command = [sys.executable, str(ROOT / "deepy.py"), "lsp", str(write_checkpoint(tmp_path))]
    assert edit("language_client.lua", NEOX_COMMAND=json.dumps(command), DS_ACCELERATOR="cpu") == ["f(a, é):"]


def test_llama_vim_shows_and_accepts_a_completion(edit, client):
    version = re.search(r"NVIM v0\.(\d+)", subprocess.run([NVIM, "--version"], capture_output=True, text=True).stdout)
    if PLUGIN is None or version is None or int(version[1]) < 10:
        pytest.skip("NEOX_CODE_TEST_LLAMA_VIM names no folder of llama.vim, or Neovim is older than 0.10")
    lines = edit("llama_plugin.vim", NEOX_PLUGIN=PLUGIN, NEOX_ENDPOINT=f"{client.url}/infill")
    assert len(lines[0]) > 2 and ("f(" + COMPLETION).startswith("\n".join(lines)), "the plug-in's time limit is 250 ms"
