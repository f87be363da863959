import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptjax.report.chart import Curve, chart, label, log_ticks, ticks


def drawn(points, kind="smooth", **kwargs):
    return chart("t", [Curve(0, kind, "a", points)], **({"wide": False, "least_top": None} | kwargs))


def test_a_missing_value_breaks_the_path_and_a_lone_value_is_a_dot():
    found = drawn([(0, 1.0), (1, 2.0), (2, None), (3, 1.5), (4, None)])
    assert found.lines[0].path.count("M") == 2
    assert len(found.lines[0].dots) == 1


def test_points_lie_inside_the_chart_and_larger_values_higher():
    found = drawn([(0, 1.0), (5, 1.5), (10, 2.0)])
    xy = [tuple(map(float, pair.split())) for pair in found.lines[0].path[1:].split(" L")]
    assert [x for x, _ in xy] == sorted(x for x, _ in xy)
    assert [y for _, y in xy] == sorted((y for _, y in xy), reverse=True)
    assert all(found.left <= x <= found.right and 0 < y < found.height for x, y in xy)


@pytest.mark.parametrize(
    ("values", "log"), [((1.0, 4.0), True), ((1.0, 2.9), False), ((0.0, 9.0), False), ((-1.0, 9.0), False)]
)
def test_values_over_more_than_a_factor_of_three_are_on_a_logarithmic_axis(values, log):
    assert drawn(list(enumerate(values))).log == log


def test_rates_are_shown_from_zero():
    found = drawn([(0, 90.0), (1, 100.0)], least_top=0.0)
    assert found.y_ticks[0][1] == "0"


def test_a_small_share_looks_small():
    found = drawn([(0, 0.001), (1, 0.002)], least_top=0.1)
    assert found.y_ticks[-1][1] == "0.1"


def test_a_constant_and_a_single_point_can_be_drawn():
    for points in ([(0, 0.0)], [(7, 5.0)], [(1, 3.0), (2, 3.0)], [(0, 0.0), (1, 0.0)]):
        assert drawn(points).lines[0].path
        assert drawn(points, least_top=0.0).lines[0].path


def test_only_curves_with_a_name_answer_to_the_pointer():
    found = chart("t", [Curve(0, "raw", "", [(1, 2.0)]), Curve(1, "judged", "b", [(1, 2.5)])], False, None)
    assert found.hover["lines"] == [[1, "b", [(1, 2.5)]]]
    assert found.both


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-9, 1e9), st.floats(1.001, 1e6), st.integers(3, 9))
def test_ticks_are_few_and_within_the_axis(low, factor, about):
    high = low * factor
    room = 1e-6 * (high - low)
    assert 1 <= len(ticks(low, high, about)) <= about + 2
    assert all(low - room <= tick <= high + room for tick in ticks(low, high, about))
    assert len(log_ticks(low, high)) <= 32
    assert all(low <= tick <= high for tick in log_ticks(low, high))


def test_ticks_are_round_numbers():
    assert ticks(0, 2000, 8) == [0, 250, 500, 750, 1000, 1250, 1500, 1750, 2000]
    assert ticks(0.0, 6.3e-4, 5) == [0, 0.0002, 0.0004, 0.0006]
    assert log_ticks(1.4, 4.3) == [1.5, 2, 3, 4]
    assert log_ticks(0.001, 2000) == [0.001, 0.01, 0.1, 1, 10, 100, 1000]
    assert log_ticks(1e-12, 1e12) == [1e-12, 1e-9, 1e-6, 1e-3, 1, 1e3, 1e6, 1e9, 1e12]


def test_labels_are_as_short_as_they_can_be():
    values = (0.0, 0.0005, 1.5, 2000.0, 48_000.0, 1_250_000.0, 3e9, 6e-05)
    assert [label(v) for v in values] == ["0", "0.0005", "1.5", "2,000", "48k", "1.25M", "3G", "6e-05"]
