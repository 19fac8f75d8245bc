"""The errors a user can cause, and how a command ends.

    NeoXError
    ├── ConfigError        a YAML file, a key, a value, a command-line option
    ├── DataError          corpora, vocabularies, token files, prompts
    ├── CheckpointError    a checkpoint that is missing, damaged or of another shape
    ├── ConversionError    weights that cannot become another format
    └── LaunchError        ranks, hosts, ports, a run that is already going on

A message says what is wrong with its values, where it came from, what was expected and what to do. The user's mistake is one
of these and ends a command with status 2 and no traceback; the programmer's is an assertion, and keeps its traceback.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_RESUME = os.EX_TEMPFAIL
"""75: a training was asked to stop, has saved, and is resumed by the same command."""


class NeoXError(Exception):
    """Something the user can mend."""


class ConfigError(NeoXError):
    """A configuration that cannot be used; the message may hold several problems, a line each."""


class DataError(NeoXError):
    """Input that cannot be read or is not what its name says."""


class CheckpointError(NeoXError):
    """A checkpoint that is missing, damaged, or of another shape than the model."""


class ConversionError(NeoXError):
    """Weights that cannot be expressed in the other format."""


class LaunchError(NeoXError):
    """A run that cannot be started, or one of whose ranks ended badly."""


def run_command(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """Runs a command's `main` and returns its exit status: 0, 2 for the user's mistakes, 130 after Ctrl-C.

    A full or read-only disk is the user's to mend as well; so is a pipe whose reader went away.
    """
    try:
        return main(argv)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (NeoXError, OSError) as error:
        sentence = remedy_sentence(error)
        if sentence is None:
            raise
        print_error(sentence)
        return EXIT_USER_ERROR


def print_error(message: str) -> None:
    """Write a message to standard error, each of its lines (a problem each) after `error:`."""
    for line in message.splitlines() or [""]:
        print(f"error: {line}", file=sys.stderr, flush=True)


def remedy_sentence(error: BaseException) -> str | None:
    """What to tell the user of an error that is theirs to mend; None for any other."""
    if isinstance(error, NeoXError):
        return str(error)
    if not isinstance(error, OSError) or error.errno is None:
        return None
    if error.errno not in DISK_REMEDIES and not error.filename:
        return None
    place = f" at {error.filename}" if error.filename else ""
    return f"{os.strerror(error.errno)}{place}. {DISK_REMEDIES.get(error.errno, 'Check the path.')}"


DISK_REMEDIES = {
    errno.ENOSPC: "Free some space, or write to another disk, and run the same command again: finished work is kept.",
    errno.EDQUOT: "Free some of your quota, or write to another disk, and run the same command again: finished work is kept.",
    errno.EROFS: "Choose an output folder on a disk that can be written.",
    errno.EACCES: "Change the permissions, or choose another path.",
    errno.EPERM: "Change the permissions, or choose another path.",
    errno.ENOTDIR: "A part of the path is a file: choose another path.",
    errno.EISDIR: "It is a folder: name a file.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n).",
}
