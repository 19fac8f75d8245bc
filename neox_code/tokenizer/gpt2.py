"""GPT-2's vocabulary files: vocab.json (token -> id) and merges.txt (one pair per line, most frequent first).

    tokenizer = GPT2Tokenizer.from_files("code-vocab.json", "code-merges.txt")
    tokenizer.decode(tokenizer.encode("def f():\\n")) == "def f():\\n"

GPT-2's pattern splits the text into pieces (no space is added before the text). Then the merges join the bytes of each piece.

A merge file may begin with a `#version` line. GPT-NeoX's reader always skips the first and the last line. In a file without a
`#version` line (PolyCoder's) the first line is a merge of two spaces; if it is skipped, no longer run of spaces can be merged. A
model must be used with the reader of its training, which the key `merge_file_reader` selects.
"""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from neox_code.errors import DataError
from neox_code.files import read_bounded, read_json
from neox_code.tokenizer.byte_level import ByteLevelTokenizer
from neox_code.tokenizer.vocabulary_file import VERSION

Merge = tuple[str, str]
NumberedLine = tuple[int, str]


class GPT2Tokenizer(ByteLevelTokenizer):
    @classmethod
    def from_files(
        cls, vocab_file: str | os.PathLike[str], merge_file: str | os.PathLike[str], merge_file_reader: str = "whole"
    ) -> Self:
        """Read both files. `merge_file_reader` is a key of MERGE_FILE_READERS.

        Raise DataError for a file that is missing or malformed, a merge whose parts or result are not in the vocabulary,
        ids with gaps, and a vocabulary without an end-of-document token.
        """
        vocabulary = read_vocabulary(vocab_file)
        merges = read_merges(merge_file, merge_file_reader, vocabulary)
        identity = {
            "tokenizer_type": "GPT2BPETokenizer",
            "vocab_file": str(vocab_file),
            "merge_file": str(merge_file),
            "merge_file_reader": merge_file_reader,
            "sha256": hash_vocabulary(vocabulary, merges),
        }
        return cls(build_byte_level_backend(vocabulary, merges), identity)


def build_byte_level_backend(vocabulary: Mapping[str, int] | None = None, merges: Sequence[Merge] | None = None) -> Backend:
    """Return byte-level BPE of the tokenizers library with GPT-2's splitting, no prefix space, and by default no vocabulary."""
    model = models.BPE() if vocabulary is None else models.BPE(vocab=dict(vocabulary), merges=list(merges or ()))
    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def read_vocabulary(path: str | os.PathLike[str]) -> dict[str, int]:
    vocabulary = read_json(path)
    if not isinstance(vocabulary, dict) or not all(type(token_id) is int for token_id in vocabulary.values()):
        raise DataError(f"{path} must be a JSON object from tokens to whole numbers, as GPT-2's vocab.json is. Check the path.")
    return vocabulary


def read_merges(path: str | os.PathLike[str], reader: str, vocabulary: Mapping[str, int]) -> list[Merge]:
    """Return the merges in order. Raise DataError with the line of a merge that is malformed or not in the vocabulary."""
    try:
        lines = list(enumerate(read_bounded(path).decode().replace("\r\n", "\n").split("\n"), 1))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start:,}). Check the path.") from None
    return [parse_merge(f"{path}:{number}", line, vocabulary) for number, line in MERGE_FILE_READERS[reader](lines)]


def drop_header(lines: list[NumberedLine]) -> list[NumberedLine]:
    """Return the lines without a `#version` header and without empty lines at the end."""
    body = lines[1:] if lines[0][1].startswith(VERSION) else lines[:]
    while body and not body[-1][1]:
        body.pop()
    return body


def drop_first_and_last(lines: list[NumberedLine]) -> list[NumberedLine]:
    return lines[1:-1]


MERGE_FILE_READERS: dict[str, Callable[[list[NumberedLine]], list[NumberedLine]]] = {
    "whole": drop_header,
    "gpt-neox": drop_first_and_last,
}


def parse_merge(place: str, line: str, vocabulary: Mapping[str, int]) -> Merge:
    """Return the merge in a line of a merge file; raise DataError if it is not a merge of this vocabulary."""
    parts = line.split(" ")
    if len(parts) != 2 or not all(parts):
        raise DataError(
            f"{place} is {line[:80]!r}, expected two tokens with one space between them. Check that it is a merge file."
        )
    left, right = parts
    unknown = [token for token in (left, right, left + right) if token not in vocabulary]
    if unknown:
        raise DataError(
            f"{place} merges {left!r} and {right!r}, but the vocabulary has no token {unknown[0]!r}. "
            "Use a vocab_file and a merge_file of the same vocabulary."
        )
    return left, right


def hash_vocabulary(vocabulary: Mapping[str, int], merges: Sequence[Merge]) -> str:
    """Return the SHA-256 of the tokens with their ids and of the merges in order."""
    digest = hashlib.sha256()
    for token, token_id in sorted(vocabulary.items()):
        digest.update(f"{token} {token_id}\n".encode())
    for left, right in merges:
        digest.update(f"{left} {right}\n".encode())
    return digest.hexdigest()
