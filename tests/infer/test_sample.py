"""Sampling draws from the model's distribution, as its decoding says, and the cache changes nothing."""

import functools
import itertools
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.config import ConfigError
from gptjax.data.errors import DataError
from gptjax.infer import sample
from gptjax.infer.sample import Decoding, generate, likeliest, next_token
from gptjax.models.gpt import GPT
from gptjax.types import Model, Place

V, CONTEXT = 11, 8
PROMPTS = [np.array(p, np.int32) for p in ((1, 2, 3), (4,), (5, 6, 7, 8, 9, 10, 0), tuple(range(11)) * 2)]
KEY = jax.random.key(3)


def make_recurrent() -> Model:
    """A recurrent network whose state is its cache; it remembers all since the state was empty."""

    def step(params, state_BD, token_B, alive_B):
        new_BD = jnp.tanh(params["embed"][token_B] + state_BD @ params["mix"])
        return jnp.where(alive_B[:, None], new_BD, state_BD)

    def extend(params, inputs_BT, cache_BD, counts_B=None):
        counts_B = jnp.full(len(inputs_BT), inputs_BT.shape[1]) if counts_B is None else counts_B

        def read(state_BD, t_and_token_B):
            t, token_B = t_and_token_B
            state_BD = step(params, state_BD, token_B, t < counts_B)
            return state_BD, jnp.where((t < counts_B)[:, None], state_BD, jnp.nan)

        state_BD, states_TBD = jax.lax.scan(read, cache_BD, (jnp.arange(inputs_BT.shape[1]), inputs_BT.T))
        return states_TBD.swapaxes(0, 1), state_BD

    def features(params, inputs_BT, segments_BT=None, positions_BT=None, key=None):
        return extend(params, inputs_BT, cache(len(inputs_BT), 0, jnp.float32))[0]

    def head(params, features):
        return features @ params["head"]

    def init(key):
        keys = jax.random.split(key, 3)
        shapes = {"embed": (V, 6), "mix": (6, 6), "head": (6, V)}
        return {n: 2 * jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}

    def cache(rows, length, dtype):
        return jnp.zeros((rows, 6), dtype)

    return Model(init, lambda p, x: head(p, features(p, x)), features, head, cache, extend, CONTEXT, V)


SIZES = {"width": 16, "mlp_width": 32, "context": CONTEXT, "init_std": 0.3}
MODERN = GPT(2, heads=4, kv_heads=2, positions="rotary", norm="rms", mlp="swiglu", window=5, tied=False, **SIZES)
CLASSIC = GPT(1, heads=2, norm_place="post", **SIZES)
CPU = Place("cpu")
MODELS = {"recurrent": make_recurrent(), "classic": CLASSIC.build(V, V, CPU), "modern": MODERN.build(V, 16, CPU)}


@functools.cache
def made(name):
    """Made when a test first asks, not when tests are collected."""
    return MODELS[name].init(jax.random.key(5))


SAMPLED, GREEDY, TOKENS = Decoding(0.8, top_k=5, top_p=0.9), Decoding(temperature=0.0), 20
apply = jax.jit(lambda model, params, inputs_BT: model.apply(params, inputs_BT), static_argnums=0)
draw = jax.jit(next_token, static_argnums=2)


def uncached(name, row, decoding, eos_id=None):
    """The claim itself: every token from one pass over the row's latest tokens, whose start moves by half a context."""
    prompt = PROMPTS[row]
    tokens, start = list(prompt), max(0, len(prompt) - CONTEXT)
    for step in range(TOKENS):
        if len(tokens) - start > CONTEXT:
            start = len(tokens) - CONTEXT // 2
        seen = tokens[start:] + [0] * (CONTEXT - len(tokens) + start)
        logits_V = apply(MODELS[name], made(name), np.array([seen], np.int32))[0, len(tokens) - start - 1]
        token = int(draw(jnp.tile(logits_V, (4, 1)), jax.random.fold_in(KEY, step), decoding)[row])
        if token == eos_id:
            break
        tokens.append(token)
    return np.array(tokens[len(prompt) :], np.int32)


def cached(name, decoding=SAMPLED, prompts=PROMPTS, key=KEY, eos_id=None):
    return generate(MODELS[name], made(name), prompts, TOKENS, decoding, key, eos_id)


@pytest.mark.parametrize(
    ("name", "decoding"),
    [("recurrent", SAMPLED), ("classic", SAMPLED), ("modern", SAMPLED), ("recurrent", GREEDY)],
)
def test_cached_generation_equals_uncached_far_past_the_context(name, decoding):
    for row, tokens in enumerate(cached(name, decoding)):
        np.testing.assert_array_equal(tokens, uncached(name, row, decoding))


