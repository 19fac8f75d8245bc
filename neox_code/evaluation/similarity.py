"""Similarity of completions to reference code: BLEU and edit similarity as CodeXGLUE's method generation computes them.

compute_bleu(["return a + b"], ["return a - b"])                  # 50.81: on the raw texts, words separated by whitespace
compute_edit_similarity(["return a + b"], ["return a - b"])       # EditSimilarity(value=92.0, backend="rapidfuzz")

Edit similarity depends on the library that computes it (37.53 or 27.98 on CodeXGLUE's sample), so each value names its backend.
"""

import difflib
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from neox_code.errors import DataError

MAX_ORDER = 4

NORMALIZED_TOKENS = {"<EOL>": "\n", "<INDENT>": " ", "<DEDENT>": " ", "<NUM_LIT>": "0", "<STR_LIT>": "", "<CHAR_LIT>": ""}

LITERAL_WITH_VALUE = re.compile(r"<(?:STR|NUM|CHAR)_LIT:(.*?)>", re.DOTALL)


@dataclass(frozen=True)
class EditSimilarity:
    """Mean edit similarity of pairs, from 0 to 100, and the library that computed it."""

    value: float
    backend: str


def expand_literals(text: str) -> str:
    """Return a text in CodeXGLUE's normalized form as one line of code: literals and line ends expanded, whitespace collapsed.

    >>> expand_literals("x = <NUM_LIT:3> <EOL> <INDENT> y = '<STR_LIT>'")
    "x = 3 y = ''"
    """
    for token, replacement in NORMALIZED_TOKENS.items():
        text = text.replace(token, replacement)
    return " ".join(LITERAL_WITH_VALUE.sub(r"\1", text).split())


def compute_bleu(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Return the BLEU of all pairs together, from 0 to 100: orders 1 to 4, one reference, 1 added to the numerator and denominator
    of every precision.

    Words are separated by whitespace. It is 0 if all predictions or all references are empty.

    >>> round(compute_bleu(["a b c d e"], ["a b c d e"]), 2)
    100.0
    """
    check_pairs(predictions, references)
    matches, possible = [0] * MAX_ORDER, [0] * MAX_ORDER
    prediction_length = reference_length = 0
    for prediction, reference in zip(predictions, references, strict=True):
        words, expected = prediction.split(), reference.split()
        prediction_length += len(words)
        reference_length += len(expected)
        for order in range(MAX_ORDER):
            matches[order] += (count_ngrams(words, order + 1) & count_ngrams(expected, order + 1)).total()
            possible[order] += max(0, len(words) - order)
    if not prediction_length or not reference_length:
        return 0.0
    log_precision = sum(math.log((matches[order] + 1) / (possible[order] + 1)) for order in range(MAX_ORDER)) / MAX_ORDER
    return 100 * math.exp(log_precision + min(0.0, 1 - reference_length / prediction_length))


def count_ngrams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[offset:] for offset in range(order)), strict=False))


def compute_edit_similarity(predictions: Sequence[str], references: Sequence[str], backend: str | None = None) -> EditSimilarity:
    """Return the mean of the pairs' similarities, each rounded to an integer from 0 to 100, after `expand_literals`.

    `backend` is "rapidfuzz" or "difflib"; None takes rapidfuzz where it is installed.
    """
    check_pairs(predictions, references)
    name, ratio = load_ratio(backend)
    pairs = zip(map(expand_literals, predictions), map(expand_literals, references), strict=True)
    values = [100 if prediction == reference else round(ratio(prediction, reference)) for prediction, reference in pairs]
    return EditSimilarity(sum(values) / len(values) if values else 0.0, name)


def load_ratio(backend: str | None = None) -> tuple[str, Callable[[str, str], float]]:
    """Return the name of a backend and its function of two texts, which returns their similarity from 0 to 100."""
    fuzz: Any = None
    if backend != "difflib":
        try:
            from rapidfuzz import fuzz
        except ImportError:
            if backend is not None:
                raise DataError("rapidfuzz is not installed. Run: pip install 'neox-code[evaluate]'") from None
    if fuzz is not None:
        return "rapidfuzz", fuzz.ratio
    return "difflib", lambda prediction, reference: 100 * difflib.SequenceMatcher(None, prediction, reference).ratio()


def check_pairs(predictions: Sequence[str], references: Sequence[str]) -> None:
    if len(predictions) != len(references):
        raise DataError(f"{len(predictions)} predictions for {len(references)} references: give one line for each reference.")
