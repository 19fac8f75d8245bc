"""Fixtures for all tests: a small real training job, and the folder of test data that is not part of the project."""

import itertools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from real_code import MODULES, real_file

from neox_code.data.indexed_dataset import IndexedDatasetWriter, choose_id_dtype
from neox_code.tokenizer.gpt2 import GPT2Tokenizer
from neox_code.tokenizer.train_bpe import train_bpe

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # tests compare layouts on the CPU, with GPUs or without; those marked `gpu` undo this
os.environ["DS_ACCELERATOR"] = "cpu"
torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts the tests in the background has it ignored
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # so has nohup


def pytest_xdist_auto_num_workers() -> int:
    """Return the number of processes for `-n auto`: two more than there are cores, since half of the time of a test is waiting."""
    return len(os.sched_getaffinity(0)) + 2


@pytest.fixture(scope="session")
def job_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with code-vocab.json, code-merges.txt and tokens.bin/.idx of a dozen real Python files."""
    folder = tmp_path_factory.mktemp("job")
    texts = [real_file(path).read_bytes().decode() for path in MODULES]
    train_bpe(iter(texts), 640, folder)
    tokenizer = GPT2Tokenizer.from_files(folder / "code-vocab.json", folder / "code-merges.txt")
    with IndexedDatasetWriter(folder / "tokens", choose_id_dtype(tokenizer.vocab_size)) as writer:
        for ids in tokenizer.encode_batch(texts):
            writer.add_document([*ids, tokenizer.eod_id])
    return folder


@pytest.fixture(scope="session")
def wide_vocabulary(job_folder: Path) -> dict[str, str]:
    """The same vocabulary with further merges up to 50,257 entries, which no layout can hold without padding."""
    vocabulary = json.loads((job_folder / "code-vocab.json").read_text())
    merges = (job_folder / "code-merges.txt").read_text().splitlines()
    plain = [token for token in vocabulary if not token.startswith("<|")]
    for left, right in itertools.product(plain, plain):
        if len(vocabulary) == 50_257:
            break
        if left + right not in vocabulary:
            vocabulary[left + right] = len(vocabulary)
            merges.append(f"{left} {right}")
    paths = {"vocab_file": job_folder / "wide-vocab.json", "merge_file": job_folder / "wide-merges.txt"}
    paths["vocab_file"].write_text(json.dumps(vocabulary))
    paths["merge_file"].write_text("\n".join(merges) + "\n")
    return {key: str(path) for key, path in paths.items()}


@pytest.fixture
def job(job_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a configuration file for a run of six steps, each in a folder of its own; keywords change keys."""

    def write(**keys: object) -> Path:
        settings = {
            "num_layers": 2,
            "hidden_size": 64,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "seq_length": 64,
            "pos_emb": "rotary",
            "no_weight_tying": True,
            "precision": "fp32",
            "pipe_parallel_size": 1,
            "model_parallel_size": 1,
            "train_batch_size": 8,
            "train_micro_batch_size_per_gpu": 2,
            "train_iters": 6,
            "optimizer": {"type": "Adam", "params": {"lr": 0.003, "betas": [0.9, 0.95]}},
            "zero_optimization": {"stage": 1},
            "lr_decay_style": "cosine",
            "warmup": 0.1,
            "gradient_clipping": 1.0,
            "data_path": str(job_folder / "tokens"),
            "split": "80,10,10",
            "vocab_file": str(job_folder / "code-vocab.json"),
            "merge_file": str(job_folder / "code-merges.txt"),
            "num_workers": 0,
            "log_interval": 1,
            "eval_interval": 3,
            "eval_iters": 1,
        }
        path = tmp_path_factory.mktemp("job") / "job.yml"
        path.write_text(yaml.safe_dump(settings | keys))
        return path

    return write


@pytest.fixture
def test_data() -> Path:
    """Folder with vocabularies and benchmarks that are not part of the project; the test is skipped without it."""
    folder = os.environ.get("NEOX_CODE_TEST_DATA")
    if not folder:
        pytest.skip("NEOX_CODE_TEST_DATA names no folder with test data")
    return Path(folder)