@pytest.mark.parametrize("name", ["recurrent", "modern"])
def test_a_row_ends_before_the_end_of_text_and_the_others_go_on(name):
    found = cached(name, eos_id=7)
    for row, tokens in enumerate(found):
        np.testing.assert_array_equal(tokens, uncached(name, row, SAMPLED, eos_id=7))
    assert len({len(tokens) for tokens in found}) > 1


def test_prompts_of_many_lengths_share_one_program():
    model = GPT(1, heads=2, **(SIZES | {"context": 64})).build(V, V)
    params, before = model.init(KEY), sample._generate._cache_size()
    for length in (17, 24, 32):
        (new,) = generate(model, params, [np.arange(length, dtype=np.int32) % V], 3, GREEDY, KEY)
        assert len(new) == 3
    assert sample._generate._cache_size() == before + 1


def test_the_same_key_gives_the_same_tokens_and_another_key_others():
    first, again, other = (cached("classic", key=jax.random.key(k)) for k in (1, 1, 2))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


def test_a_row_does_not_depend_on_the_rows_beside_it():
    four, others = (cached("classic", prompts=p) for p in (PROMPTS, [PROMPTS[2], PROMPTS[1], PROMPTS[3], PROMPTS[2]]))
    np.testing.assert_array_equal(four[1], others[1])
    assert not np.array_equal(others[0], others[3])


# Positions and wide weights make texts varied; the window is wider than the first cache, so that its keys are seen.
GROWING = GPT(2, heads=2, kv_heads=1, window=180, **(SIZES | {"context": 256, "init_std": 1.0})).build(V, V, CPU)
LONG = [np.arange(3, dtype=np.int32), np.arange(20, dtype=np.int32) % V]


def test_a_cache_grows_while_a_text_does_and_forgets_nothing():
    params = GROWING.init(KEY)
    lengths = sample._lengths(functools.partial(GROWING.cache, 2, dtype=jnp.float32), 32, 232)
    assert lengths == [132, 232]
    whole = generate(GROWING, params, LONG, 200, GREEDY, KEY)
    assert min(len(set(new.tolist())) for new in whole) > 5
    for prompt, new in zip(LONG, whole, strict=True):
        text_1T = np.zeros((1, 220), np.int32)
        text_1T[0, : len(prompt) + 200] = np.concatenate([prompt, new])
        logits_TV = np.asarray(apply(GROWING, params, text_1T))[0, len(prompt) - 1 : len(prompt) + 199]
        np.testing.assert_allclose(logits_TV[np.arange(200), new], logits_TV.max(-1), atol=1e-4)
    end = int(whole[0][100])
    for text, ended in zip(whole, generate(GROWING, params, LONG, 200, GREEDY, KEY, eos_id=end), strict=True):
        np.testing.assert_array_equal(ended, text[: list(text).index(end)] if end in text else text)


def test_few_new_tokens_and_a_memory_of_one_size_need_one_loop():
    assert sample._lengths(functools.partial(GROWING.cache, 2, dtype=jnp.float32), 32, 159) == [159]
    assert sample._lengths(functools.partial(MODELS["recurrent"].cache, 2, dtype=jnp.float32), 32, 232) == [232]


# --- the choice of one token ---

LOGITS_V = np.log(np.array([0.05, 0.4, 0.1, 0.3, 0.15], np.float32))


def drawn(decoding, logits_V=LOGITS_V, rows=4000):
    tokens = next_token(jnp.tile(logits_V, (rows, 1)), KEY, decoding)
    return np.bincount(tokens, minlength=len(logits_V)) / rows


def test_plain_sampling_draws_from_the_softmax():
    np.testing.assert_allclose(drawn(Decoding()), np.exp(LOGITS_V), atol=0.03)


def test_temperature_sharpens_and_zero_is_greedy():
    sharp = np.exp(LOGITS_V / 0.5)
    np.testing.assert_allclose(drawn(Decoding(temperature=0.5)), sharp / sharp.sum(), atol=0.03)
    assert drawn(Decoding(temperature=0.0))[1] == drawn(Decoding(temperature=1e-4), LOGITS_V * 1e4)[1] == 1.0


def test_the_likeliest_is_the_lowest_of_equal_ids_and_no_id_where_there_is_no_number():
    nan, inf = np.nan, np.inf
    logits_BV = np.array([[1, 3, 3], [-inf, 0, -inf], [-inf, -inf, -1], [0, nan, 1], [2, 1, 0]], np.float32)
    assert likeliest(logits_BV).tolist() == [1, 1, 2, 3, 0]


