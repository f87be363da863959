from gptjax.report.curves import BUCKETS, charts, smooth, thin
from gptjax.report.record import Record


def record(training=(), judged=(), name="run"):
    return Record(name, {}, {}, list(training), list(judged), [], [], [], [], None)


def test_a_long_curve_is_thinned_and_keeps_every_spike_and_every_gap():
    points = [(step, 1.0) for step in range(100_000)]
    points[54_321] = (54_321, 99.0)
    points[7] = (7, 0.5)
    points[60_000] = (60_000, None)
    thinned = thin(points)
    assert len(thinned) <= 3 * BUCKETS
    assert {points[54_321], points[7], points[60_000]} <= set(thinned)
    assert [step for step, _ in thinned] == sorted(step for step, _ in thinned)


def test_a_short_curve_is_left_as_it_is():
    points = [(1, 2.0), (2, None), (3, 1.0)]
    assert thin(points) == points


def test_a_trend_follows_a_slope_and_is_not_bent_by_a_spike():
    points = [(step, 3.0 * step) for step in range(1000)]
    points[500] = (500, 1e9)
    inner = [(step, value) for step, value in smooth(points) if 50 <= step < 950]
    assert len(inner) > 100
    assert all(abs(value - 3.0 * step) < 30 for step, value in inner)


def test_held_out_likelihood_stands_on_the_chart_of_the_loss():
    found = charts(
        [
            record(
                [{"step": 1, "loss_nats": 4.0, "tokens": 8.0}, {"step": 2, "loss_nats": 3.0, "tokens": 8.0}],
                [{"step": 2, "split": "validation", "nats_per_token": 3.5, "perplexity": 33.1, "stride": 8}],
            )
        ]
    )
    assert [chart.title for chart in found] == ["Loss, nats"]
    assert [(line.curve.label, line.curve.points) for line in found[0].lines] == [
        ("run · train", [(1, 4.0), (2, 3.0)]),
        ("run · validation", [(2, 3.5)]),
    ]


def test_a_metric_of_one_run_has_a_chart_and_a_colour_of_its_own():
    task = record([{"step": 1, "loss_nats": 1.0, "accuracy": 0.5}], name="task")
    found = charts([record([{"step": 1, "loss_nats": 4.0}]), task])
    assert [chart.title for chart in found] == ["Loss, nats", "Accuracy"]
    assert [line.curve.run for line in found[1].lines] == [1]


def test_nats_that_are_the_loss_are_not_drawn_twice():
    same = record([{"step": 1, "loss_nats": 2.0, "nats": 2.0000001}, {"step": 2, "loss_nats": None, "nats": None}])
    regularised = record([{"step": 1, "loss_nats": 2.5, "nats": 2.0}])
    assert [chart.title for chart in charts([same])] == ["Loss, nats"]
    assert [chart.title for chart in charts([same, regularised])] == ["Loss, nats", "Nats"]


def test_a_metric_that_was_never_finite_has_no_chart():
    assert charts([record([{"step": 1, "loss_nats": None}])]) == []
