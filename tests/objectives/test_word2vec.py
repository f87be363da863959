"""word2vec's rows, noise and loss are those of the pairs one would write out, and it learns who stands by whom."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax import launch
from gptjax.config import Checkpoints, ConfigError, Corpus, Data, Evaluation, Run
from gptjax.data.stream import fingerprint, stream, uniform
from gptjax.data.tokenizers import Words
from gptjax.models.gpt import GPT
from gptjax.models.vectors import Vectors
from gptjax.objectives import nearby, word2vec
from gptjax.objectives.nearby import Reading, Text
from gptjax.objectives.word2vec import Word2Vec
from gptjax.train.optim import Adam
from gptjax.train.schedules import Linear

V, D, T, W, K = 11, 3, 4, 2, 6
RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(1, V, 30).astype(np.int32)
SENTENCES = np.repeat([1, 2, 3], [13, 3, 14]).astype(np.int32)
TEXT = Text(TOKENS, SENTENCES)


def everything(text=TEXT, key=(0, 0)):
    """All rows of a text that nothing is thinned of."""
    counts_V = np.bincount(text.tokens_N, minlength=V)
    source = nearby.rows(text, Reading(np.ones(V), nearby.noise_cdf(counts_V, 0.75), T, W, K, key))
    return source, source.take(np.arange(source.rows), 0)


def enumerated(tokens, sentences, reach):
    """(centre, other) places of every pair, by the definition."""
    places = range(len(tokens))
    near = [(t, j) for t in places for j in places if 0 < abs(t - j) <= reach[t]]
    return [(t, j) for t, j in near if sentences[t] == sentences[j]]


@pytest.fixture
def params():
    x, y = (jnp.asarray(RANDOM.normal(size=(V, D)), jnp.float32) for _ in range(2))
    return {"model": {"embed": {"tokens": x}}, "contexts": y}


def agree(predict, params, explicit):
    """The loss of all rows, and its gradient, are those of `explicit(x_VD, y_VD, batch, pairs) -> (sum, count)`."""
    _, batch = everything()
    reach = batch.reach.reshape(-1)[: len(TOKENS)]
    found = enumerated(TOKENS, SENTENCES, reach)
    objective = Word2Vec(predict=predict, window=W, shared=K, negatives=2.0).build(Vectors(D, T).build(V, V), None)

    def total(params):
        return explicit(params["model"]["embed"]["tokens"], params["contexts"], batch, found)

    np.testing.assert_allclose(objective.loss(params, batch, None)[1], total(params)[1])
    ours = jax.value_and_grad(lambda p: objective.loss(p, batch, None)[0])(params)
    theirs = jax.value_and_grad(lambda p: total(p)[0])(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)


def nats(score):
    return -jnp.log(jax.nn.sigmoid(score))


def test_skip_gram_of_rows_equals_the_pairs_written_out(params):
    def explicit(x_VD, y_VD, batch, found):
        total = 0.0
        for t, j in found:
            total += nats(x_VD[TOKENS[t]] @ y_VD[TOKENS[j]])
            total += 2.0 / K * nats(-(y_VD[batch.noise[t // T]] @ x_VD[TOKENS[t]])).sum()
        return total, len(found)

    agree("around", params, explicit)


def test_cbow_of_rows_equals_the_means_written_out(params):
    def explicit(x_VD, y_VD, batch, found):
        total, centres = 0.0, sorted({t for t, _ in found})
        for t in centres:
            mean_D = x_VD[np.array([TOKENS[j] for s, j in found if s == t])].mean(0)
            total += nats(mean_D @ y_VD[TOKENS[t]]) + 2.0 / K * nats(-(y_VD[batch.noise[t // T]] @ mean_D)).sum()
        return total, len(centres)

    agree("centre", params, explicit)


def test_pairs_cross_rows_but_not_sentences():
    _, batch = everything()
    batch = batch._replace(reach=np.where(batch.reach > 0, W, 0))
    found = np.argwhere(np.asarray(word2vec.pairs(batch.sentences, batch.reach)))
    places = {(b * T + t, b * T + u - W) for b, t, u in found.tolist()}
    assert places == set(enumerated(TOKENS, SENTENCES, [W] * len(TOKENS)))
    assert (3, 4) in places  # neighbours in two rows
    assert not {(12, 13), (13, 12), (15, 16)} & places  # neighbours in two sentences


def test_padding_counts_nothing(params):
    source, batch = everything()
    assert source.rows == 8
    assert (batch.reach[-1] > 0).tolist() == [True, True, False, False]
    zeros = jax.tree.map(lambda leaf: np.zeros_like(leaf[:2]), batch)
    for predict in ("around", "centre"):
        objective = Word2Vec(predict=predict, window=W, shared=K).build(Vectors(D, T).build(V, V), None)
        assert [float(x) for x in objective.loss(params, zeros, None)[:2]] == [0.0, 0.0]


def test_frequent_words_keep_the_share_of_the_formula_exactly():
    counts = np.array([0, 50_000, 9000, 990, 10])
    shares = nearby.keep_shares(counts, 1e-2)
    frequency = counts[1:] / counts.sum()
    np.testing.assert_allclose(shares[1:], np.minimum(1, (np.sqrt(frequency / 1e-2) + 1) * 1e-2 / frequency))
    tokens = RANDOM.permutation(np.repeat(np.arange(5), counts)).astype(np.int32)
    for epoch in (0, 1):
        places = nearby.kept(tokens, shares, 0, epoch)
        assert (np.diff(places) > 0).all()
        np.testing.assert_array_equal(np.bincount(tokens[places], minlength=5), np.rint(shares * counts))
    assert len(nearby.kept(np.array([1, 1, 2], np.int32), np.full(5, 1e-9), 0)) == 2  # never no text at all
    # Which of them stay is another choice in another epoch, and even over the text.
    first, second = (set(nearby.kept(tokens, shares, 0, e).tolist()) for e in (0, 1))
    assert first != second
    halves = np.bincount(np.array(sorted(first)) // 30_000)
    assert abs(halves[0] - halves[1]) < 5 * np.sqrt(len(first))


def test_of_occurrences_with_equal_draws_the_first_stay():
    tokens = np.full(300_000, 1, np.int32)
    draws = uniform(np.arange(len(tokens)), 0)
    order = np.argsort(draws, kind="stable")
    ties = np.flatnonzero(np.diff(draws[order]) == 0)
    assert len(ties) > 0
    for tie in ties[:2].tolist():
        places = nearby.kept(tokens, np.array([1.0, (tie + 1) / len(tokens)]), 0)
        np.testing.assert_array_equal(places, np.sort(order[: tie + 1]))


def test_guided_draws_are_those_that_are_searched_for():
    counts = np.array([0, 3, 0, 1, 10**7, 0, 1, 1, 50_000, 0])
    cdf = nearby.noise_cdf(counts, 0.75)
    borders = np.concatenate([cdf, np.nextafter(cdf, 0), np.arange(nearby.GUIDED) / nearby.GUIDED])
    places = np.concatenate([borders[borders < 1], RANDOM.random(50_000)])
    found = nearby.drawing(cdf)(places)
    np.testing.assert_array_equal(found, [np.sum(cdf <= place) for place in places])
    assert set(found.tolist()) == {1, 3, 4, 6, 7, 8}


def test_noise_follows_counts_to_three_quarters():
    counts = np.array([0, 1, 16, 81, 0])
    cdf = nearby.noise_cdf(counts, 0.75)
    np.testing.assert_allclose(np.diff(cdf, prepend=0), [0, 1 / 36, 8 / 36, 27 / 36, 0])
    source = nearby.rows(
        Text(np.array([1, 2, 3] * 20, np.int32), np.ones(60, np.int32)), Reading(np.ones(5), cdf, 1, 1, 500, (7,))
    )
    drawn = np.bincount(source.take(np.arange(60), 3).noise.reshape(-1), minlength=5) / 30_000
    np.testing.assert_allclose(drawn, [0, 1 / 36, 8 / 36, 27 / 36, 0], atol=0.01)


def test_a_centre_reaches_every_distance_alike():
    source, _ = everything(Text(np.ones(20_000, np.int32), np.ones(20_000, np.int32)))
    reach = source.take(np.arange(source.rows), 0).reach
    np.testing.assert_allclose(np.bincount(reach.reshape(-1))[1:] / reach.size, [0.5, 0.5], atol=0.02)


def test_rows_are_a_function_of_seed_epoch_and_row():
    source, _ = everything()
    again, _ = everything()
    other, _ = everything(key=(1, 0))
    rows = [stream([s], [1.0], 0, 4) for s in (source, again)]
    assert [fingerprint(rows[0](step)) for step in (5, 0, 3)] == [fingerprint(rows[1](step)) for step in (5, 0, 3)]
    some = np.array([3, 1])
    assert fingerprint(source.take(some, 2)) == fingerprint(again.take(some, 2))
    np.testing.assert_array_equal(source.take(some, 2).noise[1], source.take(np.array([1]), 2).noise[0])
    for different in (source.take(some, 1), other.take(some, 2)):
        assert not np.array_equal(different.noise, source.take(some, 2).noise)


def test_unknown_words_and_ends_are_left_out_and_ends_part_sentences():
    tokens = np.array([5, 0, 6, 1, 7, 8, 1, 9], np.int32)  # 0 unknown, 1 the end of a line
    text = nearby.parted(tokens, np.array([0, 5, 8]), (0,), (1,))
    assert text.tokens_N.tolist() == [5, 6, 7, 8, 9]
    assert text.sentences_N.tolist() == [1, 1, 2, 3, 4]
    both = nearby.joined([text, text])
    assert both.sentences_N.tolist() == [1, 1, 2, 3, 4, 5, 5, 6, 7, 8]


def corpus(folder):
    """Two groups of words; those of a group stand in the same places, and never beside one another."""
    random, lines = np.random.default_rng(0), []
    for _ in range(700):
        group = random.integers(2)
        lines.append(" ".join([f"{'ab'[group]}{random.integers(4)}", f"{'xy'[group]}{random.integers(3)}"] * 2))
    folder.mkdir(exist_ok=True)
    (folder / "text.txt").write_text("\n".join(lines) + "\n")
    return Data(corpora=(Corpus(str(folder / "text.txt")),))


def run(data, predict="around"):
    return Run(
        model=Vectors(width=16, context=8),
        tokenizer=Words(),
        objective=Word2Vec(predict=predict, window=2, sample=1.0),
        optimizer=Adam(learning_rate=0.03),
        schedule=Linear(),
        data=data,
        steps=120,
        batch_rows=32,
        clip_norm=None,
        evaluation=Evaluation(every_steps=60, rows=8),
        checkpoints=Checkpoints(every_steps=60),
    )


@pytest.mark.parametrize("predict", ["around", "centre"])
def test_words_that_stand_in_the_same_places_become_alike(predict, tmp_path):
    planted = run(corpus(tmp_path / "corpus"), predict)
    notes: list[str] = []
    state = launch.launch(planted, tmp_path / "run", tmp_path / "cache", notes.append)
    tokenizer = planted.tokenizer.build(lambda: planted.objective.texts(planted.data, ("train",)))
    x_VD = np.asarray(state.params["model"]["embed"]["tokens"])
    x_VD = x_VD / np.linalg.norm(x_VD, axis=1, keepdims=True)
    a, b = (x_VD[tokenizer.encode(" ".join(f"{letter}{i}" for i in range(4)))] for letter in "ab")
    assert np.min(a @ a.T) > 0.5 > np.max(a @ b.T)
    assert any("words stay an epoch" in note for note in notes)


def test_a_run_that_stops_half_way_continues_to_the_same_vectors(tmp_path, monkeypatch):
    whole = replace(run(corpus(tmp_path / "corpus")), steps=20, checkpoints=Checkpoints(every_steps=10))
    once = launch.launch(whole, tmp_path / "once", tmp_path / "cache", lambda line: None)

    class Killed(Exception):
        pass

    def killed(rows, *args, **kwargs):
        def batch(step):
            if step == 15:
                raise Killed
            return original(rows, *args, **kwargs)(step)

        return batch

    original = stream
    with monkeypatch.context() as patch:
        patch.setattr(launch, "stream", killed)
        with pytest.raises(Killed):
            launch.launch(whole, tmp_path / "twice", tmp_path / "cache", lambda line: None)
    twice = launch.launch(whole, tmp_path / "twice", tmp_path / "cache", lambda line: None)
    jax.tree.map(np.testing.assert_array_equal, once.params, twice.params)


def test_impossible_configurations_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="window=0 must be positive"):
        Word2Vec(window=0)
    with pytest.raises(ConfigError, match="width=0 must be positive"):
        Vectors(width=0)


def test_a_model_that_is_more_than_a_table_of_vectors_is_refused():
    model = GPT(layers=1, width=8, heads=1, context=T).build(V, V)
    with pytest.raises(ConfigError, match="learns one table of vectors, and the model has blocks"):
        Word2Vec().build(model, None)


def test_vectors_begin_small_and_predict_no_next_token():
    model = Vectors(D, T).build(V, V + 5)
    params = model.init(jax.random.key(0))
    table = np.asarray(params["embed"]["tokens"])
    assert table.shape == (V + 5, D)
    assert 0.4 / D < abs(table).max() <= 0.5 / D
    for asked in (model.apply, model.head, model.cache, model.extend):
        with pytest.raises(ConfigError, match="say nothing of the next token"):
            asked(params, jnp.array([[1, 2]]))
