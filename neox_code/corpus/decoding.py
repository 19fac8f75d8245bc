"""From a file's bytes to its text.

    text, encoding = decode_detected(content)      # UTF-8, UTF-16 with its mark, else Latin-1; None for what is not text
    text, encoding = decode_ignoring(content)      # PolyCoder's: UTF-8, other bytes left out

A byte-order mark is no part of a detected text, since it says how to read the bytes; decode_ignoring keeps it as U+FEFF, as
Code-LMs does. Line ends stay as they are.
"""

import codecs

LOOKED_AT = 8_000
"""Bytes in which git looks for a NUL, to tell binary files from text."""
MAX_CONTROL_FRACTION = 0.05
"""More control characters than this and a file is not text: random bytes have 10%."""
TEXT_BYTES = bytes(byte for byte in range(256) if byte in b"\b\t\n\v\f\r\x1a\x1b" or (byte >= 32 and byte != 127))
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode_detected(content: bytes) -> tuple[str | None, str]:
    """The text (None: a binary file) and its encoding: "utf-8", "utf-16", "latin-1" or "binary".

    >>> decode_detected("\\ufeffcafé".encode()), decode_detected("café".encode("utf-16")), decode_detected(b"caf\\xe9")
    (('café', 'utf-8'), ('café', 'utf-16'), ('café', 'latin-1'))
    >>> decode_detected(b"\\x7fELF\\0\\0")
    (None, 'binary')
    """
    if content.startswith(UTF16_MARKS) and not content.startswith(codecs.BOM_UTF32_LE):
        try:
            return content.decode("utf-16"), "utf-16"
        except UnicodeDecodeError:
            return None, "binary"
    if is_binary(content):
        return None, "binary"
    try:
        return content.decode("utf-8").removeprefix("\ufeff"), "utf-8"
    except UnicodeDecodeError:
        return content.decode("latin-1"), "latin-1"


def decode_ignoring(content: bytes) -> tuple[str, str]:
    """The text without the bytes that are not UTF-8, and "utf-8", or "utf-8 with errors" if there were any.

    >>> decode_ignoring(b"a\\r\\n"), decode_ignoring(b"caf\\xe9")
    (('a\\r\\n', 'utf-8'), ('caf', 'utf-8 with errors'))
    """
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return content.decode("utf-8", "ignore"), "utf-8 with errors"


def is_binary(content: bytes) -> bool:
    """Whether the first 8,000 bytes have a NUL (git's rule) or many other control characters."""
    start = content[:LOOKED_AT]
    return b"\0" in start or len(start.translate(None, TEXT_BYTES)) > MAX_CONTROL_FRACTION * len(start)


def newlines_of(content: bytes) -> str:
    """The line ends of a file: "lf" (also where there are none), "crlf", "cr" or "mixed".

    >>> newlines_of(b"a\\nb\\n"), newlines_of(b"a\\r\\nb"), newlines_of(b"a\\rb"), newlines_of(b"a\\nb\\r\\n"), newlines_of(b"")
    ('lf', 'crlf', 'cr', 'mixed', 'lf')
    """
    if b"\r" not in content:
        return "lf"
    if content.startswith(UTF16_MARKS):
        content = content.decode("utf-16", "ignore").encode("utf-8")
    returns, feeds, pairs = content.count(b"\r"), content.count(b"\n"), content.count(b"\r\n")
    if returns == feeds == pairs:
        return "crlf" if pairs else "lf"
    if feeds == 0:
        return "cr"
    return "mixed" if returns else "lf"
