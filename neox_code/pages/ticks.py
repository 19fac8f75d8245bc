"""Choose the values at the ticks of a chart's axis.

choose_tick_values(0, 700)[-1]                # 700
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Tick:
    position: float
    label: str


def choose_tick_values(low: float, high: float, most: int = 8) -> list[float]:
    """Return at most `most` multiples of 1, 2 or 5 times a power of ten; the first is <= `low`, the last >= `high`.

    >>> choose_tick_values(0, 700), choose_tick_values(3.1, 9.0), choose_tick_values(2, 2)
    ([0, 100, 200, 300, 400, 500, 600, 700], [3, 4, 5, 6, 7, 8, 9], [2, 2.1])
    """
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    for step in (factor * power for factor in (1, 2, 5, 10, 20)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first < most:
            break
    return [remove_float_error(index * step) for index in range(first, max(last, first + 1) + 1)]


def remove_float_error(value: float) -> float:
    """Return the value rounded to the decimal number that a binary fraction stands for.

    >>> remove_float_error(0.1 * 3), remove_float_error(4.0)
    (0.3, 4)
    """
    rounded = round(value, 10)
    return int(rounded) if rounded == int(rounded) else rounded
