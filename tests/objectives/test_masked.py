"""Claims about learning hidden tokens."""

import jax
import numpy as np
import optax
import pytest

from gptjax.config import ConfigError
from gptjax.models.bert import Bert
from gptjax.models.bidirectional import next_sentence
from gptjax.objectives import causal
from gptjax.objectives.masked import Masked, objective
from gptjax.objectives.masked_text import Layout, Marks, row_source
from gptjax.types import TokenSplit

V = 32
MARKS = Marks(*range(V, V + 4))
CONFIG = Bert(layers=2, width=32, heads=2, mlp_width=64, context=19, dropout=0.0, init_std=0.15, scan=True)
LAYOUT = Layout(context=19, fraction=0.15, pairs=True, marks=MARKS, text_ids=V, never=())


@pytest.fixture(scope="module")
def model():
    return CONFIG.build(V + 4, V + 8)


@pytest.fixture(scope="module")
def source():
    """Documents that go round in four neighbouring tokens: 8 kinds of text, each place known from its neighbours."""
    random = np.random.default_rng(0)
    documents = [4 * random.integers(8) + (random.integers(4) + np.arange(32)) % 4 for _ in range(400)]
    split = TokenSplit(np.concatenate(documents), np.arange(401) * 32, 1)
    return row_source(split, LAYOUT, True, 0)[0]


@pytest.fixture(scope="module")
def both(model):
    return objective(model, MARKS, 0.7)


@pytest.fixture(scope="module")
def params(both):
    return jax.jit(both.init)(jax.random.key(0))


def test_the_loss_is_that_of_the_whole_head_at_the_hidden_tokens_and_of_the_pairs(
    model, both, params, source, gradient
):
    batch = source.take(np.arange(12), 0)
    total, count, metrics, _ = gradient(both, params, batch)

    @jax.jit
    def read(params, inputs_BT, segments_BT, types_BT):
        features_BTD = model.features(params, inputs_BT, segments_BT, types_BT=types_BT)
        return model.head(params, features_BTD), next_sentence(params, features_BTD)

    marked = batch.inputs == MARKS.delimiter
    segments = (np.arange(19) < batch.lengths[:, None]).astype(np.int32)
    logits_BTV, pairs_B2 = read(params["model"], batch.inputs, segments, np.cumsum(marked, axis=1) - marked)
    log_p, log_q = (np.asarray(jax.nn.log_softmax(x)) for x in (logits_BTV, pairs_B2))
    nats, hits, pairs, right = 0.0, 0, 0.0, 0
    for row in range(12):
        used = batch.weights[row] > 0
        at, target = batch.slots[row][used], batch.targets[row][used]
        says = 0 if batch.follows[row] else 1  # class 0 follows, as in the released weights
        nats -= log_p[row, at, target].sum()
        hits += (log_p[row, at].argmax(-1) == target).sum()
        pairs -= used.sum() * log_q[row, says]
        right += log_q[row].argmax() == says
    assert count == metrics["masked_nats"][1] == batch.weights.sum()
    np.testing.assert_allclose(metrics["masked_nats"][0], nats, rtol=1e-4)
    np.testing.assert_allclose(total, nats + 0.7 * pairs, rtol=1e-4)
    assert metrics["masked_accuracy"][0] == hits
    assert metrics["next_sentence_accuracy"] == (right, 12)


def test_accumulation_over_unequal_micro_batches_equals_the_full_batch(both, params, source, gradient, close):
    batch = source.take(np.arange(12), 0)

    def only(first, last):
        """Of the rows elsewhere nothing is left, as in the padding of an evaluation's last batch."""

        def keep(leaf):
            kept = np.zeros_like(leaf)
            kept[first:last] = leaf[first:last]
            return kept

        return jax.tree.map(keep, batch)

    whole = gradient(both, params, batch)
    close(whole, jax.tree.map(np.add, *(gradient(both, params, only(*ends)) for ends in ((0, 5), (5, 12)))), atol=1e-4)
    nothing = jax.tree.leaves(gradient(both, params, only(0, 0)))
    assert all((np.asarray(leaf) == 0).all() for leaf in nothing)


def test_hidden_tokens_and_pairs_are_learnt_far_above_chance(both, source):
    params = jax.jit(both.init)(jax.random.key(1))
    optimizer = optax.adam(3e-3)

    @jax.jit
    def update(params, state, batch, key):
        def mean(params):
            total, count, _ = both.loss(params, batch, key)
            return total / count

        updates, state = optimizer.update(jax.grad(mean)(params), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for step in range(300):
        rows = np.arange(64 * step, 64 * (step + 1)) % 600
        batch = source.take(rows, 1 + step)
        params, state = update(params, state, batch, jax.random.key(step))
    held_out = source.take(np.arange(600, source.rows), 0)
    _, _, metrics = jax.jit(lambda p, b: both.loss(p, b, None))(params, held_out)
    means = {name: float(total / count) for name, (total, count) in metrics.items()}
    assert means["masked_accuracy"] > 0.9  # chance is 1 in 32, and of the kind of text 1 in 4
    assert means["next_sentence_accuracy"] > 0.8  # an eighth of the strangers are of the same kind


def test_an_objective_and_a_model_that_do_not_fit_refuse_each_other(model, tiny, tokenizer):
    with pytest.raises(ConfigError, match="reads one side"):
        Masked().build(tiny(260), tokenizer)
    with pytest.raises(ConfigError, match="cannot learn the next one"):
        causal.next_token(model)


@pytest.mark.parametrize("fields", [{"fraction": 0.0}, {"fraction": 1.0}, {"next_sentence_weight": -1.0}])
def test_what_cannot_be_is_refused(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        Masked(**fields)


def test_a_context_without_room_for_text_is_refused(tokenizer):
    with pytest.raises(ConfigError, match="context=4"):
        Masked().layout(tokenizer, 4)
