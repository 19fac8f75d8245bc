"""The geometry of a line chart: where lines, ticks and labels stand in a drawing of a given size. No markup.

chart = line_chart({"training": [(10, 5.2), (20, 4.1)], "validation": [(20, 4.3)]})
chart.lines[0].path, chart.x_ticks[0].position, chart.x_ticks[0].label
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True)
class Tick:
    position: float
    label: str


@dataclass(frozen=True)
class Line:
    name: str
    points: tuple[Point, ...]
    """Pixels from the left and from the top."""

    @property
    def path(self) -> str:
        """As an SVG polyline has it."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


@dataclass(frozen=True)
class LineChart:
    """A drawing of `width` x `height` pixels; the axes cross at (`left`, `bottom`) and end at `right` and `top`."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]


def line_chart(series: Mapping[str, Sequence[Point]], width: int = 1000, height: int = 320) -> LineChart:
    """A line for each series with points, in one pair of axes: x from 0, y around the values."""
    given = {name: points for name, points in series.items() if points}
    x_values = round_values(0, max((x for points in given.values() for x, _ in points), default=1))
    heights = [y for points in given.values() for _, y in points] or [0.0, 1.0]
    y_values = round_values(min(heights), max(heights))
    left, right, top, bottom = 48.0, width - 16.0, 12.0, height - 44.0

    def across(x: float) -> float:
        return left + (right - left) * (x - x_values[0]) / (x_values[-1] - x_values[0])

    def down(y: float) -> float:
        return bottom - (bottom - top) * (y - y_values[0]) / (y_values[-1] - y_values[0])

    return LineChart(
        width,
        height,
        left,
        right,
        top,
        bottom,
        tuple(Tick(across(x), f"{x:,g}") for x in x_values),
        tuple(Tick(down(y), f"{y:,g}") for y in y_values),
        tuple(Line(name, tuple((across(x), down(y)) for x, y in points)) for name, points in given.items()),
    )


def round_values(low: float, high: float, most: int = 8) -> list[float]:
    """At most `most` multiples of 1, 2 or 5 times a power of ten, the first at or under `low` and the last at or over `high`.

    >>> round_values(0, 700), round_values(3.1, 9.0), round_values(2, 2)
    ([0, 100, 200, 300, 400, 500, 600, 700], [3, 4, 5, 6, 7, 8, 9], [2, 2.1])
    """
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    for step in (factor * power for factor in (1, 2, 5, 10, 20)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first < most:
            break
    return [plain(index * step) for index in range(first, max(last, first + 1) + 1)]


def plain(value: float) -> float:
    """Without the last digits that binary fractions leave.

    >>> plain(0.1 * 3), plain(4.0)
    (0.3, 4)
    """
    rounded = round(value, 10)
    return int(rounded) if rounded == int(rounded) else rounded
