"""Claims that hold of every family that came before the transformer: feed-forward, convolutional, recurrent."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from gptjax.config import ConfigError, from_json, to_json
from gptjax.infer.sample import Decoding, generate
from gptjax.models import convolution, feedforward, recurrent
from gptjax.models.convolution import Convolution
from gptjax.models.feedforward import FeedForward
from gptjax.models.recurrent import Recurrent
from gptjax.train.optim import AdamW, Muon, roles

V, PADDED = 53, 64
FEED_FORWARD = FeedForward(window=5, embed_width=12, layers=2, width=24, context=20)
CONVOLUTION = Convolution(layers=3, width=16, channels=12, cycle=2, taps=3, context=20)
RECURRENT = Recurrent(layers=2, width=16, embed_width=12, context=20)
FAMILIES = {
    "concatenated": FEED_FORWARD,
    "mean": replace(FEED_FORWARD, mix="mean", tied=True, activation="gelu"),
    "max": replace(FEED_FORWARD, mix="max", layers=1, activation="relu"),
    "wavenet": CONVOLUTION,
    "bytenet": replace(CONVOLUTION, gate="none", taps=2, layers=2, tied=True),
    "glu": replace(CONVOLUTION, gate="linear", layers=1),
    "rnn": replace(RECURRENT, cell="tanh", layers=1),
    "gru": replace(RECURRENT, cell="gru", tied=False),
    "lstm": RECURRENT,
}
REACH = {"concatenated": 5, "mean": 5, "max": 5, "wavenet": 9, "bytenet": 4, "glu": 3}
"""Tokens that a prediction of each family sees; recurrent ones see all."""
COUNTS = np.array([[7, 2, 5], [6, 6, 1], [0, 5, 6]])
"""Real tokens of each piece of 7 and each row: ragged, an empty one among them."""


class Built:
    """A config, its model, random parameters (no branch starts at 0), and its functions compiled."""

    def __init__(self, name):
        self.name, self.config = name, FAMILIES[name]
        self.model = self.config.build(V, PADDED)
        random = np.random.default_rng(0)
        shapes = jax.eval_shape(self.model.init, jax.random.key(0))
        self.params = jax.tree.map(lambda x: jnp.asarray(0.4 * random.standard_normal(x.shape, np.float32)), shapes)
        self.apply, self.extend = jax.jit(self.model.apply), jax.jit(self.model.extend)
        self.features = jax.jit(self.model.features)


BUILT: dict = {}


@pytest.fixture(params=FAMILIES)
def built(request):
    """Each family in turn, compiled once for all tests."""
    if request.param not in BUILT:
        BUILT[request.param] = Built(request.param)
    return BUILT[request.param]


@pytest.fixture(scope="module")
def inputs():
    """Three rows of 20 token ids."""
    return np.random.default_rng(1).integers(0, V, (3, 20)).astype(np.int32)


# --- what a prediction sees ---


def test_the_gradient_of_a_feature_is_zero_by_what_it_may_not_see_and_nowhere_else(built, inputs, monkeypatch):
    """Future tokens, other documents, and tokens beyond the window."""
    T, own = 20, built.params
    segments_BT = np.repeat([1, 2], [12, 8])[None]
    for module in (feedforward, convolution, recurrent):
        embed = module.look_up
        monkeypatch.setattr(module, "look_up", lambda table, ids, embed=embed: embed(table, ids) + nudge(ids))

    def first_row(x_TE):
        def at(ids):  # time stands second in rows, behind the past of a window; first in recurrent loops
            rows_E = x_TE[None] if ids.shape[0] == 1 else x_TE[:, None]
            return jnp.pad(rows_E, ((0, 0), (rows_E.shape[1] and ids.shape[1] - rows_E.shape[1], 0), (0, 0)))

        holder["at"] = at
        return built.model.features(own, inputs[:1], segments_BT)[0].sum(-1)

    holder = {}

    def nudge(ids):
        return holder["at"](ids)

    width = own["embed"]["tokens"].shape[1]
    influence_TS = np.abs(np.asarray(jax.jit(jax.jacrev(first_row))(jnp.zeros((T, width))))).sum(-1)
    back_TS = np.arange(T)[:, None] - np.arange(T)
    allowed = (back_TS >= 0) & (back_TS < REACH.get(built.name, T)) & (segments_BT[0][:, None] == segments_BT[0])
    assert (influence_TS[~allowed] == 0).all()
    if built.name != "max":  # whose gradient goes to the largest alone
        assert (influence_TS[allowed] > 0).all()


def test_packed_documents_equal_the_documents_alone(built, inputs):
    segments = np.repeat([1, 2, 0], [8, 9, 3])[None].repeat(3, 0)
    positions = np.concatenate([np.arange(8), np.arange(9), np.arange(3)])[None].repeat(3, 0)
    packed = np.asarray(built.apply(built.params, inputs, segments, positions))[..., :V]
    for start, end in ((0, 8), (8, 17)):
        alone = np.asarray(built.apply(built.params, np.roll(inputs, -start, axis=1)))[:, : end - start, :V]
        assert_allclose(packed[:, start:end], alone, rtol=1e-4, atol=2e-5)
    assert not np.allclose(packed[:, 8], np.asarray(built.apply(built.params, inputs))[:, 8, :V], atol=1e-3)


# --- reading piece by piece ---


def test_cached_features_equal_uncached_ones_for_ragged_rows(built, inputs):
    expected = np.asarray(built.features(built.params, inputs))
    cache, start_B = built.model.cache(3, 20, jnp.float32), np.zeros(3, int)
    for counts_B in COUNTS:
        piece = np.full((3, 7), 52)  # padding that would be seen to leak
        for row, count in enumerate(counts_B):
            piece[row, :count] = inputs[row, start_B[row] : start_B[row] + count]
        features, cache = built.extend(built.params, piece, cache, counts_B)
        for row, (count, start) in enumerate(zip(counts_B, start_B, strict=True)):
            found = np.asarray(features)[row, :count]
            assert_allclose(found, expected[row, start : start + count], rtol=1e-4, atol=1e-5)
        start_B = start_B + counts_B


@pytest.mark.parametrize("built", ["mean", "bytenet", "rnn"], indirect=True)
def test_greedy_samples_are_the_likeliest_tokens_of_the_whole_text(built, inputs):
    """Past the context too: recurrent models remember all, the others see less than half a context."""
    text, new = inputs[0, :15], 12
    (made,) = generate(built.model, built.params, [text], new, Decoding(temperature=0.0), jax.random.key(0))
    whole = np.concatenate([text, made])[None]
    likeliest = np.asarray(jnp.argmax(built.apply(built.params, whole), axis=-1))[0]
    assert made.tolist() == likeliest[14:-1].tolist()


# --- numbers ---


@pytest.mark.parametrize("built", ["concatenated", "wavenet", "lstm"], indirect=True)
def test_computation_is_in_the_dtype_of_the_parameters_and_logits_are_float32(built, inputs):
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), built.params)
    logits = built.apply(half, inputs)
    assert logits.dtype == jnp.float32
    assert jax.eval_shape(built.features, half, inputs).dtype == jnp.bfloat16
    exact, found = np.asarray(built.apply(built.params, inputs))[..., :V], np.asarray(logits)[..., :V]
    assert np.abs(found - exact).mean() < 0.05 * np.abs(exact).mean()
    cache = built.model.cache(3, 20, jnp.bfloat16)
    _, new = jax.eval_shape(built.model.extend, half, inputs, cache)
    assert jax.tree.map(lambda x: x.dtype, new) == jax.tree.map(lambda x: x.dtype, cache)


@pytest.mark.parametrize("built", ["lstm"], indirect=True)
def test_a_state_read_piece_by_piece_loses_no_precision_under_half_precision_parameters(built, inputs):
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), built.params)
    cache, pieces = built.model.cache(3, 20, jnp.bfloat16), []
    for t in range(inputs.shape[1]):
        features, cache = built.extend(half, inputs[:, t : t + 1], cache)
        pieces.append(np.asarray(features[:, 0], np.float32))
    whole = np.asarray(built.features(half, inputs), np.float32)
    # To one place of bfloat16 at most: a state rounded after every token drifts by more.
    assert_allclose(np.stack(pieces, axis=1), whole, atol=2**-8)


def test_the_vocabulary_padding_is_never_predicted(built, inputs):
    logits = np.asarray(built.apply(built.params, inputs))
    assert logits.shape == (3, 20, PADDED)
    assert np.isneginf(logits[..., V:]).all()
    assert np.isfinite(logits[..., :V]).all()


@pytest.mark.parametrize("built", ["max", "glu", "rnn"], indirect=True)
def test_a_key_drops_and_no_key_drops_nothing(built, inputs):
    fields = [name for name in vars(built.config) if "dropout" in name]
    config = replace(built.config, **dict.fromkeys(fields, 0.5))
    with_key = jax.jit(config.build(V, PADDED).features)
    one, again, other = (with_key(built.params, inputs, key=jax.random.key(k)) for k in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert not np.allclose(one, built.features(built.params, inputs), atol=1e-3)
    jaxpr = str(jax.make_jaxpr(config.build(V, PADDED).features)(built.params, inputs))
    assert "random_bits" not in jaxpr


@pytest.mark.parametrize("built", ["max", "bytenet", "rnn"], indirect=True)
def test_the_first_loss_is_near_that_of_a_uniform_guess(built, inputs):
    logits = built.apply(jax.jit(built.model.init)(jax.random.key(0)), inputs)[..., :V]
    nats = np.asarray(jax.nn.logsumexp(logits, axis=-1) - logits.mean(-1))
    assert abs(nats.mean() - np.log(V)) < 0.1


def test_sizes_and_costs_are_those_of_the_parameters_that_multiply(built):
    shapes = jax.eval_shape(built.model.init, jax.random.key(0))
    sizes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): x.size for path, x in jax.tree.leaves_with_path(shapes)
    }
    assert built.config.parameter_count(PADDED) == sum(sizes.values())
    looked_up = sizes.get("embed/nothing", 0) + sizes["embed/tokens"] * ("head/kernel" in sizes)
    assert built.config.flops_per_token(PADDED, 20) == (6.0 * (sum(sizes.values()) - looked_up),) * 2


@pytest.mark.parametrize("optimizer", [AdamW(), Muon()], ids=["adamw", "muon"])
@pytest.mark.parametrize("built", ["concatenated", "wavenet", "lstm"], indirect=True)
def test_every_parameter_has_its_role_and_is_updated(built, optimizer):
    found = {
        jax.tree_util.keystr(path, simple=True, separator="/"): role
        for path, role in jax.tree.leaves_with_path(roles(built.params))
    }
    assert all((role == "embedding") == path.startswith("embed/") for path, role in found.items())
    assert all((role == "head") == path.startswith("head/") for path, role in found.items())
    matrices = {path for path, role in found.items() if role == "matrix"}
    assert matrices == {path for path in found if path.endswith("kernel") and not path.startswith("head/")}
    rule = optimizer.build(lambda step: 1.0)
    updates, _ = jax.eval_shape(rule.update, built.params, jax.eval_shape(rule.init, built.params), built.params)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, built.params)


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        (FEED_FORWARD, "window", 0),
        (FEED_FORWARD, "dropout", 1.0),
        (CONVOLUTION, "taps", 1),
        (CONVOLUTION, "cycle", 0),
        (RECURRENT, "cell", "rnn"),
        (RECURRENT, "layers", 0),
        (RECURRENT, "weight_dropout", -0.1),
    ],
)
def test_a_wrong_field_is_refused_in_one_line(config, field, value):
    with pytest.raises(ConfigError, match=f"^{field}={value!r}") as caught:
        replace(config, **{field: value})
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="vocab_size=66"):
        config.build(66, 65)


def test_the_configs_survive_json(built):
    assert from_json(to_json(built.config)) == built.config
