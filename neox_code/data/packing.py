"""Pack whole documents into rows of equal length (`pack_impl: best_fit`). Every row begins with an end-of-document token.

A document is predicted from its end-of-document token: E predicts the first token, and the last token predicts the next E. A row of
S inputs has S + 1 tokens. With S = 8, documents a (3 tokens), b (2), c (18):

    E  a0 a1 a2 E  b0 b1 E  | E          both documents fit: 4 + 3 inputs; the end of b fills the row and is masked in the loss
    E  c0 c1 c2 c3 c4 c5 c6 | c7         a document of more than S - 1 tokens is cut: S of its tokens are predicted in each row
    E  c8 c9 .. .. .. .. .. | c15
    E  c16 c17 E ...                     its rest (2 tokens, 3 inputs) is packed with others

    rows = pack_documents(documents, lengths, row_length=8, generator)

Best fit, largest first: each piece goes to the row with the least free space that holds it, so that few positions are empty. Pieces
of equal size are interchangeable, so that the number of rows does not depend on the order of the documents. `generator` decides
which of them share a row, and the order of the rows.
"""

from bisect import bisect_left, insort
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SMALLEST_PIECE = 2
"""Inputs of the smallest piece: an end-of-document token and one token."""


class PackedRows(NamedTuple):
    """Rows as pieces of documents. Row i has the pieces `row_ends[i - 1]` to `row_ends[i]`, in order."""

    row_ends: NDArray[np.int64]
    documents: NDArray[np.int64]
    """Document of each piece."""
    offsets: NDArray[np.int32]
    """First token of each piece in its document."""
    lengths: NDArray[np.int32]
    """Number of tokens of each piece, without end-of-document tokens."""


def pack_documents(
    documents: NDArray[np.integer], lengths: NDArray[np.integer], row_length: int, generator: np.random.Generator
) -> PackedRows:
    """Return the rows of the documents; `lengths` are their numbers of tokens, without end-of-document tokens.

    Each token, and the end of each document, is predicted exactly once. There is one exception: if only the end would be left for
    another row, it is left out. Empty documents are left out.
    """
    order = generator.permutation(len(documents))
    documents, lengths = np.asarray(documents)[order].astype(np.int64), np.asarray(lengths)[order].astype(np.int64)
    whole, rest = np.divmod(lengths + 1, row_length)
    rest[rest < SMALLEST_PIECE] = 0
    # rows that one document fills
    cut = np.repeat(np.arange(len(documents)), whole)
    part = np.arange(len(cut)) - np.repeat(np.cumsum(whole) - whole, whole)
    # pieces that share rows
    small = np.flatnonzero(rest)
    row_of_small = find_best_fit(rest[small], row_length)
    owners = np.concatenate([cut, small])
    offsets = np.concatenate([part * row_length, whole[small] * row_length])
    ends = np.minimum(offsets + row_length, lengths[owners])
    row_of_piece = np.concatenate([np.arange(len(cut)), len(cut) + row_of_small])
    num_rows = int(row_of_piece.max(initial=-1)) + 1
    place_of_row = generator.permutation(num_rows)
    in_order = np.lexsort((generator.permutation(len(owners)), place_of_row[row_of_piece]))
    counts = np.bincount(place_of_row[row_of_piece], minlength=num_rows)
    return PackedRows(
        np.cumsum(counts, dtype=np.int64),
        documents[owners[in_order]],
        offsets[in_order].astype(np.int32),
        (ends - offsets)[in_order].astype(np.int32),
    )


def find_best_fit(sizes: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    """Return the row of each piece, from 0.

    Rows of equal free space are filled together, so that the time grows with the number of distinct sizes.

    >>> find_best_fit(np.array([5, 3, 4, 4]), 8).tolist()
    [0, 0, 1, 1]
    """
    row_of = np.empty(len(sizes), np.int64)
    rows_by_space: dict[int, list[NDArray[np.int64]]] = {}
    spaces: list[int] = []
    num_rows = 0

    def add_rows(rows: NDArray[np.int64], space: int) -> None:
        if len(rows) and space >= SMALLEST_PIECE:
            if space not in rows_by_space:
                insort(spaces, space)
            rows_by_space.setdefault(space, []).append(rows)

    order = np.argsort(-sizes, kind="stable")
    distinct, counts = np.unique(sizes, return_counts=True)
    begin = 0
    for size, count in zip(distinct[::-1].tolist(), counts[::-1].tolist(), strict=True):
        pieces = order[begin : begin + count]
        begin += count
        while len(pieces):
            place = bisect_left(spaces, size)
            if place < len(spaces):
                space = spaces.pop(place)
                rows = np.concatenate(rows_by_space.pop(space))
            else:
                space = capacity
                rows = np.arange(num_rows, num_rows + -(-len(pieces) // (capacity // size)))
                num_rows += len(rows)
            per_row = space // size
            used = min(len(rows), -(-len(pieces) // per_row))
            taken = min(len(pieces), used * per_row)
            row_of[pieces[:taken]] = np.repeat(rows[:used], per_row)[:taken]
            add_rows(rows[: used - 1], space - per_row * size)
            add_rows(rows[used - 1 : used], space - (taken - (used - 1) * per_row) * size)
            add_rows(rows[used:], space)
            pieces = pieces[taken:]
    return row_of
