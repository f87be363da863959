"""Claims about every translator: what it must not see, and that a token at a time is the same as a row at a time."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.attention import attend
from gptjax.config import ConfigError
from gptjax.models import gru
from gptjax.models.cross import CrossAttention, of_source
from gptjax.models.encoder_decoder_rnn import RecurrentTranslator
from gptjax.models.encoder_decoder_transformer import TransformerTranslator

V, PADDED = 19, 24
RECURRENT = RecurrentTranslator(width=16, context=12)
KINDS = {
    "no_attention": replace(RECURRENT, attention="none"),
    "additive": RECURRENT,
    "scaled_product": replace(RECURRENT, attention="scaled_product"),
    "transformer": TransformerTranslator(layers=2, width=16, heads=2, mlp_width=24, context=12),
}
random = np.random.default_rng(0)
SOURCE_BS = random.integers(0, V, (3, 9)).astype(np.int32)
LENGTHS_B = np.array([9, 4, 1], np.int32)
INPUTS_BT = random.integers(0, V, (3, 7)).astype(np.int32)


class Built:
    """A translator with parameters far from their start, and its functions compiled."""

    def __init__(self, config):
        self.model = config.build(V, PADDED)
        shapes = jax.eval_shape(self.model.init, jax.random.key(0))
        draw = np.random.default_rng(1)
        self.params = jax.tree.map(lambda x: jnp.asarray(0.4 * draw.standard_normal(x.shape, np.float32)), shapes)
        self.features = jax.jit(self._features)

    def _features(self, params, source_BS, lengths_B, inputs_BT):
        return self.model.decode(params, self.model.encode(params, source_BS, lengths_B), inputs_BT)


BUILT: dict = {}


def found(name):
    if name not in BUILT:
        BUILT[name] = Built(KINDS[name])
    return BUILT[name]


@pytest.fixture(params=KINDS)
def built(request):
    """Every kind in turn, compiled once for all tests."""
    return found(request.param)


@pytest.fixture(params=["additive", "transformer"])
def one_each(request):
    """A recurrent one and a Transformer, for what the kinds of recurrent ones have in common."""
    return found(request.param)


@pytest.fixture(params=[name for name in KINDS if name != "no_attention"])
def looking(request):
    return found(request.param)


def test_padding_of_the_source_changes_no_bit(built):
    plain = built.features(built.params, SOURCE_BS, LENGTHS_B, INPUTS_BT)
    padded_BS = np.where(np.arange(9) < LENGTHS_B[:, None], SOURCE_BS, (SOURCE_BS + 1) % V)
    assert (padded_BS != SOURCE_BS).sum() == 3 * 9 - LENGTHS_B.sum()
    np.testing.assert_array_equal(plain, built.features(built.params, padded_BS, LENGTHS_B, INPUTS_BT))


def test_a_row_is_the_same_however_much_padding_stands_behind_it(one_each):
    plain = one_each.features(one_each.params, SOURCE_BS, LENGTHS_B, INPUTS_BT)
    short = one_each.features(one_each.params, SOURCE_BS[1:2, :4], LENGTHS_B[1:2], INPUTS_BT[1:2])
    np.testing.assert_allclose(short[0], plain[1], rtol=1e-5, atol=1e-6)


def test_every_token_of_the_source_counts_and_the_order_too(built):
    def features(source_BS):
        return np.asarray(built.features(built.params, source_BS, LENGTHS_B, INPUTS_BT))

    plain, turned = features(SOURCE_BS), SOURCE_BS.copy()
    turned[0, [3, 5]] = turned[0, [5, 3]]
    assert turned[0, 3] != turned[0, 5]
    assert np.abs(features(turned)[0] - plain[0]).max() > 1e-4
    for s in range(9):
        changed = SOURCE_BS.copy()
        changed[0, s] = (changed[0, s] + 1) % V
        assert np.abs(features(changed)[0] - plain[0]).max() > 1e-4, s


def test_a_later_target_changes_no_bit_of_earlier_features_and_some_of_its_own_and_all_later_ones(built):
    plain = np.asarray(built.features(built.params, SOURCE_BS, LENGTHS_B, INPUTS_BT))
    for t in range(7):
        changed_BT = INPUTS_BT.copy()
        changed_BT[:, t] = (changed_BT[:, t] + 1) % V
        changed = np.asarray(built.features(built.params, SOURCE_BS, LENGTHS_B, changed_BT))
        np.testing.assert_array_equal(changed[:, :t], plain[:, :t])
        assert (np.abs(changed - plain)[:, t:].max(-1) > 0).all()


def test_features_have_no_gradient_by_later_targets(one_each):
    def by_vectors(vectors_TD):
        """Each column's word has a vector of its own."""
        table = one_each.params["embed"]["tokens"]
        params = {**one_each.params, "embed": {"tokens": jnp.concatenate([table, vectors_TD])}}
        ids_BT = PADDED + np.arange(7)[None]
        return one_each._features(params, SOURCE_BS[:1], LENGTHS_B[:1], ids_BT).sum(-1)[0]

    vectors_TD = 0.3 * np.random.default_rng(2).standard_normal((7, 16), np.float32)
    strength_TT = np.abs(jax.jit(jax.jacobian(by_vectors))(vectors_TD)).max(-1)
    assert (strength_TT[np.triu_indices(7, 1)] == 0).all()
    assert (strength_TT[np.tril_indices(7)] > 0).all()


