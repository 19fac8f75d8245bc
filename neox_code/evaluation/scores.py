"""Scores with their standard error and the smallest difference that they can show; pass@k.

score = pass_at_k_score([(10, 3), (10, 0)], k=1)          # (samples, passed samples) of each problem
score.value, score.standard_error, score.smallest_difference
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PASS_KS = (1, 2, 5, 10, 100)
"""The values of k for which pass@k is reported; k is left out if a problem has fewer samples than k."""

DETECTION_FACTOR = 2.8
"""Sum of the normal quantiles of a two-sided 5% level (1.96) and of 80% power (0.84)."""


@dataclass(frozen=True)
class TaskScore:
    name: str
    value: float
    standard_error: float | None
    """None if it cannot be estimated from the values: there are fewer than two."""
    count: int
    """Number of problems or files."""
    higher_is_better: bool = True
    chance: float | None = None
    """Value that can be had without the model, where a task has one."""

    @property
    def smallest_difference(self) -> float | None:
        """Smallest difference between two models that this score shows: at the 5% level, with a power of 80%."""
        return None if self.standard_error is None else DETECTION_FACTOR * math.sqrt(2) * self.standard_error

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": self.value,
            "standard_error": self.standard_error,
            "smallest_difference": self.smallest_difference,
            "count": self.count,
            "higher_is_better": self.higher_is_better,
            **({} if self.chance is None else {"chance": self.chance}),
        }


def mean_score(name: str, values: Sequence[float], higher_is_better: bool = True) -> TaskScore:
    """Return the mean of one value for each problem, with its standard error; `values` is not empty.

    If all values are 0 or all are 1, their variance is 0 whatever their number. Then one success and one failure are added before
    the error is computed.

    >>> score = mean_score("exact match", [1, 0, 0, 1])
    >>> score.value, round(score.standard_error, 3), round(score.smallest_difference, 2)
    (0.5, 0.289, 1.14)
    >>> round(mean_score("pass@1", [0.0] * 98).standard_error, 3)
    0.01
    """
    count, mean = len(values), math.fsum(values) / len(values)
    if count < 2:
        error = None
    elif mean in (0, 1) and set(values) == {mean}:
        share = 1 / (count + 2)
        error = math.sqrt(share * (1 - share) / count)
    else:
        error = statistics.stdev(values) / math.sqrt(count)
    return TaskScore(name, mean, error, count, higher_is_better)


def ratio_score(name: str, totals: Sequence[float], sizes: Sequence[float], higher_is_better: bool = False) -> TaskScore:
    """Return the sum of `totals` divided by the sum of `sizes`, such as bits per byte of files, with its standard error over files.

    >>> score = ratio_score("bits per byte", [16, 8, 30], [8, 8, 10])
    >>> round(score.value, 3), round(score.standard_error, 3)
    (2.077, 0.595)
    """
    count, size = len(sizes), math.fsum(sizes)
    value = math.fsum(totals) / size
    squares = math.fsum((total - value * part) ** 2 for total, part in zip(totals, sizes, strict=True))
    return TaskScore(name, value, math.sqrt(count / (count - 1) * squares) / size if count > 1 else None, count, higher_is_better)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Return the unbiased estimate of the probability that one of k samples passes, from n samples of which c passed.

    >>> pass_at_k(6, 3, 1), pass_at_k(3, 0, 2), pass_at_k(4, 3, 2)
    (0.4999999999999999, 0.0, 1.0)
    """
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


def pass_at_k_score(counts: Sequence[tuple[int, int]], k: int, name: str = "") -> TaskScore:
    """Return the mean of pass@k over problems; `counts` has the number of samples and of passed samples of each."""
    return mean_score(name or f"pass@{k}", [pass_at_k(n, c, k) for n, c in counts])


def pass_at_k_scores(counts: Sequence[tuple[int, int]], prefix: str = "") -> list[TaskScore]:
    """Return pass@k for each k of PASS_KS for which every problem has at least k samples."""
    most = min((n for n, _ in counts), default=0)
    return [pass_at_k_score(counts, k, f"{prefix}pass@{k}") for k in PASS_KS if k <= most]
