"""A job of a cluster: a group of a stage's tasks, one after another, in a process of their own.

    run_group(folder, rank=3)        # of an attempt's folder, see order.py; raises DataError if one of the tasks failed

Tasks whose outputs are there are not done again, so a job can be killed and started anew at any time. A task that fails, or
whose process is killed, does not keep the others of its group from being done. A job goes no further once its driver has taken
the note of the attempt away: another run has begun.
"""

import os
import socket
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from neox_code.corpus.executors.diary import Diary
from neox_code.corpus.executors.left_jobs import NOTE_FILE
from neox_code.corpus.executors.order import DIARIES, Order, load_order, versions
from neox_code.corpus.executors.stages import is_whole
from neox_code.errors import DataError, NeoXError
from neox_code.files import WRITER_VARIABLE
from neox_code.processes.workers import Workers


def run_group(folder: Path, rank: int) -> None:
    with Diary(folder / DIARIES, rank) as diary:
        try:
            order = load_order(folder)
            refuse_other_machines(order)
            os.chdir(order.started_in)
        except Exception as error:
            diary.write(error=sentence(error))
            raise
        os.environ[WRITER_VARIABLE] = f".{uuid4().hex[:8]}"
        failed = 0
        tasks = list(order.groups[rank])
        while tasks:
            with Workers(1, remedy="Run again with more --mem-per-cpu.") as workers:
                try:
                    for task in unfinished(order, folder, tasks):
                        done = 0.0
                        for _, amount in workers.run(order.stage.run, [(order.work, task)]):
                            done += amount
                            diary.write(task=task, done=done)
                        diary.write(task=task, whole=True)
                except StaleJob as error:
                    print(error, file=sys.stderr)
                    return
                except Exception as error:
                    failed += 1
                    diary.write(task=task, error=sentence(error))
                    traceback.print_exception(error)
        if failed:
            raise DataError(f"{failed} of {len(order.groups[rank])} tasks failed on {socket.gethostname()}; see above.")


class StaleJob(Exception):
    """The attempt that this job belongs to is over."""


def unfinished(order: Order, folder: Path, tasks: list[int]) -> Iterator[int]:
    """The tasks that have no output yet; takes each from the list when its turn has come."""
    while tasks:
        task = tasks.pop(0)
        if not (folder / NOTE_FILE).exists():
            raise StaleJob(f"the attempt of {folder} is over")
        if not is_whole(order.stage.output(order.work, task)):
            yield task


def refuse_other_machines(order: Order) -> None:
    """A machine that sees other files, or has other code, would make another corpus."""
    host = socket.gethostname()
    for place in (*order.needs, str(order.started_in)):
        if not Path(place).exists():
            raise DataError(f"{host} does not see {place}. Put it on a file system that all machines share, under the same path.")
    own = versions()
    other = [f"{name} {own[name]} and not {version}" for name, version in order.versions.items() if own[name] != version]
    if other:
        raise DataError(f"{host} has {', '.join(other)}. Give all machines the same environment.")


def sentence(error: BaseException) -> str:
    said = str(error) if isinstance(error, NeoXError) else f"{type(error).__name__}: {error}"
    return " ".join(said.split())
