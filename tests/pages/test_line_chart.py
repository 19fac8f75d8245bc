"""The geometry of line charts."""

import itertools

import pytest

from neox_code.pages.line_chart import choose_tick_values, make_line_chart


def test_a_point_with_the_value_of_a_tick_has_its_position() -> None:
    chart = make_line_chart({"loss": [(0, 4.0), (100, 2.0), (50, 3.0)]})
    across = {tick.label: tick.position for tick in chart.x_ticks}
    down = {tick.label: tick.position for tick in chart.y_ticks}
    assert chart.curves[0].points[0] == pytest.approx((across["0"], down["4"]))
    assert chart.curves[0].points[1] == pytest.approx((across["100"], down["2"]))
    assert chart.curves[0].points[2] == pytest.approx(((across["0"] + across["100"]) / 2, down["3"]))


def test_everything_is_inside_the_drawing() -> None:
    chart = make_line_chart({"training": [(10, 9.1), (20, 7.7), (700, 3.3)], "validation": [(100, 5.0), (700, 3.5)]})
    assert [curve.name for curve in chart.curves] == ["training", "validation"]
    for curve in chart.curves:
        assert all(chart.left <= x <= chart.right and chart.top <= y <= chart.bottom for x, y in curve.points)
    assert 0 < chart.left < chart.right < chart.width
    assert 0 < chart.top < chart.bottom < chart.height


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 700), (3.11, 9.02), (2.5, 2.5), (-4, 17), (1e-4, 3e-4), (0, 123_456)])
def test_round_values_enclose_the_range_in_few_even_steps(low: float, high: float) -> None:
    values = choose_tick_values(low, high)
    steps = {round(after - before, 9) for before, after in itertools.pairwise(values)}
    assert values[0] <= low <= high <= values[-1]
    assert 2 <= len(values) <= 9
    assert len(steps) == 1


def test_a_series_without_points_has_no_curve() -> None:
    assert make_line_chart({"training": [(1, 2.0)], "validation": []}).curves[-1].name == "training"
    assert make_line_chart({"training": []}).curves == ()
