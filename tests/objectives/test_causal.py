from dataclasses import replace

import jax
import numpy as np
import pytest

from gptjax.config import ConfigError, Corpus, Data
from gptjax.data import tokenizers
from gptjax.objectives.causal import Causal, joined, next_token, running, to_batch
from gptjax.objectives.loss import Regular
from gptjax.objectives.sft import SFT
from gptjax.types import Batch, Rows, TokenSplit

RANDOM = np.random.default_rng(1)
KEY = jax.random.key(0)


def random_rows(count, width=17, tokens=24):
    return Rows(
        RANDOM.integers(0, tokens, (count, width)).astype(np.int32),
        RANDOM.integers(0, 2, (count, width)).astype(np.float32),
        np.ones((count, width), np.int32),
    )


@pytest.fixture(scope="module")
def objective(model):
    return Causal().build(model, None)


@pytest.fixture(scope="module")
def params(objective):
    return objective.init(KEY)


def test_accumulation_over_unequal_micro_batches_equals_the_full_batch(objective, params, gradient, close):
    rows = random_rows(6)
    rows.weights[:2] = 0  # nothing counts in the first micro-batch
    rows.weights[2, 3:] = 0
    batch = objective.batch(rows)
    parts = [jax.tree.map(lambda x, i=i: x[i : i + 2], batch) for i in (0, 2, 4)]
    whole = gradient(objective, params, batch)
    summed = jax.tree.map(lambda *x: sum(x), *[gradient(objective, params, part) for part in parts])
    close(summed, whole)


def test_a_fully_masked_batch_has_no_loss_no_count_and_a_zero_gradient(objective, params, gradient):
    rows = random_rows(2)
    total, count, metrics, slopes = gradient(
        objective, params, objective.batch(rows._replace(weights=rows.weights * 0))
    )
    assert (total, count, metrics["nats"][0]) == (0, 0, 0)
    assert all((slope == 0).all() for slope in jax.tree.leaves(slopes))


def test_running_text_gives_the_loss_of_the_same_rows_as_one_document_each(objective, params, gradient, close):
    split = TokenSplit(RANDOM.integers(0, 24, 100).astype(np.uint16), np.array([0, 100]), 100)
    rows = running(split, 16).take(np.array([0, 3]), 0)
    assert rows.segments is None
    batch = to_batch(rows)
    assert isinstance(batch, Batch)
    assert batch.segments is batch.positions is None
    np.testing.assert_array_equal(batch.inputs[1], split.tokens[48:64])
    np.testing.assert_array_equal(batch.targets[1], split.tokens[49:65])
    explicit = to_batch(rows._replace(segments=np.ones_like(rows.tokens)))
    close(gradient(objective, params, batch), gradient(objective, params, explicit))


def test_the_plain_nats_stand_beside_the_regularised_loss(model, params, gradient):
    batch = to_batch(random_rows(2))
    plain, count, metrics, _ = gradient(next_token(model), params, batch)
    regularised, _, beside, _ = gradient(next_token(model, "auto", Regular(0.1, 0.1)), params, batch)
    assert metrics["nats"] == (plain, count)
    assert regularised > plain
    np.testing.assert_allclose(beside["nats"], (plain, count), rtol=1e-6)


def test_dropout_is_on_with_a_key_and_off_without(objective, params):
    batch = to_batch(random_rows(2))
    loss = jax.jit(objective.loss)
    losses = [float(loss(params, batch, key)[0]) for key in (None, None, KEY, KEY, jax.random.key(1))]
    assert losses[0] == losses[1] != losses[2]
    assert losses[2] == losses[3] != losses[4]


def test_impossible_regularisation_is_refused():
    with pytest.raises(ConfigError, match=r"label_smoothing=1\.0"):
        Causal(label_smoothing=1.0)
    with pytest.raises(ConfigError, match=r"z_loss=-1\.0"):
        Causal(z_loss=-1.0)


@pytest.mark.parametrize("make", [Causal, SFT])
def test_a_tile_of_no_tokens_or_of_no_known_kind_is_refused_in_one_line(make):
    with pytest.raises(ConfigError, match="tile_tokens=0 must be positive, auto or all"):
        make(tile_tokens=0)
    with pytest.raises(ConfigError, match="tile_tokens='some' is not"):
        make(tile_tokens="some")


def test_held_out_texts_of_several_corpora_are_judged_as_one_split():
    one = TokenSplit(np.arange(5, dtype=np.uint16), np.array([0, 2, 5]), 9)
    empty = TokenSplit(np.zeros(0, np.uint16), np.array([0]), 0)
    two = TokenSplit(np.arange(4, dtype=np.uint16), np.array([0, 4]), 7)
    both = joined([one, empty, two])
    assert both.tokens.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert both.starts.tolist() == [0, 2, 5, 9]
    assert both.bytes == 16
    assert joined([empty]) is None


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "a.txt").write_text("all that glitters is not gold; " * 40)
    (folder / "b.txt").write_text("a horse, a horse, my kingdom for a horse! " * 40)
    return Data(
        corpora=(Corpus(str(folder / "a.txt"), 3.0), Corpus(str(folder / "b.txt"), 1.0)),
        split="position",
        validation_fraction=0.25,
    )


def test_a_mixture_has_a_source_with_its_weight_for_each_corpus(corpora, tokenizer, tmp_path):
    found = Causal().sources(corpora, tokenizer, 16, 0, tmp_path)
    assert found.weights == (3.0, 1.0)
    assert tokenizer.decode(found.train[0].take(np.array([0]), 0).tokens[0]) == "all that glitters"
    assert tokenizer.decode(found.train[1].take(np.array([0]), 0).tokens[0]) == "a horse, a horse,"
    assert found.validation is None
    assert found.split.bytes == (31 * 40 + 42 * 40) // 4


def test_packed_documents_carry_segments_and_say_what_was_done(corpora, tokenizer, tmp_path):
    found = Causal().sources(replace(corpora, packing="documents"), tokenizer, 16, 0, tmp_path)
    assert found.train[0].take(np.array([0]), 0).segments.max() >= 1
    assert any(note.startswith(corpora.corpora[0].source) and "packed" in note for note in found.notes)


def test_identity_changes_with_the_text(corpora, tokenizer, tmp_path):
    def identity(data):
        return Causal().sources(data, tokenizer, 16, 0, tmp_path).identity

    assert identity(corpora) == identity(corpora) != identity(replace(corpora, corpora=corpora.corpora[:1]))


def test_unknown_words_are_counted_and_said(tmp_path):
    (tmp_path / "train.txt").write_text(text := "the cat saw the dog \n" * 5)
    (tmp_path / "valid.txt").write_text("the fish saw a cow \n")
    data = Data(corpora=(Corpus(str(tmp_path / "train.txt")),), validation=str(tmp_path / "valid.txt"))
    words = tokenizers.Words(eos=False).build(lambda: iter([text]))
    notes = Causal().sources(data, words, 4, 0, tmp_path / "cache").notes
    assert [note for note in notes if "unknown words" in note] == [
        "validation: 3 of 6 tokens (50.0%) are unknown words"
    ]
    plain = tokenizers.Bytes().build(lambda: iter(()))
    assert not any("unknown words" in note for note in Causal().sources(data, plain, 4, 0, tmp_path / "cache").notes)
