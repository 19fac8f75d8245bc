"""Choose the rows of each split: by project, without the rows of evaluation, and by length.

chosen, held_out = divide_by_projects(rows, share=0.01, seed=1234)
chosen = drop_evaluated(rows, chosen, [(rows, held_out)], by_project=True)
pieces = limit_lengths(rows, chosen, sample_length=2048, long_rows="cut", split="train_rows")
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from neox_code.errors import DataError
from neox_code.finetuning.token_rows import REPORTED_ROWS, TokenRows
from neox_code.generation.infilling import PREFIX_SHARE
from neox_code.logs import format_plural, get_logger

log = get_logger(__name__)

Indices = NDArray[np.int64]


class RowPieces(NamedTuple):
    """Rows, or parts of them, to train on: row, offset of the first token, number of tokens."""

    rows: Indices
    offsets: Indices
    lengths: Indices


def divide_by_projects(rows: TokenRows, share: float, seed: int) -> tuple[Indices, Indices]:
    """Return the rows for training and for validation: whole projects, in an order drawn by `seed`, up to the share of rows."""
    projects, inverse, counts = np.unique(rows.projects, return_inverse=True, return_counts=True)
    keys = [xxhash.xxh3_64_intdigest(f"{seed}/{project}".encode()) for project in projects.tolist()]
    order = np.argsort(np.array(keys, np.uint64), kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    taken = order[before + counts[order] / 2 <= share * len(rows)]
    is_valid = np.isin(inverse, taken)
    if share and not (is_valid.any() and not is_valid.all()):
        raise DataError(
            f"valid_share ({share:g}) of {format_plural(len(rows), 'row')} in {format_plural(len(projects), 'project')} leaves a "
            "split without rows, since a project is not divided. Change valid_share, or set valid_rows."
        )
    return np.flatnonzero(~is_valid), np.flatnonzero(is_valid)


def drop_evaluated(rows: TokenRows, chosen: Indices, others: Sequence[tuple[TokenRows, Indices]], by_project: bool) -> Indices:
    """Return the rows of `chosen` that are equal to none of the rows of evaluation, and of none of their projects.

    The number of dropped rows is logged by reason.
    """
    if not others:
        return chosen
    hashes = np.concatenate([other.hash_rows()[own] for other, own in others])
    is_equal = np.isin(rows.hash_rows()[chosen], hashes)
    of_project = np.isin(rows.projects[chosen], np.concatenate([other.projects[own] for other, own in others]))
    if not by_project:
        of_project[:] = False
    for reason, found in (("equal to a row of evaluation", is_equal), ("of a project in evaluation", of_project & ~is_equal)):
        if count := int(found.sum()):
            log.info("%s of training left out: %s", format_plural(count, "row"), reason)
    return chosen[~(is_equal | of_project)]


def limit_lengths(
    rows: TokenRows, chosen: Indices, sample_length: int, long_rows: str, split: str, keeps_targets: bool = False
) -> RowPieces:
    """Return the pieces of rows that fit into samples of `sample_length` inputs. Raise DataError for long rows that are refused.

    A whole row of n tokens has n + 1 inputs, since an end-of-document token precedes it. A row that is cut has `sample_length`
    tokens, of which the last is only predicted. With `keeps_targets` it is cut on both sides of its targets, which are
    consecutive. Pieces without a token that enters the loss, or with only some of such targets, are left out.
    """
    lengths = rows.lengths[chosen]
    is_long = lengths > sample_length - 1
    if is_long.any() and long_rows == "refuse":
        longest = [f"{rows.place(row)} has {rows.lengths[row]:,} tokens." for row in chosen[is_long][:REPORTED_ROWS].tolist()]
        counted = (
            f"{int(is_long.sum()):,} of {format_plural(len(chosen), 'row')} of {split} exceed the {sample_length - 1:,} tokens"
        )
        raise DataError(
            "\n".join([*longest, f"{counted} that seq_length has for one. Raise it, or set long_rows to cut, split or drop."])
        )
    if long_rows == "drop":
        chosen, lengths = chosen[~is_long], lengths[~is_long]
    elif long_rows == "cut":
        lengths = np.where(is_long, sample_length, lengths)
    counts = np.maximum(1, -(-lengths // sample_length)) if long_rows == "split" else np.ones_like(lengths)
    part = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    offsets = part * sample_length
    pieces = RowPieces(np.repeat(chosen, counts), offsets, np.minimum(np.repeat(lengths, counts) - offsets, sample_length))
    if keeps_targets and long_rows == "cut":
        offsets[is_long] = [find_window(rows, row, sample_length) for row in chosen[is_long].tolist()]
    if count := int(is_long.sum()):
        done = {"drop": "left out", "cut": "cut", "split": "split"}[long_rows]
        log.info("%s of %s longer than %d tokens: %s", format_plural(count, "row"), split, sample_length - 1, done)
    return drop_unlearned(rows, pieces, split, keeps_targets)


def find_window(rows: TokenRows, row: int, length: int) -> int:
    """Return the offset of `length` tokens of a longer row that has its targets, which are consecutive, with text on both sides."""
    targets = rows.targets[rows.slice(row, 0, int(rows.lengths[row]))]
    first, count = int(targets.argmax()), int(targets.sum())
    after = len(targets) - first - count
    space = length - count
    before = min(first, max(int(space * PREFIX_SHARE), space - after))
    return max(0, first - before)


def drop_unlearned(rows: TokenRows, pieces: RowPieces, split: str, needs_all: bool) -> RowPieces:
    """Leave out the pieces without a token that enters the loss, or without all of their row's, and log their number."""
    totals = np.concatenate([[0], np.cumsum(rows.targets, dtype=np.int64)])
    begins = (rows.ends - rows.lengths)[pieces.rows] + pieces.offsets
    inside = totals[begins + pieces.lengths] - totals[begins]
    ends = rows.ends[pieces.rows]
    is_learned = inside == totals[ends] - totals[ends - rows.lengths[pieces.rows]] if needs_all else inside > 0
    if count := int((~is_learned).sum()):
        lacks = "whose middle is too long" if needs_all else "without a token of the completion"
        log.info("%s of %s %s: left out", format_plural(count, "piece"), split, lacks)
    return RowPieces(*(array[is_learned] for array in pieces))
