"""Delete old checkpoints, if `keep_last_n_checkpoints` is set."""

import shutil
from pathlib import Path

from neox_code.checkpoint.layout import list_checkpoints, make_partial_step_name


def delete_old_checkpoints(save: str | Path, latest: int, keep_last: int | None, best: int | None = None) -> list[int]:
    """Keep the last `keep_last` checkpoints up to iteration `latest`; delete older ones and return their iterations.

    Iterations after `latest` are kept: they exist if a run restarted from an earlier checkpoint. Iteration `best` is kept too.
    None or 0 keeps all checkpoints.
    """
    there = list_checkpoints(save)
    old = [iteration for iteration in there if iteration <= latest][:-keep_last] if keep_last else []
    old = [iteration for iteration in old if iteration != best]
    for iteration in old:
        leftover = there[iteration].with_name(make_partial_step_name(iteration))
        there[iteration].rename(leftover)  # so that after a kill no half-deleted folder has a checkpoint's name
        shutil.rmtree(leftover)
    return old
