"""The parity matrix: every kernel against the float64 reference, in value and gradient; and nothing leaks."""

from functools import cache

import jax.numpy as jnp
import numpy as np
import pytest
from attention.reference import KERNELS, compiled_here, operands, reference, value_and_gradients

from gptjax.attention import Visible, blockwise, pallas, splash
from gptjax.attention.pallas import Tile, Tiles

pytestmark = pytest.mark.usefixtures("optimised")

T, S = 200, 136
F32, BF16 = jnp.float32, jnp.bfloat16
DOCUMENTS = np.stack([np.repeat([1, 2, 3, 0], [31, 70, 79, 20]), np.repeat([1, 2], [150, 50])]).astype(np.int32)
UNORDERED = np.stack([np.arange(T) // 9 % 4, np.arange(T) // 60 * -5]).astype(np.int32)
# Kind of mask, heads, key heads, head size, dtype: no two columns hide behind each other.
MATRIX = {
    "causal 64": (2, 2, 64, F32, Visible()),
    "causal 128 grouped bf16": (4, 2, 128, BF16, Visible()),
    "window 128 grouped": (4, 1, 128, F32, Visible(window=37)),
    "window 64 bf16": (2, 2, 64, BF16, Visible(window=130)),
    "documents 64 grouped": (4, 2, 64, F32, Visible(segments_BT=DOCUMENTS)),
    "documents 128 bf16": (2, 2, 128, BF16, Visible(segments_BT=DOCUMENTS)),
    "documents window 128": (2, 2, 128, F32, Visible(window=20, segments_BT=DOCUMENTS)),
    "everything 64 grouped bf16": (4, 1, 64, BF16, Visible(causal=False)),
    "unordered documents both ways 64": (2, 1, 64, F32, Visible(causal=False, segments_BT=UNORDERED)),
}
OTHER_KEYS = np.stack([np.repeat([1, 2], [100, 36]), np.repeat([1, 5], [36, 100])]).astype(np.int32)
BLOCKS_OF_SPLASH = splash.BLOCKS
CROSSED = {
    "window past the keys": Visible(window=9),
    "queries that see nothing": Visible(causal=False, segments_BT=DOCUMENTS, key_segments_BS=OTHER_KEYS),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks, of sizes that do not divide the lengths."""
    monkeypatch.setattr(blockwise, "BLOCK", 48)
    monkeypatch.setattr(splash, "BLOCKS", (128,))
    tiles = Tiles(Tile(32, 64), Tile(64, 32), Tile(32, 32))
    monkeypatch.setattr(pallas, "default_tiles", lambda *_: tiles)


@cache
def compiled(impl, case):
    N, K, H, dtype, visible = MATRIX[case]
    return compiled_here(impl, *operands(2, T, T, N, K, H, dtype), visible)


def assert_near(found, expected, dtype):
    for name, x, y in zip(("out", "dq", "dk", "dv"), found, expected, strict=True):
        assert x.dtype == dtype
        error, size = np.abs(np.asarray(x, np.float64) - y), np.sqrt(np.square(y).mean())
        if dtype == BF16:  # 8 bits: 2^-8 of a value, and of what went into it
            assert (error <= 0.02 * np.abs(y) + 0.1 * size).all(), (name, error.max() / size)
            assert np.sqrt(np.square(error).mean()) < 0.01 * size, name
        else:
            assert (error <= 2e-5 * (np.abs(y) + size)).all(), (name, error.max() / size)


@pytest.mark.parametrize("impl", KERNELS)
@pytest.mark.parametrize("case", MATRIX)
def test_every_kernel_equals_the_reference_in_value_and_gradient(impl, case):
    N, K, H, dtype, visible = MATRIX[case]
    given = operands(2, T, T, N, K, H, dtype)
    assert_near(compiled(impl, case)(*given, visible, None), reference(*given, visible), dtype)


@pytest.mark.parametrize("case", ["documents 128 bf16", "everything 64 grouped bf16", "causal 64"])
@pytest.mark.parametrize("fused_blocks", [1, 2])
def test_splash_has_the_same_gradients_from_one_kernel_and_from_two(case, fused_blocks, monkeypatch):
    monkeypatch.setattr(splash, "FUSED_BLOCKS", fused_blocks)
    N, K, H, dtype, visible = MATRIX[case]
    given = operands(2, T, T, N, K, H, dtype)
    assert_near(value_and_gradients("splash", *given, visible), reference(*given, visible), dtype)


@pytest.mark.parametrize(
    ("length", "dtype", "head_size", "visible", "block"),
    [
        (4096, BF16, 64, Visible(), 1024),
        (2048, BF16, 128, Visible(causal=False, segments_BT=DOCUMENTS), 1024),
        (1024, BF16, 64, Visible(), 512),
        (2560, BF16, 64, Visible(), 512),
        (4096, F32, 64, Visible(), 512),
        (4096, BF16, 256, Visible(), 512),
        (4096, BF16, 64, Visible(window=100), 512),
        (640, BF16, 64, Visible(), 128),
    ],
)
def test_blocks_of_splash_are_large_where_rows_are_long_and_small_floats_fit(length, dtype, head_size, visible, block):
    with pytest.MonkeyPatch.context() as own:
        own.setattr(splash, "BLOCKS", BLOCKS_OF_SPLASH)
        assert splash._block(length, dtype, head_size, visible) == block


@pytest.mark.parametrize("impl", ["dense", "blockwise", "pallas"])
@pytest.mark.parametrize("case", CROSSED)
def test_queries_and_keys_need_not_be_the_same_tokens(impl, case):
    given = operands(2, T, S, 2, 1, 64)
    assert_near(value_and_gradients(impl, *given, CROSSED[case]), reference(*given, CROSSED[case]), F32)


@pytest.mark.parametrize("impl", KERNELS)
def test_changing_a_document_changes_no_bit_of_another(impl):
    N, K, H, dtype, visible = MATRIX["documents 64 grouped"]
    given = operands(2, T, T, N, K, H, dtype)
    inside = jnp.asarray(DOCUMENTS == 2)[..., None, None]
    changed = [jnp.where(inside, jnp.flip(x) * 3, x) for x in given]
    run = compiled(impl, "documents 64 grouped")
    before, after = (run(*x, visible, None) for x in (given, changed))
    for x, y in zip(before, after, strict=True):
        same = np.asarray(x) == np.asarray(y)
        assert same[DOCUMENTS != 2].all()
        assert same[DOCUMENTS == 2].mean() < 0.05
