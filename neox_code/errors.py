"""The errors that a user can cause and remedy, and the exit status of a command.

    NeoXError
    ├── ConfigError        a YAML file, a key, a value, a command-line option
    ├── DataError          corpora, vocabularies, token files, prompts
    ├── CheckpointError    a checkpoint that is missing, damaged or of another shape
    ├── ConversionError    weights that cannot become another format
    └── LaunchError        ranks, hosts, ports, another run with the same folder

A message contains the wrong values, their origin, the expected values and the remedy. A mistake of the user is one of
these errors and ends a command with status 2 without a traceback; a mistake of the programmer is an assertion with its traceback.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_RESUME = os.EX_TEMPFAIL
"""75: a signal ended a training run after it saved a checkpoint. The same command resumes the run."""


class NeoXError(Exception):
    """An error that the user can remedy."""


class ConfigError(NeoXError):
    """A configuration that cannot be used; the message has one line for each problem."""


class DataError(NeoXError):
    """Input that cannot be read or has another form than expected."""


class CheckpointError(NeoXError):
    """A checkpoint that is missing, damaged, or has another shape than the model."""


class ConversionError(NeoXError):
    """Weights that cannot be expressed in the other format."""


class LaunchError(NeoXError):
    """A run that cannot be started, or in which a rank failed."""


def run_command(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """Run a command's `main` and return its exit status: 0, 2 for the user's mistakes, 130 after Ctrl-C.

    A full or read-only disk counts as the user's mistake. If standard output is a closed pipe, the status is that of SIGPIPE.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # set by neox_code/__init__.py
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return main(argv)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (NeoXError, OSError) as error:
        message = format_remedy(error)
        if message is None:
            raise
        print_error(message)
        return EXIT_USER_ERROR


def print_error(message: str) -> None:
    """Write a message to standard error. Each of its lines (one for each problem) begins with `error:`."""
    for line in message.splitlines() or [""]:
        print(f"error: {line}", file=sys.stderr, flush=True)


def format_remedy(error: BaseException) -> str | None:
    """Return the message for an error that the user can remedy; None for any other error."""
    if isinstance(error, NeoXError):
        return str(error)
    if not isinstance(error, OSError) or error.errno is None:
        return None
    if error.errno not in DISK_REMEDIES and not error.filename:
        return None
    place = f" at {error.filename}" if error.filename else ""
    return f"{os.strerror(error.errno)}{place}. {DISK_REMEDIES.get(error.errno, 'Check the path.')}"


DISK_REMEDIES = {
    errno.ENOSPC: "Free some space, or write to another disk. Rerun the same command to resume: finished work is kept.",
    errno.EDQUOT: "Free some of your quota, or write to another disk. Rerun the same command to resume: finished work is kept.",
    errno.EROFS: "Choose an output folder on a disk that can be written.",
    errno.EACCES: "Change the permissions, or choose another path; in a container run with --user $(id -u):$(id -g).",
    errno.EPERM: "Change the permissions, or choose another path.",
    errno.ENOTDIR: "A part of the path is a file: choose another path.",
    errno.EISDIR: "It is a folder: name a file.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n).",
}
