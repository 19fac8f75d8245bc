"""The upload of a converted model by huggingface_hub itself, to a server of this machine."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from distributed_runs import run_ranks
from finetuning_job import run_finetuning, write_finetuning
from foreign_checkpoint import build_peer, write_foreign_checkpoint
from huggingface_hub import ModelCard

KEYS = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 32, "pos_emb": "rotary"}
KEYS |= {"no_weight_tying": True}


class Hub(BaseHTTPRequestHandler):
    """The requests of an upload: account, repository, kinds of files, commit."""

    server: Any

    def log_message(self, *arguments: Any) -> None: ...

    def do_GET(self) -> None:
        self.send(200 if self.headers["Authorization"] == "Bearer hf_right" else 401, {"name": "me", "type": "user"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        address = f"http://127.0.0.1:{self.server.server_port}/me/model"
        if self.path.endswith("/repos/create"):
            self.server.created.append(json.loads(body))
            return self.send(200, {"url": address, "name": "me/model", "id": "me/model"})
        if "/preupload/" in self.path:
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            return self.send(200, {"files": files})
        if self.path.endswith("/validate-yaml"):
            return self.send(200, {"errors": [], "warnings": []})
        assert "/commit/" in self.path
        if self.server.is_full:
            return self.send(403, {"error": "storage limit reached"})
        for row in map(json.loads, body.splitlines()):
            if row["key"] == "file":
                self.server.files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
        return self.send(200, {"commitUrl": f"{address}/commit/1", "commitOid": "1", "pullRequestUrl": None})

    def send(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def hub() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.files, server.created, server.is_full = {}, [], False  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def convert(folder: Path, port: int, *options: str, token: str = "hf_right") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_TOKEN": token, "HF_HOME": str(folder / "home")}
    environment |= {"HF_HUB_DISABLE_XET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "neox_code.commands.convert", str(folder / "source"), str(folder / "out"), *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_foreign_checkpoint(tmp_path / "source", build_peer(KEYS, 640), KEYS, "new", "layers")
    return tmp_path


def test_the_written_folder_is_uploaded(folder, hub):
    done = convert(folder, hub.server_port, "--to", "huggingface", "--push", "me/model")
    assert done.returncode == 0, done.stderr
    assert "/me/model/commit/1" in done.stderr
    assert hub.files == {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    assert {"README.md", "config.json", "model.safetensors"} <= hub.files.keys()
    assert hub.created[0]["name"] == "model"


def test_a_failed_upload_keeps_the_folder_and_names_the_command(folder, hub):
    hub.is_full = True
    done = convert(folder, hub.server_port, "--to", "huggingface", "--push", "me/model")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "403" in done.stderr
    assert f"Run: hf upload me/model {folder / 'out'}" in done.stderr and (folder / "out" / "config.json").is_file()


@pytest.mark.parametrize(
    "options, token, is_reachable, sentence",
    [
        (["--to", "huggingface", "--push", "me/model"], "hf_wrong", True, "the token: run hf auth login"),
        (["--to", "huggingface", "--push", "me/model"], "hf_right", False, "Check the name (OWNER/MODEL), the network"),
        (["--to", "huggingface", "--push", "a/b/c"], "hf_right", True, "--push a/b/c: Repo id must be in the form"),
        (["--to", "neox", "--push", "me/model"], "hf_right", True, "--push has no effect on --to neox"),
    ],
)
def test_what_prevents_an_upload_is_reported_before_the_conversion(folder, hub, options, token, is_reachable, sentence):
    done = convert(folder, hub.server_port if is_reachable else 9, *options, token=token)
    assert (done.returncode, "Traceback" in done.stderr, sentence in done.stderr) == (2, False, True), done.stderr
    assert not (folder / "out").exists()


def test_an_adapter_is_uploaded_with_the_card_of_its_run(hub, tmp_path):
    file = write_finetuning(tmp_path)
    run_ranks(1, run_finetuning, str(file), {"save": str(tmp_path / "source"), "train_iters": 1})
    keys = {"load": str(tmp_path / "source"), "save": str(tmp_path / "lora"), "train_iters": 2, "lora_rank": 4, "lora_alpha": 8}
    run_ranks(1, run_finetuning, str(file), keys)
    adapter = tmp_path / "lora" / "adapter"
    (tmp_path / "card.yml").write_text("base_model: me/base\n")
    words = ["--to", "adapter", "--adapter", str(adapter)]
    done = convert(tmp_path, hub.server_port, *words, "--card", str(tmp_path / "card.yml"), "--push", "me/model")
    assert done.returncode == 0, done.stderr
    assert hub.files.keys() == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert hub.files["adapter_model.safetensors"] == (adapter / "adapter_model.safetensors").read_bytes()
    described = json.loads((adapter / "adapter_config.json").read_text())
    assert json.loads(hub.files["adapter_config.json"]) == described | {"base_model_name_or_path": "me/base"}
    text = hub.files["README.md"].decode()
    data = ModelCard(text).data
    assert (data.base_model, data.base_model_relation, data.library_name) == ("me/base", "adapter", "peft")
    assert all(part in text for part in ("| method | LoRA, rank 4, alpha 8 |", "| steps | 2 |", "rows.jsonl (train) | 40 |")), text

    other = tmp_path / "other"
    run_ranks(1, run_finetuning, str(file), {"save": str(other / "source"), "train_iters": 1, "seed": 99})
    done = convert(other, hub.server_port, *words)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert f"{adapter} is an adapter for another base" in done.stderr and not (other / "out").exists()
