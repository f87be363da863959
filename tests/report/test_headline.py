import pytest

from gptjax.report.headline import duration, headline, number, recent
from gptjax.report.record import Record


def record(training=(), judged=()):
    return Record("run", {"steps": 100}, {}, list(training), list(judged), [], [], [], [], None)


def row(step, **values):
    return {"step": step, "loss_nats": 2.0, "tokens": 100.0, "step_seconds": 0.5} | values


def test_a_row_stands_for_the_updates_since_the_row_before_it():
    found = headline(record([row(1), row(10), row(20)]))
    assert found["tokens"].text == "2,000"
    assert found["time"].text == "10 s"


def test_the_loss_in_training_is_a_mean_that_passes_over_skipped_updates():
    rows = [row(step, loss_nats=float(step)) for step in range(1, 100)] + [row(100, loss_nats=None)]
    assert recent(rows, "loss_nats") == pytest.approx(95.0)
    assert recent([row(1, loss_nats=None)], "loss_nats") is None


def test_every_metric_that_was_judged_shows_its_latest_value():
    judged = [{"step": 1, "split": "validation", "accuracy": 0.5}, {"step": 2, "split": "validation", "accuracy": 0.75}]
    assert headline(record(judged=judged))["accuracy"].text == "0.7500"


def test_utilisation_is_shown_where_the_device_is_known():
    assert headline(record([row(1, mfu=0.4512)]))["MFU"].text == "45.1%"
    assert "MFU" not in headline(record([row(1, mfu=None)]))


def test_numbers_are_written_as_a_person_writes_them():
    values = (None, 0.0, 1.5, 12.345, 123456.7, 123456, 0.00012345, "x", -2.5)
    expected = ["–", "0.0000", "1.5000", "12.35", "123,457", "123,456", "0.000123", "x", "-2.5000"]
    assert [number(value) for value in values] == expected
    assert [duration(s) for s in (0.4, 59, 61, 7260)] == ["0 s", "59 s", "1 min 1 s", "2 h 1 min"]
