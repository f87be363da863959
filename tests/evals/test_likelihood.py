"""Every token is charged what the model gives it, once, and the sums are those of the whole text."""

import math

import jax
import numpy as np
import pytest

from gptjax.config import ConfigError, Evaluation
from gptjax.data.errors import DataError
from gptjax.evals import likelihood
from gptjax.evals.likelihood import evaluator, summary, token_nats
from gptjax.models.gpt import GPT
from gptjax.types import TokenSplit

V, CONTEXT = 7, 8


def expected(params, by_hand, tokens, stride):
    """What sliding windows give, token by token: the first window that reaches a token predicts it."""
    nats = [math.log(V)] if len(tokens) else []
    for target in range(1, len(tokens)):
        beyond = max(0, target - CONTEXT)
        start = -(-beyond // stride) * stride
        nats.append(by_hand(params, tokens[start:target], tokens[target]))
    return nats


@pytest.mark.parametrize("stride", [1, 3, 8])
def test_a_running_text_is_scored_as_by_hand(bag, params, by_hand, split, stride):
    nats = token_nats(bag, params, split, CONTEXT, stride, rows=4, documents=False)
    np.testing.assert_allclose(nats, expected(params, by_hand, split.tokens, stride), rtol=2e-5)


@pytest.mark.parametrize("stride", [3, 8])
def test_documents_that_share_rows_are_scored_as_if_alone(bag, params, by_hand, split, stride):
    nats = token_nats(bag, params, split, CONTEXT, stride, rows=4, documents=True)
    alone = [expected(params, by_hand, text, stride) for text in np.split(split.tokens, split.starts[1:-1])]
    np.testing.assert_allclose(nats, np.concatenate(alone), rtol=2e-5)


def test_the_number_of_rows_judged_at_once_does_not_matter(bag, params, split):
    few, many = (token_nats(bag, params, split, CONTEXT, 5, rows, True) for rows in (1, 64))
    np.testing.assert_allclose(few, many, rtol=1e-6)


@pytest.mark.parametrize("documents", [False, True])
def test_a_uniform_model_has_perplexity_v(bag, split, documents):
    nats = token_nats(bag, {"matrix": np.zeros((V, V), np.float32)}, split, CONTEXT, 4, 4, documents)
    found = summary(nats, split.bytes)
    assert found["tokens"] == len(split.tokens)
    assert found["perplexity"] == pytest.approx(V, rel=1e-6)
    assert found["bits_per_byte"] == pytest.approx(len(split.tokens) * math.log2(V) / split.bytes, rel=1e-6)


def test_parts_of_the_head_give_the_same_as_all_at_once(new_bag, bag, params, split, monkeypatch):
    whole = token_nats(bag, params, split, CONTEXT, 5, 4, True)
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", 4 * 2 * V)
    assert likelihood._tiles(4, CONTEXT, V) == 4
    np.testing.assert_allclose(token_nats(new_bag, params, split, CONTEXT, 5, 4, True), whole, rtol=1e-6)


def test_the_summary_adds_nats_not_means():
    found = summary(np.array([1.0, 2.0, 6.0], np.float32), 4)
    assert found == {
        "tokens": 3,
        "bytes": 4,
        "nats_per_token": 3.0,
        "perplexity": pytest.approx(math.exp(3)),
        "bits_per_byte": pytest.approx(9 / math.log(2) / 4),
    }


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_refused(bad):
    with pytest.raises(FloatingPointError, match=r"score of token 1 is (nan|inf) \(1 of 2 are not finite\)"):
        summary(np.array([1.0, bad]), 4)


def test_an_evaluator_is_compiled_ahead_and_its_result_names_its_stride(new_bag, params, split):
    judge = evaluator(new_bag, split, CONTEXT, Evaluation(stride=5, rows=4), True)
    before = likelihood.row_nats._cache_size()
    judge.compile({"model": params})
    compiled = likelihood.row_nats._cache_size()
    found = judge({"model": params})
    assert compiled == before + 1 == likelihood.row_nats._cache_size()
    assert (found["stride"], found["context"], found["tokens"]) == (5, CONTEXT, len(split.tokens))
    direct = summary(token_nats(new_bag, params, split, CONTEXT, 5, 4, True), split.bytes)
    assert found["nats_per_token"] == direct["nats_per_token"]


def test_an_evaluation_can_be_stopped_after_any_batch(bag, params, split):
    judge = evaluator(bag, split, CONTEXT, Evaluation(rows=1), False)
    calls = []

    def between():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge({"model": params}, between)
    calls = [0] * 10
    judge({"model": params}, between)
    assert len(calls) == 10 + -(-(len(split.tokens) - 1) // CONTEXT)


@pytest.mark.parametrize("documents", [False, True])
def test_a_beginning_of_text_token_costs_nothing_and_is_not_counted(bag, params, split, documents):
    bos_id = int(split.tokens[0])
    charged = token_nats(bag, params, split, CONTEXT, 5, 4, documents)
    nats = token_nats(bag, params, split, CONTEXT, 5, 4, documents, bos_id=bos_id)
    starts = split.starts[:-1][np.diff(split.starts) > 0] if documents else [0]
    free = [start for start in starts if split.tokens[start] == bos_id]
    assert np.flatnonzero(nats != charged).tolist() == free
    assert not nats[free].any()
    found = evaluator(bag, split, CONTEXT, Evaluation(stride=5, rows=4), documents, bos_id=bos_id)({"model": params})
    assert found["tokens"] == len(split.tokens) - len(free)
    assert found["nats_per_token"] == pytest.approx(nats.sum(dtype=np.float64) / found["tokens"])


def test_max_tokens_judges_the_start_and_its_share_of_the_bytes(bag, params, split):
    whole = token_nats(bag, params, split, CONTEXT, CONTEXT, 4, True)
    found = evaluator(bag, split, CONTEXT, Evaluation(max_tokens=33, rows=4), True)({"model": params})
    assert found["tokens"] == 33
    assert found["bytes"] == round(33 / 99 * 150)
    assert found["nats_per_token"] == pytest.approx(np.mean(whole[:33], dtype=np.float64), rel=1e-6)


def test_what_a_user_can_get_wrong_is_one_line(bag, params, split):
    with pytest.raises(ConfigError, match="context=9 is longer than the model's context of 8"):
        token_nats(bag, params, split, 9, 9, 4, False)
    with pytest.raises(DataError, match="no tokens"):
        token_nats(bag, params, TokenSplit(np.zeros(0, np.uint16), np.array([0, 0]), 0), 8, 8, 4, False)
    tokens = split.tokens.copy()
    tokens[71] = 7
    with pytest.raises(DataError, match="token 71 has id 7, but the model's vocabulary has 7 ids"):
        token_nats(bag, params, split._replace(tokens=tokens), 8, 8, 4, False)


def test_a_gpt_scores_documents_that_share_rows_as_if_alone(split):
    config = GPT(layers=1, width=16, heads=2, mlp_width=32, context=CONTEXT, init_std=0.5)
    model = config.build(V, 8)
    params = model.init(jax.random.key(1))
    together = token_nats(model, params, split, CONTEXT, 6, 4, documents=True)
    for number, text in enumerate(np.split(split.tokens, split.starts[1:-1])):
        if len(text):
            alone = token_nats(model, params, TokenSplit(text, np.array([0, len(text)]), 1), CONTEXT, 6, 4, True)
            np.testing.assert_allclose(together[slice(*split.starts[number : number + 2])], alone, rtol=1e-4)
