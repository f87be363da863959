"""Claims about the senses of words."""

import jax
import numpy as np
import optax
import pytest

from gptjax.config import Run
from gptjax.data.errors import DataError
from gptjax.data.tokenizers import Bytes, SentencePiece
from gptjax.evals.senses import occurrences, spread
from gptjax.models.bert import Bert
from gptjax.models.gpt import GPT
from gptjax.objectives.causal import Causal
from gptjax.objectives.masked import Masked
from gptjax.train.optim import AdamW
from gptjax.train.schedules import Linear
from gptjax.types import TokenSplit

SENSES = np.array([0, 0, 1, 1])


def test_distances_are_those_between_pairs_of_occurrences():
    x = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, -3.0]])
    found = spread(np.stack([x, np.ones((4, 2))]), SENSES)
    np.testing.assert_allclose(found.within_L, [(0 + 2) / 2, 0], atol=1e-6)
    np.testing.assert_allclose(found.across_L, [1, 0], atol=1e-6)
    # The first two find each other. Of the last two, opposed, the nearest are the two of the other sense.
    np.testing.assert_allclose(found.nearest_L, [0.5, 1 / 3])


def test_too_few_occurrences_and_numbers_that_are_none_are_refused():
    with pytest.raises(DataError, match="two senses"):
        spread(np.ones((1, 3, 2)), np.array([0, 0, 1]))
    with pytest.raises(FloatingPointError):
        spread(np.full((1, 4, 2), np.nan), SENSES)


def run(model, objective):
    return Run(model=model, tokenizer=Bytes(), objective=objective, optimizer=AdamW(), schedule=Linear())


def test_a_planted_ambiguity_is_told_apart_by_the_layers_and_not_by_the_embedding():
    """A letter between two others is known from them, but x stands between a's and between b's alike."""
    words = np.random.default_rng(0).choice(["a x a", "a x a", "b x b", "b x b", "a c a", "b d b"], 2000)
    tokenizer, ids = Bytes().build(lambda: iter(())), np.frombuffer(" ".join(words).encode(), np.uint8)
    model = Bert(layers=2, width=32, heads=2, mlp_width=64, context=20, dropout=0.0, init_std=0.15, scan=True)
    objective = Masked(0.25, next_sentence_weight=0.0)
    learnt = objective.build(model.build(tokenizer.vocab_size + len(objective.specials()), 264), tokenizer)
    source, _ = objective.judged(TokenSplit(ids, np.array([0, len(ids)]), len(ids)), tokenizer, 20, False)
    optimizer = optax.adam(3e-3)

    @jax.jit
    def update(params, state, batch, key):
        slope = jax.grad(lambda p: (lambda total, count, _: total / count)(*learnt.loss(p, batch, key)))(params)
        updates, state = optimizer.update(slope, state)
        return optax.apply_updates(params, updates), state

    params = jax.jit(learnt.init)(jax.random.key(0))
    state = optimizer.init(params)
    for step in range(120):
        rows = (np.arange(32) + 32 * step) % source.rows
        params, state = update(params, state, source.take(rows, step), jax.random.key(step))
    # The word stands at the same place of every sentence, and what is further away is balanced.
    around = ("a c a", "b d b"), ("b d b", "a c a")
    sentences = [f"{before} {sense} x {sense} {after}" for sense in "ab" for before, after in around]
    states_LED, static_ED = occurrences(run(model, objective), tokenizer, params["model"], "x", sentences)
    embedding, layers = spread(static_ED[None], SENSES), spread(states_LED, SENSES)
    assert embedding.across_L == embedding.within_L == 0
    assert embedding.nearest_L < 0.5
    assert (layers.nearest_L[1:] == 1.0).any(), layers
    assert (layers.across_L[1:] > 1.5 * layers.within_L[1:]).any(), layers


def test_a_word_of_several_tokens_is_found_where_it_stands():
    tokenizer = Bytes().build(lambda: iter(()))
    model = GPT(layers=1, width=16, heads=2, mlp_width=16, context=30, init_std=0.3)
    params = jax.jit(model.build(256, 256).init)(jax.random.key(0))
    place = run(model, Causal())
    states_LED, static_ED = occurrences(place, tokenizer, params, "bank", ["the bank is", "a bank"])
    table = np.asarray(params["embed"]["tokens"])
    with_space = table[np.frombuffer(b" bank", np.uint8)].mean(0)
    np.testing.assert_allclose(static_ED, np.stack([with_space] * 2), rtol=1e-5)
    alone = jax.jit(model.states)(params, np.frombuffer(b"a bank", np.uint8)[None].astype(np.int32))
    np.testing.assert_allclose(states_LED[:, 1], np.asarray(alone)[:, 0, 1:6].mean(1), rtol=1e-3, atol=1e-4)


def test_a_sentence_without_the_word_is_refused():
    tokenizer = Bytes().build(lambda: iter(()))
    with pytest.raises(DataError, match="between spaces"):
        occurrences(run(GPT(), Causal()), tokenizer, {}, "bank", ["the banks"])


def test_a_learnt_tokenizer_parts_words_at_spaces():
    text = "we walked along the bank of the river and then to the bank to get money . " * 20
    tokenizer = SentencePiece(vocab_size=290).build(lambda: iter([text]))
    model = GPT(layers=1, width=16, heads=2, mlp_width=16, context=60)
    params = jax.jit(model.build(290, 290).init)(jax.random.key(0))
    _, static_ED = occurrences(run(model, Causal()), tokenizer, params, "bank", ["along the bank of", "to the bank ."])
    assert (static_ED[0] == static_ED[1]).all()
