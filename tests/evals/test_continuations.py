"""Continuations scored many at once equal continuations scored one by one."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from gptjax.config import ConfigError
from gptjax.data.errors import DataError
from gptjax.data.tokenizers import Bytes
from gptjax.evals.continuations import scored, start
from gptjax.models.gpt import GPT
from gptjax.models.recurrent import Recurrent

V, CONTEXT = 30, 32
MODELS = {
    "rotary, convolutions, shared key heads": GPT(
        layers=1, width=16, heads=4, kv_heads=2, mlp_width=16, context=CONTEXT, positions="rotary", conv_tokens=3
    ),
    "learned positions": GPT(layers=1, width=16, heads=2, mlp_width=16, context=CONTEXT),
    "recurrent": Recurrent(layers=1, width=8, embed_width=8, context=CONTEXT),
}


def ids(*tokens):
    return np.array(tokens, np.int32)


def built(config):
    """A model whose predictions are far from even, and its parameters."""
    model = config.build(V, V + 2)
    return model, jax.tree.map(lambda x: 5 * x, jax.jit(model.init)(jax.random.key(0)))


def one_by_one(model, params, pairs):
    """(nats, greedy) of each request, from the logits of its whole row by itself."""
    rows_BT = np.zeros((len(pairs), CONTEXT), np.int32)
    for row, (before, after) in enumerate(pairs):
        read = np.concatenate([before, after])[-(CONTEXT + 1) : -1]
        rows_BT[row, : len(read)] = read
    logits_BTV = np.asarray(jax.jit(model.apply)(params, rows_BT), np.float64)[..., :V]
    found = []
    for logits_TV, (before, after) in zip(logits_BTV, pairs, strict=True):
        end = min(len(before) + len(after) - 1, CONTEXT)
        logits = logits_TV[end - len(after) : end]
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        found.append((-log_p[np.arange(len(after)), after].sum(), bool((logits.argmax(-1) == after).all())))
    return found


def requests():
    """Contexts of many lengths, with one to five continuations in any order; the last two are likeliest ones."""
    draws = np.random.default_rng(0)
    pairs = []
    for length in (3, 9, 12, 14, 15, 16, 20, 27, 30, 32, 40):
        before = draws.integers(0, V, length).astype(np.int32)
        for _ in range(draws.integers(1, 6)):
            pairs.append((before, draws.integers(0, V, draws.integers(1, 6)).astype(np.int32)))
    return [pairs[i] for i in draws.permutation(len(pairs))]


@pytest.mark.parametrize("name", MODELS)
def test_many_at_once_equal_one_by_one(name):
    model, params = built(MODELS[name])
    pairs = requests()
    # Two of them continue as the model itself would: only there greedy is true.
    for number in (2, 7):
        before, made = pairs[number][0][:24], np.zeros(0, np.int32)
        for _ in range(2):
            row = np.concatenate([before, made])
            padded = np.pad(row, (0, CONTEXT - len(row)))[None]
            logits_V = np.asarray(jax.jit(model.apply)(params, padded))[0, len(row) - 1, :V]
            made = np.append(made, logits_V.argmax()).astype(np.int32)
        pairs[number] = (before, made)
    found = scored(model, params, pairs, tokens=256 if model.recurrent else 2048)
    expected = one_by_one(model, params, pairs)
    np.testing.assert_allclose(found.nats_R, [nats for nats, _ in expected], rtol=1e-5)
    assert found.greedy_R.tolist() == [greedy for _, greedy in expected]
    assert found.greedy_R[[2, 7]].all()
    assert not found.greedy_R.all()
    assert found.tokens_R.tolist() == [len(after) for _, after in pairs]


def test_rows_split_over_eight_devices_score_alike():
    """A process of its own, since the number of devices is fixed when JAX starts."""
    program = Path(__file__).with_name("mesh_program.py")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=180, check=True)
    one, eight, devices = json.loads(done.stdout)
    assert devices == 8
    np.testing.assert_allclose(one, eight, rtol=1e-5)


def test_a_request_that_does_not_fit_loses_its_oldest_tokens_and_is_counted(bag, params, by_hand):
    before, after = ids(1, 2, 3, 4, 5, 6, 0, 1, 2), ids(3, 4)
    found = scored(bag, params, [(before, after), (before[2:], after), (before[3:], after)])
    read = np.concatenate([before, after])[-9:]
    expected = by_hand(params, read[:7], read[7]) + by_hand(params, read[:8], read[8])
    np.testing.assert_allclose(found.nats_R[:2], expected, rtol=1e-5)
    assert abs(found.nats_R[2] / expected - 1) > 1e-3
    assert found.cut_R.tolist() == [True, False, False]


def test_a_text_without_context_stands_behind_the_token_that_begins_texts(bag, params, by_hand):
    found = scored(bag, params, [(ids(), ids(1, 2)), (ids(), ids(6, 1, 2)), (ids(6), ids(1, 2))], start_id=6)
    expected = by_hand(params, ids(6), 1) + by_hand(params, ids(6, 1), 2)
    np.testing.assert_allclose(found.nats_R, expected, rtol=1e-5)
    assert found.tokens_R.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("policy", "expected"), [({"bos": True, "eos": True}, 256), ({"eos": True}, 256), ({"eos": False}, None)]
)
def test_texts_begin_with_the_tokenizers_begin_or_else_its_end(policy, expected):
    tokenizer = Bytes(**policy).build(lambda: iter(()))
    assert start(tokenizer) == expected


def test_of_equally_likely_tokens_the_lowest_is_the_greedy_one(bag):
    even = {"matrix": np.zeros((7, 7), np.float32)}
    found = scored(bag, even, [(ids(1), ids(0, 0)), (ids(1), ids(0, 1))])
    assert found.greedy_R.tolist() == [True, False]


def test_a_model_of_nan_is_refused_and_not_scored(bag):
    with pytest.raises(FloatingPointError, match="score of request 0 is nan"):
        scored(bag, {"matrix": np.full((7, 7), np.nan, np.float32)}, [(ids(1), ids(2))])


def test_a_model_that_reads_both_sides_is_refused(bag, params):
    with pytest.raises(ConfigError, match="reads both sides"):
        scored(bag._replace(causal=False), params, [(ids(1), ids(2))])


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (ids(), ids(1), "request 1 has no context"),
        (ids(1), ids(), "request 1: its continuation has 0 tokens; 1 to 8 can be scored"),
        (ids(1), ids(*[1] * 9), "request 1: its continuation has 9 tokens; 1 to 8 can be scored"),
        (ids(1), ids(7), "request 1: id 7 is not among the model's 7"),
        (ids(-1), ids(2), "request 1: id -1 is not among the model's 7"),
    ],
)
def test_a_request_that_cannot_be_scored_is_refused(bag, params, before, after, message):
    with pytest.raises(DataError, match=message):
        scored(bag, params, [(ids(1), ids(2)), (before, after)])


def test_no_requests_have_no_scores(bag, params):
    assert len(scored(bag, params, []).nats_R) == 0
