"""Claims about rows that continue rows: truncated back-propagation with a carried state."""

import shutil
from dataclasses import replace
from functools import cache
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec
from numpy.testing import assert_allclose

from gptjax.config import Checkpoints, ConfigError, Corpus, Data, Evaluation, Run
from gptjax.data import stream
from gptjax.data.tokenizers import Characters
from gptjax.launch import launch
from gptjax.models.gpt import GPT
from gptjax.models.recurrent import Recurrent
from gptjax.objectives.causal import Causal, next_token, running, to_batch
from gptjax.train import sharding
from gptjax.train.optim import SGD
from gptjax.train.schedules import Constant
from gptjax.train.state import init_state, loss_of
from gptjax.train.step import make_step
from gptjax.types import TokenSplit

V, T, B = 11, 5, 4
RUN = Run(
    model=Recurrent(cell="gru", layers=1, width=5, embed_width=5, context=T),
    tokenizer=Characters(),
    objective=Causal(),
    optimizer=SGD(learning_rate=0.1),
    schedule=Constant(),
    data=Data(order="running"),
    batch_rows=B,
    clip_norm=None,
)
MODEL = RUN.model.build(V, V)
OBJECTIVE = next_token(MODEL)
TOKENS = np.random.default_rng(0).integers(0, V, 131)
"""26 rows: 6 of each lane, and 2 that fill none."""
SOURCE = running(TokenSplit(TOKENS, np.array([0, len(TOKENS)]), len(TOKENS)), T)


@pytest.fixture(scope="module")
def params():
    return {"model": jax.jit(MODEL.init)(jax.random.key(1))}


def batches(steps):
    rows = stream.running(SOURCE, B)
    return [to_batch(rows(step)) for step in range(steps)]


# --- the order of rows ---


def test_every_row_continues_the_row_before_it_and_an_epoch_begins_again():
    rows = stream.running(SOURCE, B)
    for epoch in (0, 1):
        read = [rows(6 * epoch + step) for step in range(6)]
        assert [r.starts.tolist() for r in read] == [[T * step] * B for step in range(6)]
        for before, after in pairwise(read):
            assert np.array_equal(before.tokens[:, -1], after.tokens[:, 0])
        lanes = np.concatenate([r.tokens[:, :-1] for r in read], axis=1)
        windows = np.lib.stride_tricks.sliding_window_view(TOKENS, 30)
        begins = [np.flatnonzero((windows == lane).all(1)).item() for lane in lanes]
        assert np.diff(begins).tolist() == [30] * 3  # lanes meet and do not overlap
    assert not np.array_equal(rows(0).tokens, rows(6).tokens)  # another epoch is cut elsewhere


def test_hosts_read_parts_of_the_same_rows():
    whole = stream.running(SOURCE, B)(8)
    parts = [stream.running(SOURCE, B, (host, 2))(8) for host in range(2)]
    for one, other in zip(whole, jax.tree.map(lambda *x: np.concatenate(x), *parts), strict=True):
        assert np.array_equal(one, other)
    with pytest.raises(ConfigError, match="not divisible by the number of hosts 3"):
        stream.running(SOURCE, B, (0, 3))


def test_a_text_too_short_for_its_lanes_is_refused():
    with pytest.raises(ConfigError, match="batch_rows=26, and there are 26"):
        stream.running(SOURCE, 26)


@pytest.mark.parametrize("fields", [{"packing": "documents"}, {"corpora": (Corpus("a"), Corpus("b"))}])
def test_running_order_is_for_one_running_text(fields):
    with pytest.raises(ConfigError, match="order='running' reads one corpus"):
        Data(order="running", **fields)


def test_a_model_without_a_state_is_refused_in_one_line():
    run = replace(RUN, model=GPT(layers=1, width=8, heads=2, mlp_width=8, context=T))
    with pytest.raises(ConfigError, match="Causal over GPT has none") as caught:
        loss_of(run, next_token(run.model.build(V, V)))
    assert "\n" not in str(caught.value)


# --- the loss ---


def test_pieces_with_the_state_carried_have_the_loss_of_the_whole(params):
    """Two updates' rows, and again the first two rows as one row of twice the length."""
    first, second = batches(2)
    carried = jax.jit(OBJECTIVE.carried.loss)
    one, _, _, carry = carried(params, first, None, OBJECTIVE.carried.start(B))
    two, _, _, _ = carried(params, second, None, carry)
    whole = jax.tree.map(lambda *x: np.concatenate(x, axis=1), first, second)._replace(positions=None)
    assert_allclose(one + two, jax.jit(OBJECTIVE.loss)(params, whole, None)[0], rtol=1e-5)
    afresh = carried(params, second, None, OBJECTIVE.carried.start(B))[0]
    assert abs(float(two - afresh)) > 1e-3  # the state tells something


