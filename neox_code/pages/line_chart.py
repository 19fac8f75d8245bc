"""The geometry of a line chart: where lines, ticks and labels stand in a drawing of a given size. No markup.

chart = line_chart({"training": [(10, 5.2), (20, 4.1)], "validation": [(20, 4.3)]})
chart.lines[0].path, chart.x_ticks[0].position, chart.x_ticks[0].label
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neox_code.pages.ticks import Tick, round_values

Point = tuple[float, float]


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
