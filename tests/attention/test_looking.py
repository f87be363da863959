"""Claims about the attention weights that those who look inside are given."""

import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.attention import Visible, attend
from gptjax.attention.dense import looking

T = 9
SEGMENTS = np.array([[1] * 4 + [2] * 3 + [0] * 2, [1] * 9], np.int32)
CASES = {
    "causal": (4, 4, Visible()),
    "grouped, windowed": (4, 2, Visible(window=3)),
    "one key head, documents": (6, 1, Visible(segments_BT=SEGMENTS)),
    "both sides": (2, 2, Visible(causal=False, segments_BT=SEGMENTS)),
}


@pytest.mark.parametrize(("case", "impl"), [*((case, "dense") for case in CASES), ("grouped, windowed", "blockwise")])
def test_weights_sum_to_one_are_nothing_where_a_query_does_not_see_and_reproduce_the_output(case, impl):
    heads, kv_heads, visible = CASES[case]
    random = np.random.default_rng(0)
    q_BTNH, k_BSKH, v_BSKH = (
        jnp.asarray(random.normal(size=(2, T, n, 8)), jnp.float32) for n in (heads, kv_heads, kv_heads)
    )
    seen = []
    out_BTNH = looking(seen)(q_BTNH, k_BSKH, v_BSKH, visible, dropout=0.5, key=None)
    [weights_BNTS] = map(np.asarray, seen)
    assert weights_BNTS.shape == (2, heads, T, T)
    np.testing.assert_allclose(weights_BNTS.sum(-1), 1, rtol=1e-5)
    hidden_BTS = np.broadcast_to(~np.asarray(visible.whole_mask(T, T)), (2, T, T))
    assert hidden_BTS.any()
    assert np.all(np.where(hidden_BTS[:, None], weights_BNTS, 0) == 0)
    assert np.all(weights_BNTS[~np.broadcast_to(hidden_BTS[:, None], weights_BNTS.shape)] > 0)
    values_BSNH = np.repeat(np.asarray(v_BSKH), heads // kv_heads, axis=2)
    by_hand = np.einsum("bnts,bsnh->btnh", weights_BNTS, values_BSNH)
    np.testing.assert_allclose(by_hand, out_BTNH, atol=1e-6)
    normal = attend(q_BTNH, k_BSKH, v_BSKH, visible, impl=impl)
    np.testing.assert_allclose(by_hand, normal, atol=2e-6)
