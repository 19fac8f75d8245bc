"""Decoding of file contents.

    text, encoding = detect_and_decode(content)           # text is None for a file that is not text
    text, encoding = decode_ignoring_errors(content)      # PolyCoder's way: UTF-8, other bytes dropped

`detect_and_decode` tries, in this order: a byte-order mark (UTF-8, UTF-16, UTF-32), UTF-16 without a mark, 7-bit encodings such as
ISO-2022-JP, UTF-8, the encoding that the file declares (`coding: shift_jis`), and the other encodings of legacy_encodings.py. If
none fits, the file is not text; no byte is dropped or replaced. The byte-order mark is removed. `decode_ignoring_errors` keeps it
as U+FEFF, as Code-LMs does. Line ends are not changed.
"""

import codecs

from neox_code.corpus.languages.legacy_encodings import decode_seven_bit, find_declaration, has_iso_2022_escapes, recognize_encoding

SEARCHED_BYTES = 8_000
"""Number of bytes in which control characters are counted."""
MAX_CONTROL_FRACTION = 0.05
"""A file with a larger fraction of control characters is binary. Random bytes have 10%."""
TEXT_BYTES = bytes(byte for byte in range(256) if byte in b"\b\t\n\v\f\r\x1a\x1b" or (byte >= 32 and byte != 127))
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before the mark of UTF-16, which is a prefix of it
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8",
}
MARK = "\ufeff"
BINARY = "binary"
UNKNOWN = "unknown"


def detect_and_decode(content: bytes) -> tuple[str | None, str]:
    """Return the text and its encoding; the text is None for a binary file and for an encoding that is not recognized.

    >>> detect_and_decode("\\ufeffcafé".encode()), detect_and_decode("café".encode("utf-16")), detect_and_decode(b"caf\\xe9")
    (('café', 'utf-8'), ('café', 'utf-16'), ('café', 'latin-1'))
    >>> detect_and_decode("x = 'é'\\n".encode("utf-16-le")), detect_and_decode(b"\\x7fELF\\0\\0")
    (("x = 'é'\\n", 'utf-16'), (None, 'binary'))
    """
    marked = read_byte_order_mark(content)
    if marked is not None:
        return decode_text(content, marked, marked) or (None, BINARY if marked != "utf-8" or is_binary(content) else UNKNOWN)
    utf16 = detect_utf16(content)
    if utf16 is not None:
        return decode_text(content, utf16, "utf-16") or (None, BINARY)
    declared = find_declaration(content)
    if content.isascii() and (decoded := decode_seven_bit(content, declared)):
        return (None, BINARY) if is_binary(decoded[0].encode("utf-8")) else decoded
    if is_binary(content):
        return None, BINARY
    if content.isascii() and has_iso_2022_escapes(content):
        return None, UNKNOWN
    for encoding in ("utf-8", *([declared] if declared else [])):
        if (decoded := decode_text(content, encoding, encoding)) is not None:
            return decoded
    recognized = None if has_surrogates(content) else recognize_encoding(content)
    return recognized or (None, UNKNOWN)


def has_surrogates(content: bytes) -> bool:
    """Return True if the content is UTF-8 but for encoded surrogates. Such content is not in a legacy encoding."""
    try:
        content.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def decode_text(content: bytes, codec: str, encoding: str) -> tuple[str, str] | None:
    """Return (text without byte-order marks at its start, `encoding`); None if `codec` cannot decode it or it is binary."""
    try:
        text = content.decode(codec).lstrip(MARK)
    except UnicodeError:
        return None
    return None if is_binary(text.encode("utf-8", "surrogatepass")) else (text, encoding)


def read_byte_order_mark(content: bytes) -> str | None:
    """Return the encoding of the byte-order mark at the start, or None."""
    return next((encoding for mark, encoding in BYTE_ORDER_MARKS.items() if content.startswith(mark)), None)


def detect_utf16(content: bytes) -> str | None:
    """Return `utf-16-le` or `utf-16-be` if the bytes are UTF-16 with mostly ASCII characters, as in source code; else None.

    At least half of the characters have a NUL, always in the same one of their two bytes.
    """
    start = content[:SEARCHED_BYTES]
    if len(content) % 2 or b"\0" not in start:
        return None
    even, odd = start[0::2].count(0), start[1::2].count(0)
    if min(even, odd) or 2 * max(even, odd) < len(start) // 2:
        return None
    return "utf-16-le" if odd else "utf-16-be"


def decode_ignoring_errors(content: bytes) -> tuple[str, str]:
    """Return the text without bytes that are not UTF-8. The second value is "utf-8 with errors" if there were any, else "utf-8".

    >>> decode_ignoring_errors(b"a\\r\\n"), decode_ignoring_errors(b"caf\\xe9")
    (('a\\r\\n', 'utf-8'), ('caf', 'utf-8 with errors'))
    """
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return content.decode("utf-8", "ignore"), "utf-8 with errors"


def is_binary(content: bytes) -> bool:
    """Return True if the content has a NUL byte, or many other control characters in its first SEARCHED_BYTES bytes."""
    start = content[:SEARCHED_BYTES]
    return b"\0" in content or len(start.translate(None, TEXT_BYTES)) > MAX_CONTROL_FRACTION * len(start)


def detect_newlines(text: str) -> str:
    """Return the line ends of a text: "lf" (also for a text without line ends), "crlf", "cr" or "mixed".

    >>> [detect_newlines(text) for text in ("a\\nb\\n", "a\\r\\nb", "a\\rb", "a\\nb\\r\\n", "")]
    ['lf', 'crlf', 'cr', 'mixed', 'lf']
    """
    if "\r" not in text:
        return "lf"
    returns, feeds, pairs = text.count("\r"), text.count("\n"), text.count("\r\n")
    if returns == feeds == pairs:
        return "crlf" if pairs else "lf"
    if feeds == 0:
        return "cr"
    return "mixed" if returns else "lf"
