"""Prefetching: the same batches in order, errors where they belong, and no thread left behind."""

import threading
import time

import pytest

from gptjax.data.prefetch import prefetch


def threads() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


def test_batches_come_in_order_and_placed():
    with prefetch(lambda step: step * 10, range(3, 9), str) as batches:
        assert [(step, batch) for step, batch, _ in batches] == [(step, str(step * 10)) for step in range(3, 9)]
    assert threads() == 0


def test_an_error_is_raised_at_the_step_it_belongs_to():
    def make(step: int) -> int:
        if step == 4:
            raise ValueError("row 17 is broken")
        return step

    seen = []
    with pytest.raises(ValueError, match="row 17 is broken"), prefetch(make, range(10), lambda x: x) as batches:
        seen.extend(step for step, _, _ in batches)
    assert seen == [0, 1, 2, 3]
    assert threads() == 0


@pytest.mark.parametrize("read", [0, 1, 5])
def test_leaving_early_ends_the_thread(read):
    with prefetch(lambda step: step, range(10**9), lambda x: x) as batches:
        for _ in range(read):
            next(batches)
        time.sleep(0.02)
    assert threads() == 0


def test_it_stays_at_most_depth_and_one_ahead():
    made = []
    with prefetch(lambda step: made.append(step), range(100), lambda x: x, depth=3) as batches:
        for _ in range(5):
            next(batches)
        time.sleep(0.1)
        assert 5 + 3 <= len(made) <= 5 + 3 + 1


def test_waiting_is_measured_and_work_overlaps():
    def slow(step: int) -> int:
        time.sleep(0.03)
        return step

    with prefetch(slow, range(4), lambda x: x) as batches:
        _, _, first = next(batches)
        time.sleep(0.15)
        _, _, second = next(batches)
    assert first > 0.02
    assert second < 0.02
