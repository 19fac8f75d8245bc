"""The report of a failed process: one JSON file, written by the first process of a run that fails, read by the run's supervisor.

leave_report(path, "rank 3: loss is NaN")     # True if no other process has written the report before
read_report(path)                             # {"message": ..., "is_users": ..., "is_consequence": ...}
"""

import json
import os
import traceback
from pathlib import Path
from typing import Any

from neox_code.errors import remedy_sentence

ERROR_VARIABLE = "NEOX_CODE_ERROR_FILE"
"""Where the first process that fails says why; its path is the run's own, and marks all processes of the run."""


def report_error(error: BaseException) -> bool:
    """Leaves the error for the supervisor to print; returns whether it was the first (the others are mostly its consequences)."""
    path = os.environ.get(ERROR_VARIABLE)
    if path is None:
        return False
    sentence = remedy_sentence(error)
    rank = os.environ.get("RANK")
    message = sentence or f"{f'rank {rank}: ' if rank else ''}{last_words(error)}"
    return leave_report(Path(path), message, sentence is not None)


LOST_PEER = ("closed by peer", "reset by peer", "Broken pipe", "Connection refused", "Timed out waiting", "timed out")
"""What gloo, NCCL and the store say on a rank that has lost another one."""


def is_lost_peer(message: str) -> bool:
    return any(words in message for words in LOST_PEER)


def leave_report(path: Path, message: str, is_users: bool = False, is_consequence: bool | None = None) -> bool:
    """Writes an error for the supervisor, unless there is one; returns whether it was the first.

    The consequence of another rank's end is a lost peer; by default the message's words tell.
    """
    if is_consequence is None:
        is_consequence = not is_users and is_lost_peer(message)
    part = Path(f"{path}.{os.getpid()}")
    report = {"message": message, "is_users": is_users, "is_consequence": is_consequence}
    try:
        part.write_text(json.dumps(report), encoding="utf-8")
        os.link(part, path)
    except OSError:
        return False
    finally:
        part.unlink(missing_ok=True)
    return True


def last_words(error: BaseException) -> str:
    """An exception's last line, and the place where it was raised."""
    line = "".join(traceback.format_exception_only(error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    return f"{line} (at {frames[-1].filename}:{frames[-1].lineno})" if frames else line


def read_report(path: Path) -> dict[str, Any] | None:
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return report
