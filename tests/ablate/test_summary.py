import math
import statistics

import numpy as np
import pytest

from gptjax.ablate import summary
from gptjax.ablate.outcome import Outcome


def outcome(seed, value, batches=None, failure=None):
    metrics = {} if failure else {"nats_per_token": value}
    return Outcome(seed, metrics, failure, 10, 100.0, 1e6, 2.0, [], batches or {1: f"batch{seed}"})


def test_a_paired_difference_has_the_students_interval_of_its_differences():
    found = summary.difference({0: 1.0, 1: 2.0, 2: 4.0}, {0: 0.5, 1: 1.7, 2: 3.0, 3: 9.0})
    apart = [0.5, 0.3, 1.0]
    assert found.mean == pytest.approx(0.6)
    assert found.pairs == 3
    # Student's t with 2 degrees of freedom: 4.302653 (97.5%).
    reach = 4.302653 * statistics.stdev(apart) / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((0.6 - reach, 0.6 + reach))


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        base = rng.normal(0, 1, 4)
        row = base + 0.3 + rng.normal(0, 0.1, 4)
        found = summary.difference(dict(enumerate(row)), dict(enumerate(base)))
        held += found.low <= 0.3 <= found.high
    assert 0.91 <= held / 400 <= 0.98


def test_one_seed_has_no_error_and_no_interval():
    [row] = summary.summarise({"base": [outcome(0, 1.5)]}, "base", "nats_per_token", [0])
    assert row["standard_error"] is None
    assert row["difference"] == {"mean": 0.0, "low": None, "high": None, "pairs": 1}


def test_a_counted_row_meets_the_base_at_every_seed():
    outcomes = {"base": [outcome(0, 1.0), outcome(1, 2.0)], "counted": [outcome(None, 3.0)]}
    row = summary.summarise(outcomes, "base", "nats_per_token", [0, 1])[1]
    assert row["difference"]["mean"] == pytest.approx(1.5)
    assert row["difference"]["pairs"] == 2
    assert row["standard_error"] is None


def test_rows_not_run_yet_or_that_gave_up_are_empty():
    outcomes = {"base": [outcome(0, 1.0)], "none": [], "wild": [outcome(0, 0.0, failure="diverged")]}
    _, none, wild = summary.summarise(outcomes, "base", "nats_per_token", [0])
    assert (none["mean"], none["runs"], none["difference"]) == (None, 0, None)
    assert (wild["mean"], wild["failures"]) == (None, ["diverged"])


def test_batches_are_compared_where_both_logged_them():
    base = [outcome(0, 1.0, {1: "a", 10: "b"})]
    same, other = [outcome(0, 1.0, {1: "a", 20: "c"})], [outcome(0, 1.0, {1: "a", 10: "x"})]
    found = summary.summarise({"base": base, "same": same, "other": other}, "base", "nats_per_token", [0])
    assert [row["same_batches"] for row in found] == [True, True, False]
