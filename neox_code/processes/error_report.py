"""The error report of a run: a JSON file that the first failing process writes and that the run's supervisor reads.

write_report(path, "rank 3: loss is NaN")     # True if no other process has written the report before
read_report(path)                             # {"message": ..., "is_users": ..., "is_consequence": ...}
"""

import json
import os
import traceback
from pathlib import Path
from typing import Any

from neox_code.errors import format_remedy

ERROR_VARIABLE = "NEOX_CODE_ERROR_FILE"
"""Variable with the path of the report. Each run has its own path, so that the variable also identifies the processes of a run."""


def report_error(error: BaseException) -> bool:
    """Write the error to this run's report. Return False if a report exists: later errors are mostly its consequences."""
    path = os.environ.get(ERROR_VARIABLE)
    if path is None:
        return False
    sentence = format_remedy(error)
    rank = os.environ.get("RANK")
    message = sentence or f"{f'rank {rank}: ' if rank else ''}{format_error(error)}"
    return write_report(Path(path), message, sentence is not None)


LOST_PEER = ("closed by peer", "reset by peer", "Broken pipe", "Connection refused", "Timed out waiting", "timed out")
"""Parts of the error messages of gloo, NCCL and torch's store on a rank that lost the connection to another rank."""


def reports_lost_peer(message: str) -> bool:
    return any(part in message for part in LOST_PEER)


def write_report(path: Path, message: str, is_users: bool = False, is_consequence: bool | None = None) -> bool:
    """Write a report for the supervisor if there is none; return True if it was written.

    `is_consequence` is True for an error that another rank's end caused; by default the message decides.
    """
    if is_consequence is None:
        is_consequence = not is_users and reports_lost_peer(message)
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


def format_error(error: BaseException) -> str:
    """Return an exception's last line, and the place where it was raised."""
    line = "".join(traceback.format_exception_only(error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    return f"{line} (at {frames[-1].filename}:{frames[-1].lineno})" if frames else line


def read_report(path: Path) -> dict[str, Any] | None:
    """Return the report, or None if no process has written one."""
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return report
