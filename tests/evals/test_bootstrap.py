"""Intervals hold what they should about as often as they say; measures of counts are measures of repeated examples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptjax.data.errors import DataError
from gptjax.evals import bootstrap, classify, statistics
from gptjax.evals.bootstrap import Measured, measured


def test_the_interval_of_a_mean_holds_the_true_mean_about_95_times_in_100():
    """400 samples of 100 draws of an exponential variable, whose mean is 1; the percentile interval of so skewed a
    variable is known to fall short by a percent or two."""
    held = 0
    for sample in range(400):
        draws = np.random.default_rng(sample).exponential(size=100)
        one = measured({"mean": statistics.mean(draws)}, 100, seed=sample)["mean"]
        held += one.low <= 1.0 <= one.high
    assert 0.90 <= held / 400 <= 0.97


def test_the_interval_of_a_mean_is_as_wide_as_the_normal_one():
    values = np.random.default_rng(0).normal(size=2000)
    one = measured({"mean": statistics.mean(values)}, 2000)["mean"]
    assert one.value == pytest.approx(values.mean())
    assert one.high - one.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(2000), rel=0.05)
    assert one.low < one.value < one.high


def test_the_same_seed_gives_the_same_interval_and_another_another():
    values = {"mean": statistics.mean(np.arange(30.0))}
    assert measured(values, 30) == measured(values, 30)
    assert measured(values, 30) != measured(values, 30, seed=1)


def test_all_measures_are_of_the_same_draws_and_every_draw_has_all_its_examples(monkeypatch):
    monkeypatch.setattr(bootstrap, "CELLS_AT_ONCE", 64)  # many small parts
    counts = np.concatenate(list(bootstrap.draws(30, 0)))
    assert counts.shape == (bootstrap.RESAMPLES, 30)
    assert set(counts.sum(1)) == {30.0}
    assert counts.mean(0) == pytest.approx(np.ones(30), abs=0.15)
    values = np.arange(30.0)
    found = measured({"mean": statistics.mean(values), "less": statistics.mean(-values)}, 30)
    assert found["mean"].low == -found["less"].high


def test_a_single_example_has_no_interval_and_none_no_measure():
    assert measured({"mean": statistics.mean(np.array([2.0]))}, 1) == {"mean": Measured(2.0, None, None)}
    with pytest.raises(DataError, match="no examples"):
        measured({}, 0)


def test_a_measure_in_json_has_null_for_what_is_no_number():
    assert Measured(0.5, 0.25, 0.75).to_json() == {"value": 0.5, "low": 0.25, "high": 0.75}
    assert Measured(np.inf, None, None, (1.0, 2.0)).to_json() == {
        "value": None,
        "low": None,
        "high": None,
        "by_seed": [1.0, 2.0],
    }


examples = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 3)), min_size=3, max_size=12)


@settings(max_examples=60, deadline=None)
@given(examples)
def test_an_example_that_counts_thrice_counts_as_three(rows):
    x, y, counts = np.array(rows).T
    if not counts.sum():
        return
    pairs = [
        (statistics.matthews, classify.matthews),
        (statistics.f1, classify.f1),
        (statistics.pearson, classify.pearson),
        (statistics.spearman, classify.spearman),
    ]
    for resampled, plain in pairs:
        both = np.stack([counts, np.ones(len(x))]).astype(float)
        again, once = resampled(x, y)(both)
        assert again == pytest.approx(plain(np.repeat(x, counts), np.repeat(y, counts)), abs=1e-9)
        assert once == pytest.approx(plain(x, y), abs=1e-9)


def test_a_ratio_is_of_sums_and_a_perplexity_beyond_all_floats_is_infinite():
    ratio = statistics.ratio(np.array([1.0, 9.0]), np.array([1, 3]))
    assert ratio(np.array([[1.0, 1.0], [2.0, 0.0]])).tolist() == [2.5, 1.0]
    assert statistics.once(statistics.exponential(statistics.mean(np.array([1000.0]))), 1) == np.inf
