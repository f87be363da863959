"""Claims about which kernel serves: a name is obeyed or refused, and nothing slow is chosen silently."""

import json
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.attention import Call, Visible, attend, choose
from gptjax.config import ConfigError
from gptjax.plan import devices
from gptjax.types import Place

SEGMENTS = Visible(segments_BT=np.ones((1, 64), np.int32))
OFFSETS = Visible(offsets_B=np.zeros(1, np.int32))
CPU, GPU, TPU = map(Place, ("cpu", "gpu", "tpu"))
OF = {"cudnn": GPU, "pallas": GPU, "splash": TPU}


def arguments(T=16, N=4, K=2, H=8, dtype=jnp.float32):
    q = jnp.ones((1, T, N, H), dtype)
    return q, q[:, :, :K], q[:, :, :K]


def call(dtype=jnp.bfloat16, length=1024, head_size=64, visible=Visible(), dropout=0.0, heads=(4, 2)):  # noqa: B008
    return Call(dtype, length, length, *heads, head_size, visible, dropout)


@pytest.mark.parametrize(
    ("name", "asked", "reason"),
    [
        ("cudnn", call(jnp.float32), "float32"),
        ("cudnn", call(head_size=60), "not 60"),
        ("cudnn", call(head_size=256), "not 256"),
        ("cudnn", call(visible=SEGMENTS), "segments"),
        ("cudnn", call(visible=OFFSETS), "cache"),
        ("cudnn", call(dropout=0.1), "dropout=0.1"),
        ("pallas", call(jnp.float64), "float64"),
        ("pallas", call(jnp.float32, head_size=80), "not 80"),
        ("pallas", call(visible=OFFSETS), "cache"),
        ("pallas", call(dropout=0.1), "dropout=0.1"),
        ("splash", call(jnp.float16), "float16"),
        ("splash", call(head_size=80), "not 80"),
        ("splash", call(visible=OFFSETS), "cache"),
        (
            "splash",
            call(visible=Visible(segments_BT=SEGMENTS.segments_BT, key_segments_BS=SEGMENTS.segments_BT)),
            "same",
        ),
        ("splash", call(dropout=0.1), "dropout=0.1"),
    ],
)
def test_a_kernel_by_name_is_refused_where_it_cannot_serve_and_auto_goes_round_it(name, asked, reason):
    with pytest.raises(ConfigError, match=f"{name}.*{reason}.*auto") as caught:
        choose(name, OF[name], asked)
    assert "\n" not in str(caught.value)
    chosen, why = choose("auto", OF[name], asked)
    assert chosen != name
    assert reason in why


@pytest.mark.parametrize("name", OF)
def test_a_kernel_of_another_machine_is_refused(name):
    for place in {CPU, GPU, TPU} - {OF[name]}:
        with pytest.raises(ConfigError, match=f"{name}.*runs on a {OF[name].platform}, not on a {place.platform}"):
            choose(name, place, call())


def test_auto_takes_the_fused_kernel_of_the_machine():
    for visible in (Visible(), Visible(window=7), Visible(causal=False)):
        assert choose("auto", GPU, call(visible=visible)).name == "cudnn"
    for dtype in (jnp.bfloat16, jnp.float32):
        for head_size in (64, 128):
            for visible in (SEGMENTS, Visible(window=7, segments_BT=SEGMENTS.segments_BT)):
                assert choose("auto", GPU, call(dtype, 4096, head_size, visible)).name == "pallas"
                assert choose("auto", TPU, call(dtype, 4096, head_size, visible)).name == "splash"


@pytest.mark.parametrize("place", [CPU, GPU, TPU])
def test_auto_never_takes_a_long_square_of_scores(place):
    for length in (512, 1024, 8192):
        assert choose("auto", place, call(length=length, head_size=48, visible=SEGMENTS)).name == "blockwise"
    assert choose("auto", place, call(visible=OFFSETS)._replace(queries=1)).name == "dense"


def test_auto_takes_all_scores_at_once_for_short_rows_on_a_cpu():
    assert choose("auto", CPU, call(jnp.float32, 64, 32, dropout=0.1)).name == "dense"


@pytest.mark.parametrize("place", [GPU, TPU])
def test_a_slower_kernel_on_an_accelerator_is_said_aloud(place):
    with pytest.warns(RuntimeWarning, match="blockwise.*not 8"):
        attend(*arguments(), Visible(), place=place)


def test_heads_that_do_not_split_over_the_mesh_are_refused_and_others_are_not():
    mesh = SimpleNamespace(shape={"tensor": 4})
    place = Place("tpu", mesh, heads=("tensor",))
    for heads in ((8, 8), (8, 4), (8, 2), (8, 1), (4, 1)):
        assert choose("splash", place, call(heads=heads)).name == "splash"
    for heads in ((6, 6), (6, 2), (12, 3)):
        with pytest.raises(ConfigError, match=f"heads={heads[0]}, kv_heads={heads[1]} do not split over tensor=4"):
            choose("splash", place, call(heads=heads))


def test_an_unknown_kernel_is_refused_by_name():
    with pytest.raises(ConfigError, match="'flash' is not one of auto, dense, blockwise, cudnn, pallas, splash"):
        attend(*arguments(), Visible(), "flash")


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ConfigError, match="heads=4 is not divisible by kv_heads=3"):
        attend(*arguments(K=3), Visible())


@pytest.mark.skipif(not devices.missing("gpu"), reason="cuDNN is installed here, with the compilers that plan needs")
def test_cudnn_that_is_not_installed_is_one_clear_line():
    with pytest.raises(ConfigError, match="not installed") as caught:
        attend(*arguments(dtype=jnp.bfloat16), Visible(), "cudnn", place=GPU)
    assert "\n" not in str(caught.value)


def lowered_for_cuda(visible):
    """The program of value and gradient that a CUDA machine would be given; needs neither GPU nor cuDNN."""

    def loss(q, k, v):
        return jnp.sum(attend(q, k, v, visible, "cudnn", place=GPU).astype(jnp.float32))

    operands = arguments(T=256, H=64, dtype=jnp.bfloat16)
    return jax.jit(jax.grad(loss, (0, 1, 2))).trace(*operands).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.usefixtures("cudnn_claimed")
@pytest.mark.parametrize(
    ("visible", "mask", "window"),
    [(Visible(), "CAUSAL", 0), (Visible(window=5), "CAUSAL", 5), (Visible(causal=False), "NO_MASK", 0)],
)
def test_cudnn_lowers_to_fused_calls_forward_and_backward(visible, mask, window):
    text = lowered_for_cuda(visible)
    assert "__cudnn$fmhaSoftmax(" in text or '"__cudnn$fmhaSoftmax"' in text
    assert "__cudnn$fmhaSoftmaxBackward" in text
    configs = [json.loads(found.replace("\\22", '"')) for found in re.findall(r'backend_config = "(\{.*?\})"', text)]
    configs = [c["cudnn_fmha_backend_config"] for c in configs]
    assert len(configs) == 2
    for config in configs:
        assert config["mask_type"] == mask
        assert config["sliding_window_length"] == window
    assert "256x256" not in text  # no square of scores or mask
