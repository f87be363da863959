"""Claims about which kernel serves: a name is obeyed or refused, and nothing slow is chosen silently."""

import json
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.attention import Visible, attend, choose
from gptjax.config import ConfigError

SEGMENTS = Visible(segments_BT=np.ones((1, 64), np.int32))
OFFSETS = Visible(offsets_B=np.zeros(1, np.int32))


def arguments(T=16, N=4, K=2, H=8, dtype=jnp.float32):
    q = jnp.ones((1, T, N, H), dtype)
    return q, q[:, :, :K], q[:, :, :K]


@pytest.mark.parametrize(
    ("dtype", "head_size", "visible", "dropout", "reason"),
    [
        (jnp.float32, 64, Visible(), 0.0, "float32"),
        (jnp.bfloat16, 60, Visible(), 0.0, "not 60"),
        (jnp.bfloat16, 256, Visible(), 0.0, "not 256"),
        (jnp.bfloat16, 64, SEGMENTS, 0.0, "segments"),
        (jnp.bfloat16, 64, OFFSETS, 0.0, "cache"),
        (jnp.bfloat16, 64, Visible(), 0.1, "dropout=0.1"),
    ],
)
def test_cudnn_by_name_is_refused_where_it_cannot_serve_and_auto_goes_round_it(
    dtype, head_size, visible, dropout, reason
):
    shape = (1024, 1024, head_size)
    with pytest.raises(ConfigError, match=reason) as caught:
        choose("cudnn", "gpu", dtype, shape, visible, dropout)
    assert "\n" not in str(caught.value)
    name, why = choose("auto", "gpu", dtype, shape, visible, dropout)
    assert name == "blockwise"
    assert reason in why


def test_auto_takes_the_fused_kernel_on_a_gpu():
    for visible in (Visible(), Visible(window=7), Visible(causal=False)):
        assert choose("auto", "gpu", jnp.bfloat16, (1024, 1024, 64), visible, 0.0)[0] == "cudnn"


@pytest.mark.parametrize("platform", ["cpu", "gpu", "cuda", "tpu"])
def test_auto_never_takes_a_long_square_of_scores(platform):
    for length in (512, 1024, 8192):
        assert choose("auto", platform, jnp.float32, (length, length, 64), Visible(), 0.0)[0] == "blockwise"
    assert choose("auto", platform, jnp.float32, (1, 8192, 64), OFFSETS, 0.0)[0] == "dense"


def test_auto_takes_all_scores_at_once_for_short_rows_on_a_cpu():
    assert choose("auto", "cpu", jnp.float32, (64, 64, 32), Visible(), 0.1)[0] == "dense"


def test_a_slower_kernel_on_a_gpu_is_said_aloud(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.warns(RuntimeWarning, match="blockwise.*float32"):
        attend(*arguments(), Visible())


def test_an_unknown_kernel_is_refused_by_name():
    with pytest.raises(ConfigError, match="'flash' is not one of auto, dense, blockwise, cudnn"):
        attend(*arguments(), Visible(), "flash")


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ConfigError, match="heads=4 is not divisible by kv_heads=3"):
        attend(*arguments(K=3), Visible())


def test_cudnn_that_is_not_installed_is_one_clear_line():
    with pytest.raises(ConfigError, match="not installed") as caught:
        attend(*arguments(dtype=jnp.bfloat16), Visible(), "cudnn")
    assert "\n" not in str(caught.value)


def lowered_for_cuda(visible, monkeypatch):
    """The program of value and gradient that a CUDA machine would be given; needs neither GPU nor cuDNN."""
    library = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
    monkeypatch.setattr(library, "cuda_versions", types.SimpleNamespace(cudnn_get_version=lambda: 91000), raising=True)

    def loss(q, k, v):
        return jnp.sum(attend(q, k, v, visible, "cudnn").astype(jnp.float32))

    operands = arguments(T=256, H=64, dtype=jnp.bfloat16)
    return jax.jit(jax.grad(loss, (0, 1, 2))).trace(*operands).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize(
    ("visible", "mask", "window"),
    [(Visible(), "CAUSAL", 0), (Visible(window=5), "CAUSAL", 5), (Visible(causal=False), "NO_MASK", 0)],
)
def test_cudnn_lowers_to_fused_calls_forward_and_backward(visible, mask, window, monkeypatch):
    text = lowered_for_cuda(visible, monkeypatch)
    assert "__cudnn$fmhaSoftmax(" in text or '"__cudnn$fmhaSoftmax"' in text
    assert "__cudnn$fmhaSoftmaxBackward" in text
    configs = [json.loads(found.replace("\\22", '"')) for found in re.findall(r'backend_config = "(\{.*?\})"', text)]
    configs = [c["cudnn_fmha_backend_config"] for c in configs]
    assert len(configs) == 2
    for config in configs:
        assert config["mask_type"] == mask
        assert config["sliding_window_length"] == window
    assert "256x256" not in text  # no square of scores or mask
