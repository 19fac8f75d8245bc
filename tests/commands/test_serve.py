"""./deepy.py serve as a process: its address, a signal, and mistakes on its command line."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scripted_checkpoint import COMPLETION, write_checkpoint

from neox_code.errors import ConfigError
from neox_code.serving.server import open_listener

ROOT = Path(__file__).parents[2]


@contextmanager
def start(*words: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "neox_code.commands.serve", *map(str, words)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_process_serves_until_a_signal_and_a_used_port_is_an_error(tmp_path):
    config = write_checkpoint(tmp_path)
    with start(config, "--port", 0, "--model-name", "mine") as server:
        assert server.stderr is not None
        address = next(
            found[1] for line in server.stderr if (found := re.search(r"serving mine at (http://127\.0\.0\.1:\d+)", line))
        )
        request = urllib.request.Request(
            f"{address}/v1/completions", b'{"prompt": "f(", "temperature": 0}', {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = json.loads(response.read())
        assert (answer["model"], answer["choices"][0]["text"]) == ("mine", COMPLETION)
        with pytest.raises(ConfigError, match=r"--host 127.0.0.1 --port \d+ cannot be used: .*in use"):
            open_listener("127.0.0.1", int(address.rpartition(":")[2]))
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
        assert "Traceback" not in server.stderr.read()
