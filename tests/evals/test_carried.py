"""Claims about judging a text that is read through."""

import math

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from gptjax.config import ConfigError, Evaluation
from gptjax.data.errors import DataError
from gptjax.evals import carried
from gptjax.models.recurrent import Recurrent
from gptjax.objectives.loss import token_nats as nats_of_logits
from gptjax.types import TokenSplit

V, N = 11, 38
MODEL = Recurrent(cell="tanh", layers=1, width=6, embed_width=6, context=5).build(V, V)
TOKENS = np.random.default_rng(0).integers(0, V, N)
SPLIT = TokenSplit(TOKENS, np.array([0, N]), N)


@pytest.fixture(scope="module")
def params():
    return jax.jit(MODEL.init)(jax.random.key(0))


def by_hand(params, tokens):
    """nats of tokens[1:], all read in one row."""
    logits = jax.jit(MODEL.apply)(params, tokens[None, :-1])
    return np.asarray(jax.jit(nats_of_logits)(logits, tokens[None, 1:]))[0]


def test_one_part_is_the_whole_text_read_at_once(params):
    found = carried.token_nats(MODEL, params, TOKENS, 1)
    assert found[0] == pytest.approx(math.log(V))
    assert_allclose(found[1:], by_hand(params, TOKENS), rtol=1e-5, atol=1e-6)


def test_every_part_is_read_through_from_its_own_start(params):
    found = carried.token_nats(MODEL, params, TOKENS, 3)  # 13 predictions each, the last two of them beyond the end
    expected = [by_hand(params, TOKENS[start : start + 14]) for start in (0, 13, 26)]
    assert_allclose(found[1:], np.concatenate(expected), rtol=1e-5, atol=1e-6)


def test_more_parts_than_tokens_and_a_single_token_are_judged(params):
    assert carried.token_nats(MODEL, params, TOKENS[:3], 7).shape == (3,)
    assert carried.token_nats(MODEL, params, TOKENS[:1], 7).tolist() == [pytest.approx(math.log(V))]


def test_the_evaluator_tells_how_it_read(params):
    how = Evaluation(state="carried", rows=3, max_tokens=30)
    judge = carried.evaluator(MODEL, SPLIT, how, documents=False)
    assert set(judge.names({})) == judge({"model": params}).keys()
    judge.compile({"model": params})
    found = judge({"model": params})
    nats = carried.token_nats(MODEL, params, TOKENS[:30], 3)
    assert found["nats_per_token"] == pytest.approx(nats.mean(), rel=1e-6)
    assert (found["tokens"], found["parts"], found["context"]) == (30, 3, 5)
    free = carried.evaluator(MODEL, SPLIT, how, False, bos_id=int(TOKENS[0]))({"model": params})
    assert free["tokens"] == 29
    assert free["nats_per_token"] == pytest.approx(nats[1:].mean(), rel=1e-6)


def test_what_cannot_be_read_through_is_refused(bag, params):
    with pytest.raises(ConfigError, match="needs a recurrent model"):
        carried.evaluator(bag, SPLIT, Evaluation(state="carried"), documents=False)
    with pytest.raises(ConfigError, match="documents' keeps texts apart"):
        carried.evaluator(MODEL, SPLIT, Evaluation(state="carried"), documents=True)
    with pytest.raises(ConfigError, match="stride=4 is of windows that begin anew"):
        Evaluation(state="carried", stride=4)
    with pytest.raises(DataError, match="token 2 has id 99"):
        carried.token_nats(MODEL, params, np.array([1, 2, 99]), 1)
    with pytest.raises(DataError, match="no tokens"):
        carried.token_nats(MODEL, params, TOKENS[:0], 1)