def test_top_k_keeps_the_k_likeliest_in_their_proportions():
    np.testing.assert_allclose(drawn(Decoding(top_k=2)), [0, 4 / 7, 0, 3 / 7, 0], atol=0.03)
    assert np.count_nonzero(drawn(Decoding(top_k=2), np.zeros(5, np.float32))) == 2


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.01, [1]), (0.39, [1]), (0.5, [1, 3]), (0.71, [1, 3, 4]), (1.0, range(5))]
)
def test_top_p_keeps_the_fewest_tokens_that_reach_the_sum(top_p, kept):
    assert np.flatnonzero(drawn(Decoding(top_p=top_p))).tolist() == sorted(kept)


def test_top_p_counts_what_top_k_leaves_after_the_temperature():
    # Of 0.4 and 0.3 the first has 4/7 = 0.571 alone, and 0.64 once the temperature is 0.5.
    kept = {
        d: np.flatnonzero(drawn(d)).tolist()
        for d in (Decoding(top_k=2, top_p=0.56), Decoding(top_k=2, top_p=0.6), Decoding(0.5, 2, 0.6))
    }
    assert list(kept.values()) == [[1], [1, 3], [1]]


def test_filters_that_keep_everything_change_nothing():
    plain, *filtered = (
        np.asarray(next_token(jnp.tile(LOGITS_V, (4000, 1)), KEY, d))
        for d in (Decoding(), Decoding(top_k=5), Decoding(top_k=99), Decoding(top_p=1.0))
    )
    for tokens in filtered:
        np.testing.assert_array_equal(tokens, plain)


def test_padding_of_the_vocabulary_is_never_drawn():
    logits_V = np.array([0.0, 0.0, -np.inf, -np.inf, -np.inf], np.float32)
    for temperature, top_k, top_p in itertools.product((0.0, 1.0), (None, 4), (None, 1.0)):
        assert drawn(Decoding(temperature, top_k, top_p), logits_V)[2:].sum() == 0


# --- what can go wrong ---


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": -1.0}, "temperature=-1.0 is neither 0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0 must be positive"),
        ({"top_p": 1.5}, "top_p=1.5 is not in"),
    ],
)
def test_a_decoding_that_makes_no_sense_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Decoding(**fields)


def test_prompts_that_cannot_be_read_are_refused():
    model, params = MODELS["recurrent"], made("recurrent")
    with pytest.raises(DataError, match="prompt 1 has no tokens"):
        generate(model, params, [PROMPTS[0], np.zeros(0, np.int32)], 5, Decoding(), KEY)
    with pytest.raises(DataError, match="prompt 0 has id 11, not below the model's vocabulary of 11"):
        generate(model, params, [np.array([11])], 5, Decoding(), KEY)
    with pytest.raises(ConfigError, match="max_tokens=0 must be positive"):
        generate(model, params, PROMPTS, 0, Decoding(), KEY)


def test_damaged_parameters_are_refused_and_not_sampled():
    broken = jax.tree.map(lambda x: x * jnp.nan, made("recurrent"))
    with pytest.raises(FloatingPointError, match="not numbers"):
        generate(MODELS["recurrent"], broken, PROMPTS, 5, Decoding(temperature=0.0), KEY)


# --- last, for what follows would be optimised too ---


@pytest.mark.usefixtures("optimised")
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="it reads what a CPU's compiler made")
@pytest.mark.parametrize("kv_heads", [4, 1])
def test_no_step_of_the_loop_copies_a_cache_or_takes_a_layer_out_of_the_stack(kv_heads):
    model = GPT(2, heads=4, kv_heads=kv_heads, mlp_width=32, width=16, context=64).build(V, V, CPU)
    params, tokens_BW = jax.eval_shape(model.init, KEY), np.zeros((1, 60), np.int32)
    made = sample._generate.lower(model, 20, GREEDY, None, params, tokens_BW, np.full(1, 40, np.int32), KEY).compile()
    loop = max((text for text in made.as_text().split("\n\n") if "ENTRY" not in text), key=len)
    caches = re.findall(rf" = f32\[1,{kv_heads},60,4\]\S* (\w+)\(", loop)
    assert caches.count("fusion") == 4  # keys and values of both layers, written where they are
    assert "copy" not in caches
    assert " = f32[16,32]" in loop  # layers come into the loop
    assert not re.search(r"slice\S* = f32\[(16,16|16,32|32,16)\]", loop)
    # Products that the compiler took for such, none for sums: of queries, keys and values; o and down; up; logits.
    products = Counter(map(int, re.findall(r" = f32\[(?:1,)?(\d+)\]\S* dot\(", loop)))
    assert products == {16 + 8 * kv_heads: 2, 16: 4, 32: 2, V: 1}
