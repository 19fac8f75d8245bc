"""Find the known keys that are most similar to an unknown key.

find_nearest("hiden_size", KEYS)                  # ["hidden_size"]
format_suggestion(["hidden_size"])                # "did you mean hidden_size? Correct or remove it."
"""

import difflib
from collections.abc import Iterable, Sequence


def find_nearest(key: str, known: Iterable[str]) -> list[str]:
    """Return the known words that are similar to `key`, best first: at most two, or one if only upper and lower case differ.

    >>> find_nearest("hiden_size", ["hidden_size", "seed"]), find_nearest("zebra", ["seed"]), find_nearest("c++", ["C", "C++"])
    (['hidden_size'], [], ['C++'])
    """
    known = list(known)
    if same := [other for other in known if other.casefold() == key.casefold()]:
        return same[:1]
    scores = sorted((-compute_similarity(key, other), other) for other in known)
    return [other for score, other in scores if -score >= 0.7][:2]


def compute_similarity(one: str, other: str) -> float:
    """Return how similar two keys are by their letters or by their words, from 0 to 1 (equal).

    >>> compute_similarity("hiden_size", "hidden_size") > 0.9, compute_similarity("warmup_iters", "warmup")
    (True, 0.75)
    """
    words = set(one.split("_")), set(other.split("_"))
    by_words = 0.5 + 0.5 * len(words[0] & words[1]) / len(words[0] | words[1])
    return max(by_words, difflib.SequenceMatcher(None, one, other).ratio())


def format_suggestion(similar: Sequence[str]) -> str:
    return f"did you mean {' or '.join(similar)}? Correct or remove it." if similar else "no key has a similar name. Remove it."
