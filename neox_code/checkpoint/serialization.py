"""Reading and writing one checkpoint file: `weights_only` always, and errors that name the file.

A checkpoint is data from elsewhere: `torch.load(weights_only=True)` builds tensors and containers and runs no code of the file's.
"""

import pickle
from pathlib import Path
from typing import Any

import torch

from neox_code.errors import CheckpointError


def load_file(path: str | Path, map_location: Any = "cpu") -> Any:
    """The content of a file written by torch.save. Raises CheckpointError where it is missing, cut off or holds code."""
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing. Copy the checkpoint again, or choose another by --iteration.") from None
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "not an allowed global" in str(error):
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{path} holds more than tensors, and is not opened: {reason}") from None
        raise damaged(path) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise damaged(path, error) from None


def damaged(path: str | Path, error: Exception | None = None) -> CheckpointError:
    size = Path(path).stat().st_size
    detail = f": {str(error).splitlines()[0]}" if error and str(error) else ""
    return CheckpointError(
        f"{path} ({size:,} bytes) is damaged or cut off{detail}. Copy the checkpoint again, or choose another by --iteration."
    )


def save_file(value: Any, path: str | Path, zipfile: bool = True) -> None:
    """torch.save whose failure names the file; what was written of it is removed."""
    try:
        torch.save(value, path, _use_new_zipfile_serialization=zipfile)
    except (OSError, RuntimeError) as error:
        Path(path).unlink(missing_ok=True)
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} could not be written: {reason}. Free space, or choose another folder for save; "
            "earlier checkpoints are as they were."
        ) from None
