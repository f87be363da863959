"""The stream: data order is arithmetic of the seed and the step, the same for any number of hosts."""

import time

import numpy as np
import pytest

from gptjax.config import ConfigError
from gptjax.data import packing, stream
from gptjax.types import Rows, RowSource, TokenSplit


def numbered(rows: int, label: int = 0) -> RowSource:
    """A source whose rows say which row of which source and epoch they are."""

    def take(indices_B: np.ndarray, epoch: int) -> Rows:
        tokens_BU = np.stack([np.full_like(indices_B, label), indices_B, np.full_like(indices_B, epoch)], axis=1)
        return Rows(tokens_BU.astype(np.int32), np.ones(tokens_BU.shape, np.float32), np.ones_like(tokens_BU))

    return RowSource(rows, take)


def read(batch, steps: range) -> list[tuple[int, ...]]:
    return [tuple(row) for step in steps for row in batch(step).tokens.tolist()]


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 64, 97])
def test_an_epoch_reads_every_row_once(rows):
    seen = read(stream.stream([numbered(rows)], [1.0], 5, 8), range(3 * rows // 8 + 3))
    for epoch in range(3):
        part = seen[epoch * rows : (epoch + 1) * rows]
        assert sorted(part) == [(0, i, epoch) for i in range(rows)]


def test_epochs_and_seeds_have_different_orders():
    source = [numbered(50)]
    orders = [[r[1] for r in read(stream.stream(source, [1.0], seed, 50), range(2))] for seed in range(2)]
    assert orders[0][:50] != orders[0][50:]
    assert orders[0] != orders[1]
    assert orders[0][:50] != sorted(orders[0][:50])


def test_permutation_is_uniform_over_places():
    places = np.array([stream.permute(np.arange(7), 7, key) for key in range(3000)])
    for column in places.T:
        expected = 3000 / 7
        chi_squared = ((np.bincount(column, minlength=7) - expected) ** 2 / expected).sum()
        assert chi_squared < 27  # 6 degrees of freedom: one in ten thousand is above


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 10, 99, 100, 101, 4097])
def test_permutation_is_a_bijection(size):
    assert sorted(stream.permute(np.arange(size), size, 1).tolist()) == list(range(size))


def test_permutation_of_a_trillion_rows_needs_no_memory():
    values = stream.permute(np.arange(1000), 10**12, 3)
    assert len(set(values.tolist())) == 1000
    assert values.min() >= 0
    assert 10**11 < values.max() < 10**12


def test_any_number_of_hosts_reads_the_same_global_batch():
    sources, weights = [numbered(11, 0), numbered(40, 1), numbered(3, 2)], [0.5, 0.2, 0.3]
    alone = stream.stream(sources, weights, 7, 24)
    for hosts in (2, 3, 8):
        parts = [stream.stream(sources, weights, 7, 24, (host, hosts)) for host in range(hosts)]
        for step in (0, 1, 415, 416, 417):
            joined = np.concatenate([part(step).tokens for part in parts])
            assert np.array_equal(joined, alone(step).tokens)


def test_step_does_not_depend_on_steps_read_before():
    def fresh():
        return stream.stream([numbered(11, 0), numbered(40, 1)], [1.0, 3.0], 7, 16)

    used = fresh()
    for step in (9, 2, 700, 2, 0):
        assert stream.fingerprint(used(step)) == stream.fingerprint(fresh()(step))


def test_mixture_has_its_exact_proportions_in_every_block():
    weights = [0.7, 0.2, 0.1]
    batch = stream.stream([numbered(1000, k) for k in range(3)], weights, 0, 100)
    for block in range(2):
        labels = [row[0] for row in read(batch, range(100 * block, 100 * (block + 1)))]
        assert np.bincount(labels).tolist() == [7000, 2000, 1000]
        assert 550 < labels[:1000].count(0) < 850


def test_each_source_of_a_mixture_finishes_an_epoch_before_it_repeats_a_row():
    seen = read(stream.stream([numbered(37, 0), numbered(90, 1)], [2.0, 1.0], 3, 50), range(300))
    for label, rows in ((0, 37), (1, 90)):
        mine = [row for row in seen if row[0] == label]
        for epoch in range(len(mine) // rows):
            assert sorted(mine[epoch * rows : (epoch + 1) * rows]) == [(label, i, epoch) for i in range(rows)]


def test_largest_remainders_fill_the_block():
    thirds = stream._quotas([1.0, 1.0, 1.0])
    assert sum(thirds) == stream.BLOCK
    assert max(thirds) - min(thirds) == 1


def test_a_weight_below_one_row_in_a_block_is_refused():
    with pytest.raises(ConfigError, match="weight=1e-05 of corpus 2 is 1e-05 of the mixture"):
        stream.stream([numbered(5), numbered(5)], [1.0, 1e-5], 0, 4)


def test_rows_that_do_not_divide_over_hosts_are_refused():
    with pytest.raises(ConfigError, match="batch_rows=10 is not divisible by the number of hosts 4"):
        stream.stream([numbered(5)], [1.0], 0, 10, (0, 4))


def test_order_is_what_it_always_was():
    """The order is part of what a run is: a change here breaks the resumption of every run."""
    assert stream.permute(np.arange(6), 1000, 42).tolist() == [618, 628, 472, 450, 638, 984]
    mixed = stream.stream([numbered(50, 0), numbered(70, 1)], [1.0, 2.0], 9, 16)
    assert [stream.fingerprint(mixed(step)) for step in (0, 3, 700)] == [
        "155c232012ca1f06",
        "28f6e1b18eaf709c",
        "40cc29d959de5d71",
    ]
    text = packing.contiguous(TokenSplit(np.arange(1000), np.array([0, 1000]), 0), 64)
    assert [int(text.take(np.array([0]), epoch).tokens[0, 0]) for epoch in range(4)] == [0, 51, 11, 42]


def test_fingerprint_tells_values_shapes_and_dtypes_apart():
    base = np.arange(6, dtype=np.int32)
    prints = {
        stream.fingerprint(batch)
        for batch in ([base], [base + 1], [base.reshape(2, 3)], [base.astype(np.int64)], [base.view(np.float32)])
    }
    assert len(prints) == 5
    assert all(len(p) == 16 and int(p, 16) >= 0 for p in prints)
    assert stream.fingerprint([np.arange(12)[::2]]) == stream.fingerprint([np.arange(12)[::2].copy()])


def test_one_core_streams_twelve_million_tokens_a_second():
    tokens_N = np.random.default_rng(0).integers(0, 50257, 4_000_000).astype(np.uint16)
    source = packing.contiguous(TokenSplit(tokens_N, np.array([0, len(tokens_N)]), 0), 1024)
    batch = stream.stream([source], [1.0], 0, 32)

    def rate() -> float:
        started = time.process_time()
        for step in range(100):
            packing.to_batch(batch(step))
        return 100 * 32 * 1024 / (time.process_time() - started)

    assert max(rate() for _ in range(3)) > 12e6
