"""Claims about the translation objective: what counts, and what the decoder reads."""

from functools import cache, partial

import jax
import numpy as np
import pytest
from objectives.copies import V, rows_of

from gptjax.config import ConfigError, Corpus, Data
from gptjax.data.errors import DataError
from gptjax.data.tokenizers import Bytes
from gptjax.evals import heldout
from gptjax.models.encoder_decoder_rnn import RecurrentTranslator
from gptjax.models.encoder_decoder_transformer import TransformerTranslator
from gptjax.models.gpt import GPT
from gptjax.objectives import pairs
from gptjax.objectives.forcing import Free, InverseSigmoid, LinearDecay, Teacher
from gptjax.objectives.pairs import PairRows
from gptjax.objectives.seq2seq import Seq2Seq, to_batch

ENDS = Bytes(bos=True).build(lambda: iter(()))
SMALL = RecurrentTranslator(width=16, context=8)
TRANSFORMER = TransformerTranslator(layers=1, width=32, heads=2, mlp_width=64, context=8)
BATCH = to_batch(rows_of(np.random.default_rng(0), 5))


@cache
def built(config, forcing=Teacher()):  # noqa: B008
    """The model, its objective, and parameters far from their start."""
    model = config.build(V, V)
    objective, draw = Seq2Seq(forcing=forcing, tile_tokens="all").build(model, ENDS), np.random.default_rng(3)
    shapes = jax.eval_shape(objective.init, jax.random.key(0))
    return model, objective, jax.tree.map(lambda x: 0.4 * draw.standard_normal(x.shape, np.float32), shapes)


@partial(jax.jit, static_argnums=0)
def evaluate(loss, params, batch, key):
    return loss(params, batch, key)[0]


def total(objective, params, batch, key=None):
    """The sum of the loss alone, which compiles sooner than its gradient."""
    return float(evaluate(objective.loss, params, batch, key))


@partial(jax.jit, static_argnums=0)
def logits(model, params, batch):
    """What a teacher-forced decoder predicts."""
    own = params["model"]
    return model.head(own, model.decode(own, model.encode(own, batch.source, batch.source_lengths), batch.inputs))


def test_inputs_begin_and_targets_end_and_only_the_targets_tokens_count():
    batch = to_batch(PairRows(np.array([[3, 4, 13]]), np.array([3]), np.array([[12, 5, 6, 13, 0, 0]]), np.array([4])))
    np.testing.assert_array_equal(batch.inputs, [[12, 5, 6, 13, 0]])
    np.testing.assert_array_equal(batch.targets, [[5, 6, 13, 0, 0]])
    np.testing.assert_array_equal(batch.weights, [[1, 1, 1, 0, 0]])
    assert all(len(leaf) == 1 for leaf in jax.tree.leaves(batch))


def test_the_loss_is_the_sum_of_the_nats_of_the_targets_alone(gradient):
    model, objective, params = built(SMALL)
    summed, count, metrics, _ = gradient(objective, params, BATCH)
    logp_BTV = np.asarray(jax.nn.log_softmax(logits(model, params, BATCH), axis=-1))
    nats = [-logp_BTV[b, t, BATCH.targets[b, t]] for b, t in zip(*np.nonzero(BATCH.weights), strict=True)]
    np.testing.assert_allclose(summed, sum(nats), rtol=1e-5)
    assert count == len(nats) == BATCH.weights.sum()
    np.testing.assert_allclose(metrics["nats"], (summed, count), rtol=1e-6)


def test_what_stands_in_the_padding_adds_no_loss_and_no_gradient(gradient, close):
    for config in (SMALL, TRANSFORMER):
        _, objective, params = built(config)
        dead_BT = BATCH.weights == 0
        after_BT = np.concatenate([dead_BT[:, :1], dead_BT[:, :-1]], axis=1)  # inputs behind the last that is read
        other = BATCH._replace(
            inputs=np.where(after_BT, 7, BATCH.inputs),
            targets=np.where(dead_BT, 9, BATCH.targets),
            source=np.where(np.arange(8) >= BATCH.source_lengths[:, None], 11, BATCH.source),
        )
        assert (other.source != BATCH.source).any()
        assert (other.inputs != BATCH.inputs).any()
        plain, filled = (gradient(objective, params, batch) for batch in (BATCH, other))
        close(plain, filled)


def test_rows_of_zeros_count_nothing(tmp_path):
    _, objective, params = built(SMALL)
    source = pairs.row_source([np.array([1, 13])], [np.array([12, 1, 13])], 4, 5)
    judge = heldout.evaluator(objective, source, 4)
    judge.compile(params)
    assert judge(params)["tokens"] == 2


# --- what the decoder reads ---


def at(objective, step):
    return objective.scheduled(BATCH, step)


