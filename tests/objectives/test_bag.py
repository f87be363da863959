"""Bags of tokens: the sum of a few rows is the product with a dense row, and regressions reach their optimum."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax import launch
from gptjax.config import Checkpoints, ConfigError, Corpus, Data, Evaluation, Run
from gptjax.data.tokenizers import Words
from gptjax.judging import judge
from gptjax.models.vectors import Vectors
from gptjax.objectives.bag import Bag, BagBatch
from gptjax.train.optim import Adam
from gptjax.train.schedules import Linear

TEXTS = ["good film", "bad film bad", "a good good plot", "bad plot", "film", "a bad end"]
LABELS = [1, 0, 1, 0, 1, 0]
WORDS = Words(eos=False, line_ends=False)


def written(folder, texts, labels, name="train"):
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"sentence": text, "label": str(label)}) for text, label in zip(texts, labels, strict=True)]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return Data(corpora=(Corpus(str(folder)),), validation_fraction=0.0)


def rows(objective, data, tokenizer=WORDS):
    learnt = tokenizer.build(lambda: objective.texts(data, ("train",)))
    sources = objective.sources(data, learnt, 4, 0, None)
    return sources, learnt


def dense(batch, size):
    x_EV = np.zeros((len(batch.ids), size))
    np.add.at(x_EV, (np.arange(len(batch.ids))[:, None], batch.ids), batch.values)
    return x_EV


@pytest.mark.parametrize("value", ["presence", "count", "tfidf"])
def test_values_are_those_of_scikit_learns_vectorizers(value, tmp_path):
    text = pytest.importorskip("sklearn.feature_extraction.text")
    sources, learnt = rows(Bag(value=value), written(tmp_path / "d", TEXTS, LABELS))
    how = {"lowercase": False, "token_pattern": None, "tokenizer": str.split}
    vocabulary = {word: id for id, word in enumerate(learnt.codec.words)}
    how["vocabulary"] = vocabulary
    vectorizers = {
        "presence": lambda: text.CountVectorizer(binary=True, **how),
        "count": lambda: text.CountVectorizer(**how),
        "tfidf": lambda: text.TfidfVectorizer(**how),
    }
    batch = sources.train[0].take(np.arange(6), 0)
    theirs = vectorizers[value]().fit_transform(TEXTS).toarray()
    np.testing.assert_allclose(dense(batch, learnt.vocab_size), theirs, rtol=1e-6)


def test_the_idf_is_of_training_texts_and_unknown_words_are_left_out_and_said(tmp_path):
    data = written(tmp_path / "d", TEXTS, LABELS)
    written(tmp_path / "d", ["dreadful good film", "dreadful"], [1, 0], "dev")
    sources, learnt = rows(Bag(value="tfidf"), data)
    alone, _ = rows(Bag(value="tfidf"), written(tmp_path / "alone", TEXTS, LABELS))
    everything = np.arange(6)
    np.testing.assert_array_equal(
        sources.train[0].take(everything, 0).values, alone.train[0].take(everything, 0).values
    )
    held_out = sources.validation.take(np.arange(2), 0)
    assert (held_out.values[1] == 0).all()
    assert np.flatnonzero(dense(held_out, learnt.vocab_size)[0]).tolist() == sorted(learnt.encode("good film").tolist())
    assert [note.split(": ")[1] for note in sources.notes] == [
        "2 unknown words left out of 2 texts",
        "1 of 2 texts have no known word",
    ]


@pytest.mark.parametrize(("hidden", "width"), [("none", 1), ("none", 2), ("relu", 5), ("sigmoid", 5), ("tanh", 5)])
def test_scores_are_those_of_dense_rows(hidden, width, tmp_path):
    objective = Bag(hidden=hidden, value="count")
    sources, learnt = rows(objective, written(tmp_path / "d", TEXTS, LABELS))
    model = Vectors(width=width).build(learnt.vocab_size, learnt.vocab_size)
    params = objective.build(model, learnt).init(jax.random.key(0))
    params["head"] = jax.tree.map(lambda x: x + jax.random.normal(jax.random.key(2), x.shape), params["head"])
    batch = sources.train[0].take(np.arange(6), 0)
    table, head = np.asarray(params["model"]["embed"]["tokens"]), jax.tree.map(np.asarray, params["head"])
    first = dense(batch, learnt.vocab_size) @ table + head["bias"]
    act = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x))}
    expected = first if hidden == "none" else act[hidden](first) @ head["kernel"] + head["out_bias"]
    expected = np.concatenate([0 * expected, expected], 1) if width == 1 else expected
    np.testing.assert_allclose(objective.predictor(model)(params, batch), expected, rtol=1e-4, atol=1e-5)


def test_a_linear_scorer_begins_undecided_and_a_word_it_never_read_stays_silent():
    vectors = Vectors(width=1).build(5, 5)
    fresh = Bag().build(vectors, None).init(jax.random.key(0))
    assert not any(np.any(x) for x in jax.tree.leaves(fresh))
    hidden = Bag(hidden="relu").build(vectors, None).init(jax.random.key(0))
    assert np.all(hidden["model"]["embed"]["tokens"] != 0)


def test_padding_rows_count_nothing_and_parts_add_up(tmp_path):
    objective = Bag(l2=0.3)
    sources, learnt = rows(objective, written(tmp_path / "d", TEXTS, LABELS))
    built = objective.build(Vectors(width=1).build(learnt.vocab_size, learnt.vocab_size), learnt)
    params = built.init(jax.random.key(0))
    whole = sources.train[0].take(np.arange(6), 0)
    parts = [built.loss(params, sources.train[0].take(np.array(part), 0), None)[:2] for part in ([0, 1], [2, 3, 4, 5])]
    np.testing.assert_allclose(np.sum(parts, axis=0), built.loss(params, whole, None)[:2], rtol=1e-5)
    zeros = jax.tree.map(np.zeros_like, whole)
    assert [float(x) for x in built.loss(params, zeros, None)[:2]] == [0.0, 0.0]


def run(data, **fields):
    start = Run(
        model=Vectors(width=1),
        tokenizer=WORDS,
        objective=Bag(),
        optimizer=Adam(learning_rate=0.1),
        schedule=Linear(),
        data=data,
        steps=250,
        batch_rows=6,
        clip_norm=None,
        evaluation=Evaluation(every_steps=1000),
        checkpoints=Checkpoints(every_steps=1000),
    )
    return replace(start, **fields)


def last(folder):
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])


def test_logistic_regression_reaches_scikit_learns_optimum(tmp_path):
    linear = pytest.importorskip("sklearn.linear_model")
    data = written(tmp_path / "d", TEXTS, LABELS)
    objective = Bag(value="count", l2=0.05)
    launch.launch(run(data, objective=objective), tmp_path / "run", tmp_path, lambda line: None)
    sources, learnt = rows(objective, data)
    batch = sources.train[0].take(np.arange(6), 0)
    x_EV = dense(batch, learnt.vocab_size)
    # Mean loss + l2 / 2 |w|^2 is scikit-learn's sum of losses + |w|^2 / (2 C) over E.
    theirs = linear.LogisticRegression(C=1 / (0.05 * 6), tol=1e-8).fit(x_EV, LABELS)
    z = x_EV @ theirs.coef_[0] + theirs.intercept_
    optimum = np.mean(np.logaddexp(0, -z * (2 * np.array(LABELS) - 1))) + 0.025 * np.sum(theirs.coef_**2)
    assert last(tmp_path / "run")["loss_nats"] == pytest.approx(optimum, abs=1e-4)


def test_xor_is_beyond_a_linear_model_and_within_an_mlp(tmp_path):
    texts, labels = ["left", "right", "left right", "neither"] * 5, [1, 1, 0, 0] * 5
    data = written(tmp_path / "d", texts, labels)
    written(tmp_path / "d", texts[:4], labels[:4], "dev")
    # "neither" is not in a vocabulary of three ids (unknown, left, right): its bag is empty.
    words, found = replace(WORDS, vocab_size=3), {}
    for hidden, width in (("none", 1), ("tanh", 8)):
        chosen = run(data, tokenizer=words, model=Vectors(width=width), objective=Bag(hidden=hidden), batch_rows=20)
        launch.launch(chosen, tmp_path / hidden, tmp_path, lambda line: None)
        found[hidden] = last(tmp_path / hidden)
    assert found["none"]["accuracy"] <= 0.75
    assert found["tanh"]["accuracy"] == 1.0
    assert {"accuracy", "matthews", "f1", "cross_entropy"} <= found["tanh"].keys()
    assert judge.held_out(tmp_path / "tanh", None, None, tmp_path, lambda line: None)["accuracy"] == 1.0


def test_dropout_is_on_with_a_key_and_off_without():
    objective = Bag(hidden="relu", dropout=0.5)
    built = objective.build(Vectors(width=64).build(5, 5), None)
    params = built.init(jax.random.key(0))
    params["model"]["embed"]["tokens"] = jnp.ones((5, 64))
    batch = BagBatch(*map(np.array, ([[1, 2]], [[1.0, 1.0]], [0], [1.0])))
    losses = [float(built.loss(params, batch, key)[0]) for key in (None, None, jax.random.key(1), jax.random.key(2))]
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_impossible_configurations_are_refused():
    with pytest.raises(ConfigError, match="width=3: without a hidden layer"):
        Bag().build(Vectors(width=3).build(5, 5), None)
    with pytest.raises(ConfigError, match="dropout is of the hidden layer"):
        Bag(dropout=0.5)
    with pytest.raises(ConfigError, match="must be two different ones"):
        Bag(labels=("1", "1"))
