"""Claims about pseudo-likelihood."""

import jax
import numpy as np
import pytest

from gptjax.data.errors import DataError
from gptjax.evals import likelihood, pseudo
from gptjax.infer.sample import Decoding, generate
from gptjax.models.bert import Bert
from gptjax.objectives.masked_text import Marks

V = 20
MARKS = Marks(*range(V, V + 4))
MODEL = Bert(layers=1, width=16, heads=2, mlp_width=32, context=9, init_std=0.5).build(V + 4, V + 4)
TEXT = np.random.default_rng(0).integers(0, V, 18)  # two windows of 7 and one of 4


@pytest.fixture(scope="module")
def params():
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0))
    return jax.tree.map(lambda x: random.standard_normal(x.shape, np.float32) / 2, shapes)


def test_every_token_is_predicted_once_from_all_around_it(params):
    found = pseudo.token_nats(MODEL, params, TEXT, MARKS, rows=5)
    rows, segments, at = [], [], []
    for first in range(0, 18, 7):
        row = [MARKS.start, *TEXT[first : first + 7], MARKS.extract]
        for hidden in range(1, len(row) - 1):
            rows.append(np.pad([*row[:hidden], MARKS.mask, *row[hidden + 1 :]], (0, 9 - len(row))))
            segments.append(np.arange(9) < len(row))
            at.append(hidden)
    logits = jax.jit(MODEL.apply)(params, np.stack(rows), np.stack(segments).astype(np.int32))
    expected = -jax.nn.log_softmax(logits)[np.arange(18), np.array(at), TEXT]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_model_that_knows_nothing_has_the_vocabulary_as_its_pseudo_perplexity(params):
    flat = jax.tree.map(np.zeros_like, params)
    summary = pseudo.summary(pseudo.token_nats(MODEL, flat, TEXT, MARKS, rows=32))
    assert summary["pseudo_perplexity"] == pytest.approx(V + 4)
    assert summary["pseudo_tokens"] == 18


def test_damaged_parameters_and_unknown_tokens_are_refused(params):
    nan = jax.tree.map(lambda x: np.full_like(x, np.nan), params)
    with pytest.raises(FloatingPointError):
        pseudo.summary(pseudo.token_nats(MODEL, nan, TEXT, MARKS, rows=8))
    with pytest.raises(DataError, match="id 20"):
        pseudo.token_nats(MODEL, params, np.array([3, 20]), MARKS, rows=8)
    with pytest.raises(DataError, match="no tokens"):
        pseudo.token_nats(MODEL, params, TEXT[:0], MARKS, rows=8)


def test_what_reads_left_to_right_refuses_a_model_that_does_not(params):
    rows = np.zeros((1, 4), np.int32)
    with pytest.raises(ValueError, match="no left-to-right likelihood"):
        likelihood.row_nats(MODEL, params, (rows, rows, None, None))
    with pytest.raises(ValueError, match="cannot continue a text"):
        generate(MODEL, params, [TEXT], 3, Decoding(), jax.random.key(0))