def test_a_token_at_a_time_equals_the_whole_row(built):
    model, params = built.model, built.params
    whole = built.features(params, SOURCE_BS, LENGTHS_B, INPUTS_BT)

    @jax.jit
    def in_parts(params):
        memory = model.encode(params, SOURCE_BS, LENGTHS_B)
        state, parts = model.start(params, memory, 7), []
        for first, last in ((0, 1), (1, 5), (5, 7)):
            features_BTD, state = model.extend(params, memory, INPUTS_BT[:, first:last], state)
            parts.append(features_BTD)
        return jnp.concatenate(parts, axis=1)

    np.testing.assert_allclose(in_parts(params), whole, rtol=1e-4, atol=1e-5)


def test_attention_sums_to_one_over_the_source_and_is_zero_on_padding(looking):
    model = looking.model
    memory = jax.jit(model.encode)(looking.params, SOURCE_BS, LENGTHS_B)
    weights_BTS = np.asarray(jax.jit(model.attention)(looking.params, memory, INPUTS_BT))
    assert weights_BTS.shape == (3, 7, 9)
    np.testing.assert_allclose(weights_BTS.sum(-1), 1, rtol=1e-5)
    dead_BS = np.arange(9) >= LENGTHS_B[:, None]
    assert (weights_BTS[np.broadcast_to(dead_BS[:, None], weights_BTS.shape)] == 0).all()
    assert weights_BTS[0].std() > 0.01


def test_a_model_without_attention_has_no_weights_to_show():
    assert KINDS["no_attention"].build(V, PADDED).attention is None


def test_padding_of_the_vocabulary_is_never_predicted(built):
    features = built.features(built.params, SOURCE_BS, LENGTHS_B, INPUTS_BT)
    logits_BTV = np.asarray(jax.jit(built.model.head)(built.params, features))
    assert logits_BTV.shape == (3, 7, PADDED)
    assert (logits_BTV[..., V:] == -np.inf).all()
    assert np.isfinite(logits_BTV[..., :V]).all()


def test_bfloat16_parameters_give_bfloat16_features_near_the_same(one_each):
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), one_each.params)
    features = one_each.features(half, SOURCE_BS, LENGTHS_B, INPUTS_BT)
    plain = one_each.features(one_each.params, SOURCE_BS, LENGTHS_B, INPUTS_BT)
    assert features.dtype == jnp.bfloat16
    assert np.abs(np.asarray(features, np.float32) - plain).mean() < 0.15 * np.abs(plain).mean()


@pytest.mark.parametrize("name", ["additive", "transformer"])
def test_dropout_needs_a_key_and_changes_with_it(name):
    dry, model = found(name), replace(KINDS[name], dropout=0.3).build(V, PADDED)

    @jax.jit
    def dropped(key):
        memory = model.encode(dry.params, SOURCE_BS, LENGTHS_B, key)
        return model.decode(dry.params, memory, INPUTS_BT, key)

    plain = dry.features(dry.params, SOURCE_BS, LENGTHS_B, INPUTS_BT)
    one, other = map(dropped, jax.random.split(jax.random.key(1)))
    assert np.abs(one - plain).max() > 0.01
    assert np.abs(one - other).max() > 0.01
    np.testing.assert_allclose(dropped(None), plain, rtol=1e-5, atol=1e-6)


# --- the parts, in other words ---