def test_a_lane_that_begins_again_forgets(params):
    begins = batches(7)[6]
    carried = jax.jit(OBJECTIVE.carried.loss)
    wild = jax.tree.map(lambda x: x + 3.0, OBJECTIVE.carried.start(B))
    assert carried(params, begins, None, wild)[0] == carried(params, begins, None, OBJECTIVE.carried.start(B))[0]


def test_no_gradient_passes_from_update_to_update(params):
    first, second = batches(2)
    start = OBJECTIVE.carried.start(B)

    def both(params):
        one, _, _, carry = OBJECTIVE.carried.loss(params, first, None, start)
        return one + OBJECTIVE.carried.loss(params, second, None, carry)[0]

    def apart(params, carry):
        one = OBJECTIVE.carried.loss(params, first, None, start)[0]
        return one + OBJECTIVE.carried.loss(params, second, None, carry)[0]

    carry = jax.jit(OBJECTIVE.carried.loss)(params, first, None, start)[3]
    expected = jax.jit(jax.grad(apart))(params, carry)
    for found, wanted in zip(jax.tree.leaves(jax.jit(jax.grad(both))(params)), jax.tree.leaves(expected), strict=True):
        assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


# --- the update ---


@cache
def compiled(run):
    optimizer = run.optimizer.build(run.schedule.build(run.steps))
    begin = jax.jit(lambda key: init_state(run, OBJECTIVE, optimizer, key))
    return begin, jax.jit(make_step(run, loss_of(run, OBJECTIVE), optimizer))


def trained(run, feed):
    """The state after each batch."""
    (begin, step), states = compiled(run), []
    state = begin(jax.random.key(0))
    for batch in feed:
        state, _ = step(state, batch)
        states.append(state)
    return states


def test_micro_batches_carry_the_rows_of_the_whole():
    whole, parts = (trained(replace(RUN, accumulation=parts), batches(3))[-1] for parts in (1, 2))
    for tree in ("carry", "params"):
        for one, other in zip(*(jax.tree.leaves(getattr(s, tree)) for s in (whole, parts)), strict=True):
            assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert all(np.abs(x).min(axis=1).max() > 0 for x in jax.tree.leaves(whole.carry))  # every row has a state


def test_a_skipped_update_keeps_the_carry():
    feed = batches(2)
    feed[1] = feed[1]._replace(weights=np.full_like(feed[1].weights, np.nan))
    before, after = trained(RUN, feed)
    assert int(after.skipped) == 1
    for one, other in zip(jax.tree.leaves(before.carry), jax.tree.leaves(after.carry), strict=True):
        assert np.array_equal(one, other)


def test_what_is_carried_lies_with_the_rows_of_the_batch():
    optimizer = RUN.optimizer.build(RUN.schedule.build(RUN.steps))
    abstract = jax.eval_shape(lambda key: init_state(RUN, OBJECTIVE, optimizer, key), jax.random.key(0))
    shardings, _ = sharding.state_shardings(abstract, AbstractMesh((2, 2, 1), sharding.AXES))
    assert {s.spec for s in jax.tree.leaves(shardings.carry)} == {PartitionSpec(("data", "fsdp"))}


def test_a_run_that_was_interrupted_carries_on_with_the_same_bits(tmp_path, text):
    run = replace(
        RUN,
        steps=6,
        data=Data(corpora=(Corpus(str(text)),), order="running"),
        evaluation=Evaluation(every_steps=6, state="carried", max_tokens=300, rows=3),
        checkpoints=Checkpoints(every_steps=3),
    )
    said: list[str] = []
    whole = launch(run, tmp_path / "whole", tmp_path / "cache", said.append)
    assert any(line.startswith("running order: 4 lanes of ") for line in said)
    assert any(np.any(np.asarray(x)) for x in jax.tree.leaves(whole.carry))
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "6")
    again = launch(run, tmp_path / "again", tmp_path / "cache", lambda line: None)
    for one, other in zip(jax.tree.leaves(whole.params), jax.tree.leaves(again.params), strict=True):
        assert np.array_equal(one, other)
    for one, other in zip(jax.tree.leaves(whole.carry), jax.tree.leaves(again.carry), strict=True):
        assert np.array_equal(one, other)
    assert whole.carry[0][0].dtype == jnp.float32
