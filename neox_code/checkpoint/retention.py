"""Which checkpoints stay: the last few, when `keep_last_n_checkpoints` says so."""

import shutil
from pathlib import Path

from neox_code.checkpoint.layout import checkpoints, partial_step_name


def delete_old(save: str | Path, latest: int, keep_last: int | None) -> list[int]:
    """Keeps iteration `latest` and those before it, `keep_last` together, and deletes the older; returns their iterations.

    Iterations after `latest`, left by a run that went further before this one went back, stay. None or 0 keeps all.
    """
    there = checkpoints(save)
    old = [iteration for iteration in there if iteration <= latest][:-keep_last] if keep_last else []
    for iteration in old:
        leftover = there[iteration].with_name(partial_step_name(iteration))
        there[iteration].rename(leftover)  # killed in mid-deletion, no half of it has a checkpoint's name
        shutil.rmtree(leftover)
    return old
