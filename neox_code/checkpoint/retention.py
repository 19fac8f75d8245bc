"""Deleting old checkpoints, if `keep_last_n_checkpoints` is set."""

import shutil
from pathlib import Path

from neox_code.checkpoint.layout import checkpoints, partial_step_name


def delete_old(save: str | Path, latest: int, keep_last: int | None) -> list[int]:
    """Keep the last `keep_last` checkpoints up to iteration `latest`; delete older ones and return their iterations.

    Later iterations are kept: a run that restarted from an earlier checkpoint leaves them. None or 0 keeps all checkpoints.
    """
    there = checkpoints(save)
    old = [iteration for iteration in there if iteration <= latest][:-keep_last] if keep_last else []
    for iteration in old:
        leftover = there[iteration].with_name(partial_step_name(iteration))
        there[iteration].rename(leftover)  # so that after a kill no half-deleted folder has a checkpoint's name
        shutil.rmtree(leftover)
    return old
