"""Read a file that was listed earlier and may have changed since.

    content = read_regular_file("src/main.c", 4096)          # None if it is no longer a regular file of 4,096 bytes

Links are not followed, pipes do not block, and at most the listed size is read.
"""

import os
import stat


def read_regular_file(path: str, num_bytes: int) -> bytes | None:
    """Return the content of a file of `num_bytes` bytes; None if it is no longer a regular file of that size."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        content = os.read(descriptor, num_bytes + 1)
        while 0 < len(content) < num_bytes and (more := os.read(descriptor, num_bytes + 1 - len(content))):
            content += more
        if not content and not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
    except (OSError, OverflowError, MemoryError):
        return None
    finally:
        os.close(descriptor)
    return content if len(content) == num_bytes else None
