"""Read and write one checkpoint file, always with `weights_only`. Errors contain the file's path.

A file's checksum is compared with that in run.json, or else the checksums of its records with those in the file.

A checkpoint is untrusted input: `torch.load(weights_only=True)` builds tensors and containers and runs no code of the file.
"""

import codecs
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy._core.multiarray import _reconstruct

from neox_code.checkpoint.checksums import compute_checksum, read_recorded_checksum
from neox_code.checkpoint.layout import RUN_RECORD
from neox_code.errors import CheckpointError
from neox_code.files import sync

torch.serialization.add_safe_globals(
    [
        *((_reconstruct, f"{module}.multiarray._reconstruct") for module in ("numpy.core", "numpy._core")),
        (np.ndarray, "numpy.ndarray"),
        (np.dtype, "numpy.dtype"),
        *(type(np.dtype(letter)) for letter in "?bhilqBHILQefd"),
        (codecs.encode, "_codecs.encode"),
    ]
)
"""Types of a plain array in numpy 1 and 2 that torch may load: GPT-NeoX stores numpy's random state in mp_rank files."""

MOST_PICKLE_BYTES = 8_000_000
"""Maximum size in bytes of a pickle that is read: it holds names and shapes of tensors, and reading takes about a second per MB."""

DISALLOWED = re.compile(r"GLOBAL (\S+)")
"""The name of a refused function or class in torch's error message."""


def load_file(path: str | Path, map_location: Any = "cpu", mmap: bool = False, is_checked: bool = False) -> Any:
    """Return the content of a file written by torch.save. Raise CheckpointError if it is missing, damaged, or holds code.

    With `mmap` the tensors are mapped from the file, and each tensor is read when it is used. `is_checked`: the checksums of this
    file were compared earlier and are not compared again.
    """
    if os.path.lexists(path) and not Path(path).is_file():
        remedy = "Copy the checkpoint again, or choose another --iteration."
        raise CheckpointError(f"{path} is a broken link or not a regular file. {remedy}")
    try:
        is_archive = zipfile.is_zipfile(path)  # files of torch before 1.6 are not
        if is_archive:
            check_checksums(path, sums=not is_checked)
        with warnings.catch_warnings(), torch.sparse.check_sparse_tensor_invariants():
            warnings.simplefilter("ignore")  # torch 2.11 and 2.14 warn of sparse tensors, each for another reason
            return torch.load(path, map_location=map_location, weights_only=True, mmap=mmap and is_archive)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing. Copy the checkpoint again, or choose another by --iteration.") from None
    except (PermissionError, torch.OutOfMemoryError):
        raise
    except pickle.UnpicklingError as error:
        disallowed = DISALLOWED.search(str(error))
        raise make_disallowed_error(path, disallowed[1]) if disallowed else make_damaged_error(path) from None
    except Exception as error:  # a damaged pickle fails anywhere in the reader
        raise make_damaged_error(path, str(error)) from None


def is_dense_tensor(value: Any) -> TypeGuard[torch.Tensor]:
    """Return True for a dense CPU tensor with a stored value for each element (not a view that repeats values)."""
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided or value.device.type != "cpu":
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


StateDict = Mapping[str, torch.Tensor]
OTHER_LAYOUT = "Choose a checkpoint in GPT-NeoX's layout."


def require_state_dict(path: Path, content: Any) -> StateDict:
    """Return `content` if it is a mapping of names to dense tensors, else raise CheckpointError."""
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise CheckpointError(f"{path} contains a {type(content).__name__}, not a dictionary of named tensors. {OTHER_LAYOUT}")
    for name, value in content.items():
        if not is_dense_tensor(value):
            kind = type(value).__name__
            raise CheckpointError(f"{path} holds {name}, a {kind} that is not a dense tensor. {OTHER_LAYOUT}")
    return content


def check_checksums(path: str | Path, sums: bool = True) -> None:
    """Raise ValueError for a record that torch.save does not write and, with `sums`, for a wrong checksum.

    torch itself does not compare the checksums of records (CRC-32), and it decompresses compressed records.
    """
    with zipfile.ZipFile(path) as archive:
        for record in archive.infolist():
            if record.compress_type != zipfile.ZIP_STORED:
                raise ValueError("its records are compressed")
            if record.filename.endswith(".pkl") and record.file_size > MOST_PICKLE_BYTES:
                raise ValueError(f"{record.filename} has {record.file_size:,} bytes; the maximum is {MOST_PICKLE_BYTES:,}")
        recorded = read_recorded_checksum(path) if sums else None
        if recorded is not None and (found := compute_checksum(path)) != recorded:
            raise ValueError(f"its checksum is {found}, and {recorded} in {RUN_RECORD}")
        if sums and recorded is None and (damaged := archive.testzip()):
            raise ValueError(f"the checksum of {damaged} is wrong")


def make_disallowed_error(path: str | Path, name: str) -> CheckpointError:
    return CheckpointError(
        f"{path} contains {name}, which is not a tensor, and is not loaded. Choose a checkpoint that contains only tensors."
    )


def make_damaged_error(path: str | Path, reason: str = "") -> CheckpointError:
    size = Path(path).stat().st_size
    detail = f" ({reason.splitlines()[0]})" if reason else ""
    return CheckpointError(
        f"{path} ({size:,} bytes) is damaged or not a checkpoint{detail}. "
        "Copy the checkpoint again, or choose another by --iteration."
    )


def save_file(value: Any, path: str | Path) -> None:
    """Write a file by torch.save and wait until it is on the disk. On failure remove it and raise CheckpointError with its path."""
    try:
        torch.save(value, path)
        sync(path)
    except (OSError, RuntimeError) as error:
        Path(path).unlink(missing_ok=True)
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} could not be written: {reason}. Free disk space, or choose another folder for save. "
            "Earlier checkpoints are unchanged."
        ) from None