def test_forcing_everything_step_by_step_is_teacher_forcing(gradient, close):
    key, slowly = jax.random.key(1), LinearDecay(steps=10)
    for config in (SMALL, TRANSFORMER):
        (_, teacher, params), (_, slow, _) = built(config), built(config, slowly)
        batch = at(slow, 0)
        assert (batch.forcing == 1).all()
        assert total(slow, params, batch, key) == pytest.approx(total(teacher, params, batch), rel=1e-5)
    _, teacher, params = built(SMALL)
    found = gradient(built(SMALL, slowly)[1], params, batch, key)
    close(gradient(teacher, params, BATCH), found, rtol=1e-4, atol=1e-5)


def test_a_free_decoder_reads_its_own_words_and_never_the_true_ones():
    model, objective, params = built(SMALL, Free())
    key, other = jax.random.key(1), np.where(np.arange(8) > 0, (BATCH.inputs + 5) % 12, BATCH.inputs)
    plain, changed = (total(objective, params, at(objective, 3)._replace(inputs=x), key) for x in (BATCH.inputs, other))
    assert plain == changed
    read = BATCH.inputs.copy()
    for t in range(7):
        read[:, t + 1] = np.argmax(logits(model, params, BATCH._replace(inputs=read))[:, t], axis=-1)
    assert (read != BATCH.inputs).any()
    assert plain == pytest.approx(total(built(SMALL)[1], params, BATCH._replace(inputs=read)), rel=1e-4)


def test_in_between_some_rows_read_the_true_word_and_evaluation_always_does():
    _, objective, params = built(SMALL, LinearDecay(steps=10))
    moments = ((0, 1), (5, 1), (5, 2), (10, 1))
    totals = [total(objective, params, at(objective, step), jax.random.key(k)) for step, k in moments]
    assert len({round(value, 3) for value in totals}) == 4
    judged = [total(objective, params, at(objective, step)) for step in (0, 10)]
    assert judged[0] == judged[1] == pytest.approx(totals[0], rel=1e-4)


def test_schedules_fall_from_one_as_their_equations_say():
    assert [Teacher().probability(t) for t in (0, 99)] == [1, 1]
    assert [Free().probability(t) for t in (0, 99)] == [0, 0]
    linear = LinearDecay(steps=100, floor=0.2)
    assert [linear.probability(t) for t in (0, 50, 100, 500)] == pytest.approx([1, 0.6, 0.2, 0.2])
    sigmoid = InverseSigmoid(k=50.0)
    assert sigmoid.probability(0) == pytest.approx(50 / 51)
    assert sigmoid.probability(round(50 * np.log(50))) == pytest.approx(0.5, abs=0.01)
    assert sigmoid.probability(10**6) == pytest.approx(0)
    falling = [sigmoid.probability(t) for t in range(0, 500, 10)]
    assert falling == sorted(falling, reverse=True)
    for make, message in ((lambda: LinearDecay(steps=0), "steps=0"), (lambda: InverseSigmoid(k=0.5), "k=0.5")):
        with pytest.raises(ConfigError, match=message):
            make()


# --- rows from files ---


def test_both_sides_share_one_vocabulary_and_long_pairs_are_counted(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("ab\tcd\nabcdefgh\tx\nx\tabcdefgh\nabcdefg\tabcdefg\n", encoding="utf-8")
    data, config = Data(corpora=(Corpus(str(path)),), validation_fraction=0.0), Seq2Seq()
    assert "".join(config.texts(data, ("train",))) == "abcdabcdefghxxabcdefghabcdefgabcdefg"
    found = config.sources(data, ENDS, 8, 0, tmp_path)
    assert found.validation is None
    assert found.notes == (f"{path}: 2 of 4 pairs left out, longer than context=8 tokens",)
    rows = found.train[0].take(np.arange(2), 0)
    assert bytes(rows.target_BU[1, 1:8].tolist()) == b"abcdefg"
    assert (rows.target_BU[:, 0] == ENDS.bos_id).all()
    assert rows.source_BS[0].tolist() == [*b"ab", ENDS.eos_id, 0, 0, 0, 0, 0]
    with pytest.raises(DataError, match=r"none of 4 pairs fits into context=2 tokens"):
        config.sources(data, ENDS, 2, 0, tmp_path)


def test_a_model_or_tokenizer_of_another_kind_is_refused():
    model = SMALL.build(V, V)
    with pytest.raises(ConfigError, match=r"turn tokenizer\.bos and tokenizer\.eos on"):
        Seq2Seq().build(model, Bytes().build(lambda: iter(())))
    gpt = GPT(layers=1, width=8, heads=1, mlp_width=8, context=8).build(V, V)
    with pytest.raises(ConfigError, match="needs a translator"):
        Seq2Seq().build(gpt, ENDS)
