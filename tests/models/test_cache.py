"""Claims about reading tokens piece by piece: a cached model is the same model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from gptjax.config import ConfigError

COUNTS = np.array([[7, 2, 5], [6, 6, 1], [0, 3, 6]])
"""Real tokens of each piece of 7 and each row: ragged, an empty one among them."""


def pieces(inputs):
    """Rows cut into right-padded pieces of the counts, padding filled with a token that would be seen to leak."""
    start = np.zeros(3, int)
    for counts_B in COUNTS:
        piece = np.full((3, 7), 52)
        for row, count in enumerate(counts_B):
            piece[row, :count] = inputs[row, start[row] : start[row] + count]
        yield piece, counts_B, start.copy()
        start += counts_B


def test_cached_features_equal_uncached_ones_for_ragged_rows(built, inputs):
    expected = np.asarray(built.features(built.params, inputs))
    cache = built.model.cache(3, 20, jnp.float32)
    for piece, counts_B, start_B in pieces(inputs):
        features, cache = built.extend(built.params, piece, cache, counts_B)
        features = np.asarray(features)
        for row, (count, start) in enumerate(zip(counts_B, start_B, strict=True)):
            assert_allclose(features[row, :count], expected[row, start : start + count], rtol=1e-4, atol=1e-5)
    assert np.array_equal(cache.lengths_B, COUNTS.sum(0))


def test_token_by_token_equals_all_at_once(built, inputs):
    expected = np.asarray(built.features(built.params, inputs))
    cache = built.model.cache(3, 20, jnp.float32)
    for t in range(20):
        features, cache = built.extend(built.params, inputs[:, t : t + 1], cache)
        assert_allclose(features[:, 0], expected[:, t], rtol=1e-4, atol=1e-5)


def test_padding_leaves_no_trace_in_the_cache(built, inputs):
    empty = built.model.cache(3, 20, jnp.float32)
    counts_B = np.array([7, 2, 0])
    _, cache = built.extend(built.params, inputs[:, :7], empty, counts_B)
    for keys_BKSH, values_BKSH, *_ in cache.layers:
        for row, count in enumerate((7, 2, 0)):
            for memory in (np.asarray(keys_BKSH), np.asarray(values_BKSH)):
                assert memory[row, :, :count].any(axis=(0, 2)).all()
                assert not memory[row, :, count:].any()


def test_padding_never_wraps_or_overwrites_at_the_end_of_the_cache(built, inputs):
    cache = built.model.cache(3, 20, jnp.float32)
    for start in (0, 7):
        _, cache = built.extend(built.params, inputs[:, start : start + 7], cache, np.full(3, 7))
    piece = np.concatenate([inputs[:, 14:20], inputs[:, :1]], axis=1)
    features, cache = built.extend(built.params, piece, cache, np.full(3, 6))
    expected = built.features(built.params, inputs)
    assert_allclose(features[:, :6], expected[:, 14:], rtol=1e-4, atol=1e-5)


def test_a_cache_holds_the_dtype_that_it_was_asked_for(built, inputs):
    cache = built.model.cache(3, 20, jnp.bfloat16)
    _, cache = jax.eval_shape(built.model.extend, built.params, inputs[:, :7], cache)
    assert {x.dtype for layer in cache.layers for x in layer} == {np.dtype(jnp.bfloat16)}


def test_a_cache_longer_than_learnt_positions_is_refused(gpt2):
    with pytest.raises(ConfigError, match="a cache of 25 tokens is longer than context=24"):
        gpt2.build(53, 53).cache(1, 25, jnp.float32)


@pytest.mark.parametrize(("rows", "rounding"), [(1, 1e-5), (3, 1e-6)])  # a row alone is summed in another order
def test_prepared_parameters_are_read_as_the_stacked_ones_are(built, inputs, rows, rounding):
    model, prepared, inputs = built.model, built.model.prepare(built.params, rows), inputs[:rows]
    assert len(prepared["blocks"]) == built.config.layers
    for block in prepared["blocks"]:
        assert ("qkv" in block["attn"]) == (rows == 1) != ("q" in block["attn"])
        assert ("transposed" in block["mlp"]["down"]) == (rows == 1) != ("kernel" in block["mlp"]["down"])
        assert "kernel" in block["attn"]["o"]  # as wide as tall
    assert prepared["head"]["kernel"].shape == (built.config.width, 64)
    cache = model.cache(rows, 20, jnp.float32)
    expected, after = built.extend(built.params, inputs[:, :7], cache)
    found, kept = built.extend(prepared, inputs[:, :7], cache)
    assert_allclose(found, expected, rtol=1e-5, atol=rounding)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-5, atol=rounding), kept, after)
    logits = model.head(built.params, expected)
    assert_allclose(model.head(prepared, expected), logits, rtol=1e-5, atol=1e-5)
