"""Which checkpoints stay: the last few, when `keep_last_n_checkpoints` says so."""

import shutil
from pathlib import Path

from neox_code.checkpoint.layout import checkpoints


def delete_old(save: str | Path, keep_last: int | None) -> list[int]:
    """Deletes all but the newest `keep_last` checkpoints; returns their iterations. None or 0 keeps all."""
    there = checkpoints(save)
    old = list(there)[:-keep_last] if keep_last else []
    for iteration in old:
        shutil.rmtree(there[iteration])
    return old