def test_the_gru_is_its_equations_and_padding_leaves_its_state():
    D, x_BSD = 4, 0.7 * np.random.default_rng(3).standard_normal((2, 5, 3)).astype(np.float32)
    alive_BS = np.arange(5) < np.array([[5], [3]])
    for reverse in (False, True):
        module = gru.GRU(D, reverse)
        params = module.init(jax.random.key(0), x_BSD, alive_BS)["params"]
        params = jax.tree.map(lambda x: x + 0.1, params)  # biases that are not zero
        states_BSD, last_BD = module.apply({"params": params}, x_BSD, alive_BS)
        W, b, U, c = (np.asarray(x, np.float64) for x in jax.tree.leaves(
            (params["x"]["kernel"], params["x"]["bias"], params["h"]["kernel"], params["bias"])
        ))  # fmt: skip
        for row in range(2):
            h, order = np.zeros(D), [s for s in range(5) if alive_BS[row, s]]
            for s in reversed(order) if reverse else order:
                (r_x, u_x, n_x), (r_h, u_h, n_h) = np.split(x_BSD[row, s] @ W + b, 3), np.split(h @ U, 3)
                r, u = 1 / (1 + np.exp(-r_x - r_h)), 1 / (1 + np.exp(-u_x - u_h))
                h = u * h + (1 - u) * np.tanh(n_x + r * (n_h + c))
                np.testing.assert_allclose(states_BSD[row, s], h, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(last_BD[row], h, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("impl", ["dense", "blockwise"])
def test_cross_attention_through_attend_equals_a_plain_loop(impl):
    width, heads, H = 12, 3, 4
    generator = np.random.default_rng(4)
    x_BTD, source_BSD = (generator.standard_normal((2, n, width)).astype(np.float32) for n in (5, 8))
    lengths_B = np.array([8, 3])
    visible = of_source(jnp.arange(8) < lengths_B[:, None], 5)
    module = CrossAttention(width, heads, 0.3, 0.0, lambda *args, **kwargs: attend(*args, **kwargs, impl=impl))
    params = module.init(jax.random.key(0), x_BTD, source_BSD, visible)["params"]
    found_BTD = module.apply({"params": params}, x_BTD, source_BSD, visible)
    memory = module.apply({"params": params}, source_BSD, method="remember")
    shown_BTS = module.apply({"params": params}, x_BTD, memory, visible, method="weights")
    q, k, v, o = (np.asarray(params[name]["kernel"], np.float64) for name in "qkvo")
    for b, t in np.ndindex(2, 5):
        real_SD, found, looked = source_BSD[b, : lengths_B[b]], np.zeros(width), np.zeros(8)
        for n in range(heads):
            part = slice(n * H, (n + 1) * H)
            scores = (real_SD @ k[:, part]) @ (x_BTD[b, t] @ q[:, part]) / np.sqrt(H)
            weights = np.exp(scores) / np.exp(scores).sum()
            found[part] = weights @ (real_SD @ v[:, part])
            looked[: lengths_B[b]] += weights / heads
        np.testing.assert_allclose(found_BTD[b, t], found @ o, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(shown_BTS[b, t], looked, rtol=1e-4, atol=1e-6)


def test_configs_that_cannot_be_built_are_refused():
    for make, message in (
        (lambda: RecurrentTranslator(width=15), "width=15 does not split into two directions"),
        (lambda: RecurrentTranslator(dropout=1.0), "dropout=1.0"),
        (lambda: TransformerTranslator(width=10, heads=4), "width=10 is not divisible by heads=4"),
        (lambda: TransformerTranslator(layers=0), "layers=0 must be positive"),
    ):
        with pytest.raises(ConfigError, match=message):
            make()


def test_rows_beyond_the_context_are_refused(built):
    with pytest.raises(ConfigError, match="a source row of 13 tokens is longer than context=12"):
        built.model.encode(built.params, np.zeros((1, 13), np.int32), np.array([13]))
    with pytest.raises(ConfigError, match="a target row of 13 tokens is longer than context=12"):
        jax.eval_shape(built._features, built.params, SOURCE_BS, LENGTHS_B, np.zeros((3, 13), np.int32))


def test_parameters_are_counted_as_they_are(built):
    name = next(name for name, one in BUILT.items() if one is built)
    assert KINDS[name].parameter_count(PADDED) == sum(x.size for x in jax.tree.leaves(built.params))
