"""Claims about the learning rate over a run."""

import math

import numpy as np
import pytest

from gptjax.config import ConfigError
from gptjax.train.schedules import Constant, Cosine, Linear

EVERY = (Constant(warmup_steps=10), Cosine(warmup_steps=10), Linear(warmup_steps=10))


def rates(config, steps):
    return np.array([float(config.build(steps)(step)) for step in range(steps)])


@pytest.mark.parametrize("config", EVERY, ids=lambda c: type(c).__name__)
def test_warmup_rises_in_equal_steps_from_a_first_update_that_already_learns(config):
    expected = np.arange(1, 11) / 11
    np.testing.assert_allclose(rates(config, 100)[:10], expected, rtol=1e-6)
    assert rates(config, 100).max() == rates(config, 100)[10] == 1.0


def test_cosine_is_the_published_curve_and_its_last_update_still_learns():
    config = Cosine(warmup_steps=20, final_fraction=0.1)
    for step in (20, 60, 110, 199):
        expected = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - 20) / 180))
        assert float(config.build(200)(step)) == pytest.approx(expected, rel=1e-5)
    assert 0 < float(Cosine().build(200)(199)) < 1e-3
    assert float(Cosine().build(200)(200)) == pytest.approx(0, abs=1e-7)


def test_linear_with_a_decay_share_holds_the_peak_and_then_falls_in_a_straight_line():
    curve = rates(Linear(warmup_steps=5, decay_fraction=0.6, final_fraction=0.2), 100)
    np.testing.assert_array_equal(curve[5:41], 1.0)
    np.testing.assert_allclose(np.diff(curve[40:]), -0.8 / 60, rtol=1e-3)
    assert curve[-1] == pytest.approx(0.2 + 0.8 / 60)


def test_linear_falls_from_the_end_of_the_warmup_where_the_decay_share_is_the_whole_run():
    curve = rates(Linear(warmup_steps=20), 100)
    assert curve[20] == 1.0
    np.testing.assert_allclose(curve[20:], 1 - np.arange(80) / 80, rtol=1e-5)


def test_constant_stays_at_the_peak():
    np.testing.assert_array_equal(rates(Constant(), 10), 1.0)


@pytest.mark.parametrize("config", EVERY, ids=lambda c: type(c).__name__)
def test_a_warmup_longer_than_the_run_is_refused_in_one_line(config):
    with pytest.raises(ConfigError, match=r"^warmup_steps=10 is not below steps=10; .*$"):
        config.build(10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cosine(warmup_steps=-1), "warmup_steps=-1 must not be negative"),
        (lambda: Cosine(final_fraction=1.5), r"final_fraction=1.5 is not in \[0, 1\]"),
        (lambda: Linear(decay_fraction=-0.1), r"decay_fraction=-0.1 is not in \[0, 1\]"),
    ],
)
def test_impossible_schedules_are_refused_at_birth(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
