"""Files that are no checkpoints, and what is said of them."""

import collections
import pickle
import random
import zipfile

import numpy as np
import pytest
import torch

from neox_code.checkpoint.serialization import load_file, save_file
from neox_code.errors import CheckpointError

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
)


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html></html>", POINTER, b"PK\x03\x04", b"\x80\x02}q"])
def test_a_file_that_is_not_a_checkpoint_is_reported(tmp_path, content):
    path = tmp_path / "layer.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"layer\.pt .* is damaged or not a checkpoint"):
        load_file(path)


@pytest.mark.parametrize("protocol", ["pickle", "zip"])
def test_damage_at_any_byte_is_an_error_without_a_traceback(tmp_path, protocol):
    path = tmp_path / "layer.pt"
    torch.save({"weight": torch.arange(4.0)}, path, _use_new_zipfile_serialization=protocol == "zip")
    whole, numbers = path.read_bytes(), random.Random(7)
    for _ in range(300):
        damaged = bytearray(whole[: numbers.randrange(1, len(whole))])
        for _ in range(4):
            damaged[numbers.randrange(len(damaged))] = numbers.randrange(256)
        path.write_bytes(damaged)
        try:
            load_file(path)
        except CheckpointError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize(
    ("size", "kind", "reason"), [(9_000_000, zipfile.ZIP_STORED, "9,000,000 bytes"), (9, zipfile.ZIP_DEFLATED, "compressed")]
)
def test_a_record_that_torch_does_not_write_is_not_read(tmp_path, size, kind, reason):
    with zipfile.ZipFile(tmp_path / "layer.pt", "w", kind) as archive:
        archive.writestr("layer/data.pkl", bytes(size))
    with pytest.raises(CheckpointError, match=rf"layer\.pt .*{reason}"):
        load_file(tmp_path / "layer.pt", is_checked=True)


def test_a_class_that_is_not_allowed_is_named(tmp_path):
    path = tmp_path / "layer.pt"
    torch.save({"weight": collections.ChainMap()}, path)
    with pytest.raises(CheckpointError, match=r"contains collections\.ChainMap, which is not a tensor, and is not loaded"):
        load_file(path)


def test_random_bytes_are_an_error_without_a_traceback(tmp_path):
    path, numbers = tmp_path / "layer.pt", random.Random(3)
    for _ in range(300):
        path.write_bytes(pickle.PROTO + bytes([2]) + numbers.randbytes(40))
        with pytest.raises(CheckpointError):
            load_file(path)


def test_load_file_returns_the_saved_value(tmp_path):
    save_file({"weight": torch.arange(3)}, tmp_path / "layer.pt")
    assert load_file(tmp_path / "layer.pt")["weight"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_the_random_state_that_gpt_neox_writes_is_read(tmp_path, module):
    """GPT-NeoX's mp_rank files hold the states of Python's, numpy's and torch's random numbers; PolyCoder's are by numpy 1."""
    state = {
        "module": {"weight": torch.arange(3)},
        "random_rng_state": random.Random(1).getstate(),
        "np_rng_state": np.random.RandomState(1).get_state(),
        "torch_rng_state": torch.get_rng_state(),
    }
    path = tmp_path / "mp_rank_00_model_states.pt"
    torch.save(state, path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in records if name.endswith("data.pkl"))
    records[pickled] = records[pickled].replace(b"numpy._core.multiarray", module.encode())
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    assert module.encode() in records[pickled]
    found = load_file(path)
    assert found["np_rng_state"][1].tolist() == state["np_rng_state"][1].tolist()
    assert found["random_rng_state"] == state["random_rng_state"]
    assert found["module"]["weight"].tolist() == [0, 1, 2]


def test_an_array_of_objects_runs_no_code(tmp_path):
    path = tmp_path / "layer.pt"
    torch.save({"a": np.array([collections.ChainMap()], dtype=object)}, path)
    with pytest.raises(CheckpointError, match=r"layer\.pt"):
        load_file(path)
