"""A text in pieces of at most so many tokens.

count = token_counter(None)                        a stated approximation; or of a tokenizer.json
split_recursively(text, separators, 100, count)    as langchain's RecursiveCharacterTextSplitter, stripped
split_at_lines(text, depths, 100, count)           whole lines, nothing lost, where the code is least nested
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from neox_code.errors import DataError

TokenCounter = Callable[[Sequence[str]], list[int]]

APPROXIMATE_TOKEN = re.compile(r"\n[ \t]*|[A-Z]?[a-z]{1,7}|[A-Z]{1,4}|\d{1,3}|[ \t]{2,}|[^\w\s]{1,2}|_|[^\W\d_a-zA-Z]", re.ASCII)


def token_counter(tokenizer_file: Path | None) -> TokenCounter:
    if tokenizer_file is None:
        return approximate_counts
    tokenizer = load_tokenizer(tokenizer_file)
    return lambda texts: [len(found) for found in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


@lru_cache(maxsize=1)
def load_tokenizer(file: Path) -> Tokenizer:
    """Return the tokenizer of a tokenizer.json. Raises DataError for a file that is missing or is none."""
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library has no class of its own
        raise DataError(f"tokenizer {file} cannot be read: {error}. Name a tokenizer.json of Hugging Face.") from None


def approximate_counts(texts: Sequence[str]) -> list[int]:
    """About as many tokens as a byte-level BPE vocabulary of code makes of each text: PolyCoder's 0.96 to 1.01 times as many of
    Kotlin, GDScript and Java, 0.87 to 1.25 in nine files of ten.

    >>> approximate_counts(["fun main() {\\n    println(1)\\n", ""])
    [10, 0]
    """
    return [max(len(APPROXIMATE_TOKEN.findall(text)), bool(text)) for text in texts]


def split_recursively(text: str, separators: Sequence[str], limit: int, count: TokenCounter) -> list[str]:
    """Pieces split before each first separator that occurs, joined again up to the limit and stripped.

    What is too long is split at the separators after it; with none left, it stays too long.
    """
    place = next((place for place, separator in enumerate(separators) if separator in text), len(separators) - 1)
    pieces = [piece for piece in re.split(f"(?={re.escape(separators[place])})", text) if piece]
    chunks: list[str] = []
    fitting: list[tuple[str, int]] = []
    for piece, tokens in zip(pieces, count(pieces), strict=True):
        if tokens < limit:
            fitting.append((piece, tokens))
            continue
        chunks += packed(fitting, limit)
        fitting = []
        chunks += split_recursively(piece, separators[place + 1 :], limit, count) if separators[place + 1 :] else [piece]
    return chunks + packed(fitting, limit)


def packed(pieces: Sequence[tuple[str, int]], limit: int) -> list[str]:
    """As many neighbors together as fit, stripped; blank ones are lost."""
    groups: list[list[str]] = [[]]
    total = 0
    for piece, tokens in pieces:
        if total + tokens > limit and groups[-1]:
            groups.append([])
            total = 0
        groups[-1].append(piece)
        total += tokens
    return [chunk for group in groups if (chunk := "".join(group).strip())]


def split_at_lines(text: str, depths: Sequence[int], limit: int, count: TokenCounter) -> list[str]:
    """Pieces of whole lines that join to the text; none is blank, but where the text is.

    A piece ends, in the second half of what fits, before the line of the least depth of nesting: of several before the last one
    that has a blank line before it, else before the last. A line that alone is too long is cut into parts. Tokens are counted line
    by line, and a blank line is counted with what it is joined to.
    """
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    parts = [
        Part(part, depth, tokens_of_part)
        for line, depth, tokens in zip(lines, depths, count(lines), strict=False)
        for part, tokens_of_part in cut(line, tokens, limit, count)
    ]
    chunks: list[str] = []
    for start, end in windows(parts, limit):
        chunk = "".join(part.text for part in parts[start:end])
        if chunks and (not chunk.strip() or not chunks[-1].strip()):
            chunks[-1] += chunk
        else:
            chunks.append(chunk)
    return chunks


class Part(NamedTuple):
    """A line, or a part of one that is too long."""

    text: str
    depth: int
    tokens: int


def windows(parts: Sequence[Part], limit: int) -> Iterator[tuple[int, int]]:
    reach = [0, *accumulate(part.tokens for part in parts)]
    start = 0
    while start < len(parts):
        end = start + 1
        while end < len(parts) and reach[end + 1] - reach[start] <= limit:
            end += 1
        if end < len(parts):
            ends = [place for place in range(start + 1, end + 1) if 2 * (reach[place] - reach[start]) >= limit] or [end]
            end = min(ends, key=lambda place: (parts[place].depth, bool(parts[place - 1].text.strip()), -place))
        yield start, end
        start = end


def cut(line: str, tokens: int, limit: int, count: TokenCounter) -> Iterator[tuple[str, int]]:
    """
    >>> list(cut("abcdefgh", 8, 4, lambda texts: [len(text) for text in texts]))
    [('abcd', 4), ('efgh', 4)]
    """
    if tokens <= limit or len(line) == 1:
        yield line, tokens
        return
    size = max(len(line) * limit // tokens, 1)
    parts = [line[start : start + size] for start in range(0, len(line), size)]
    for part, tokens_of_part in zip(parts, count(parts), strict=True):
        yield from cut(part, tokens_of_part, limit, count)
