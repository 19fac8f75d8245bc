"""Compute the positions (pixels) of curves, ticks and labels in a line chart. The caller draws them.

chart = make_line_chart({"training": [(10, 5.2), (20, 4.1)], "validation": [(20, 4.3)]})
chart.curves[0].path, chart.x_ticks[0].position, chart.x_ticks[0].label
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neox_code.pages.ticks import Tick, choose_tick_values

Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    name: str
    points: tuple[Point, ...]
    """(x, y) in pixels from the left and from the top."""

    @property
    def path(self) -> str:
        """The points in the format of an SVG polyline."""
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
    curves: tuple[Curve, ...]


def make_line_chart(series: Mapping[str, Sequence[Point]], width: int = 1000, height: int = 320) -> LineChart:
    """Return a chart with one curve per series that has points. The x axis begins at 0; the y axis covers all values."""
    drawn = {name: points for name, points in series.items() if points}
    x_values = choose_tick_values(0, max((x for points in drawn.values() for x, _ in points), default=1))
    heights = [y for points in drawn.values() for _, y in points] or [0.0, 1.0]
    y_values = choose_tick_values(min(heights), max(heights))
    left, right, top, bottom = 48.0, width - 16.0, 12.0, height - 44.0

    def to_x(x: float) -> float:
        return left + (right - left) * (x - x_values[0]) / (x_values[-1] - x_values[0])

    def to_y(y: float) -> float:
        return bottom - (bottom - top) * (y - y_values[0]) / (y_values[-1] - y_values[0])

    return LineChart(
        width,
        height,
        left,
        right,
        top,
        bottom,
        tuple(Tick(to_x(x), f"{x:,g}") for x in x_values),
        tuple(Tick(to_y(y), f"{y:,g}") for y in y_values),
        tuple(Curve(name, tuple((to_x(x), to_y(y)) for x, y in points)) for name, points in drawn.items()),
    )
