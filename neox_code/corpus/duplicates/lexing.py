"""Split a text into words, as GPT-Code-Clippy and most uses of MinHash do: a word is the text between matches of \\W+.

    normalize_words("a.b(c)\\n") == b"a b c "             " ".join(re.split(r"\\W+", text)) in UTF-8, five times as fast

ASCII bytes that are not word characters become spaces, and each run of spaces becomes one space. A regular expression
replaces the other punctuation; the remaining non-ASCII characters are parts of words.
"""

import re

import numpy as np

SPACE = 0x20
TO_SPACES = bytes(byte if byte >= 128 or re.match(r"\w", chr(byte)) else SPACE for byte in range(256))
OTHER_PUNCTUATION = re.compile(r"[^\x00-\x7f\w]+")


def normalize_words(text: str) -> bytes:
    if not text.isascii():
        text = OTHER_PUNCTUATION.sub(" ", text)
    data = np.frombuffer(text.encode("utf-8").translate(TO_SPACES), np.uint8)
    is_word = data != SPACE
    is_kept = np.ones(len(data), bool)
    np.logical_or(is_word[1:], is_word[:-1], out=is_kept[1:])
    return data[is_kept].tobytes()
