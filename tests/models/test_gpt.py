"""Claims about the GPT family's configuration: sizes, costs, and what is refused."""

from dataclasses import replace

import jax
import numpy as np
import optax
import pytest

from gptjax.config import ConfigError, from_json, to_json
from gptjax.models.gpt import GPT

GPT1 = GPT(context=512, norm_place="post", residual_init="plain", dropout=0.1)
SMALL = GPT(layers=3, width=128, heads=4, mlp_width=512, context=64)


def test_parameter_counts_are_the_published_ones():
    assert GPT1.parameter_count(40478) == 116_534_784
    assert GPT().parameter_count(50257) == 124_439_808
    llama = GPT(
        layers=32, width=4096, heads=32, mlp_width=11008, context=2048, positions="rotary", norm="rms", mlp="swiglu",
        bias=False, tied=False,
    )  # fmt: skip
    assert llama.parameter_count(32000) == 6_738_415_616


def test_flops_count_products_and_attention_in_both_conventions():
    whole, causal = GPT().flops_per_token(50257, 1024)
    assert round(whole / 1e6) == 855
    assert round(causal / 1e6) == 799
    attention = 12 * 12 * 1024 * 768
    assert whole - 2 * (whole - causal) == whole - attention
    narrow = replace(GPT(), window=1024).flops_per_token(50257, 1024)
    assert narrow == (whole, causal)
    assert replace(GPT(), window=256).flops_per_token(50257, 1024)[0] == whole - attention * 3 / 4
    untied = replace(GPT(), tied=False).flops_per_token(50257, 1024)
    assert untied == (whole, causal)  # a look-up multiplies nothing


@pytest.mark.parametrize(
    "config",
    [
        replace(SMALL, norm_place="post", residual_init="plain"),
        SMALL,
        replace(SMALL, width=512, heads=8, tied=False, norm="rms", mlp="swiglu", positions="rotary", bias=False),
        replace(SMALL, residual_init="zero", qk_norm=True, mlp="relu2"),
    ],
    ids=["gpt1", "gpt2", "modern", "zero"],
)
def test_initial_loss_is_within_two_percent_of_ln_v(config):
    vocab_size, key = 1000, jax.random.key(0)
    model = config.build(vocab_size, 1024)

    @jax.jit
    def nats(key):
        tokens_BT = jax.random.randint(key, (4, 65), 0, vocab_size)
        logits_BTV = model.apply(model.init(key), tokens_BT[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits_BTV, tokens_BT[:, 1:]).mean()

    assert abs(float(nats(key)) / np.log(vocab_size) - 1) < 0.02


def test_parameters_have_the_paths_that_others_rely_on():
    config = replace(SMALL, mlp="swiglu", qk_norm=True, tied=False, kv_heads=2)
    shapes = jax.eval_shape(config.build(65, 128).init, jax.random.key(0))
    paths = {
        jax.tree_util.keystr(path, simple=True, separator="/"): x.shape for path, x in jax.tree.leaves_with_path(shapes)
    }
    attn = {f"blocks/attn/{n}/kernel": (3, 128, 128 if n in "qo" else 64) for n in "qkvo"}
    attn |= {f"blocks/attn/{n}/bias": (3, 128 if n in "qo" else 64) for n in "qkvo"}
    attn |= {f"blocks/attn/{n}_norm/scale": (3, 32) for n in "qk"}
    mlp = {f"blocks/mlp/{n}/kernel": (3, 128, 512) for n in ("up", "gate")}
    mlp |= {f"blocks/mlp/{n}/bias": (3, 512) for n in ("up", "gate")}
    mlp |= {"blocks/mlp/down/kernel": (3, 512, 128), "blocks/mlp/down/bias": (3, 128)}
    norms = {f"blocks/{n}_norm/{leaf}": (3, 128) for n in ("attn", "mlp") for leaf in ("scale", "bias")}
    norms |= {f"final_norm/{leaf}": (128,) for leaf in ("scale", "bias")}
    embed = {"embed/tokens": (128, 128), "embed/positions": (64, 128), "head/kernel": (128, 128)}
    assert paths == attn | mlp | norms | embed
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {np.dtype("float32")}


def test_residual_matrices_start_as_their_field_says():
    small = replace(SMALL, width=64, mlp_width=128)
    for kind, std in {"plain": 0.02, "scaled": 0.02 / 6**0.5, "zero": 0.0}.items():
        blocks = jax.jit(replace(small, residual_init=kind).build(5, 5).init)(jax.random.key(0))["blocks"]
        for matrix in (blocks["attn"]["o"]["kernel"], blocks["mlp"]["down"]["kernel"]):
            assert abs(np.std(matrix) - std) < 0.05 * std + 1e-9
        layers = np.asarray(blocks["attn"]["q"]["kernel"])
        assert not np.array_equal(layers[0], layers[1])  # every layer draws its own


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 100, "heads": 3}, "width=100 is not divisible by heads=3"),
        ({"kv_heads": 3}, "heads=4 is not divisible by kv_heads=3"),
        ({"kv_heads": 0}, "kv_heads=0 must be positive"),
        ({"width": 20, "positions": "rotary"}, "even head size"),
        ({"layers": 0}, "layers=0 must be positive"),
        ({"dropout": 1.0}, r"dropout=1.0 must be in \[0, 1\)"),
        ({"window": 0}, "window=0 must be positive"),
        ({"logit_softcap": 0.0}, "logit_softcap=0.0 must be positive"),
        ({"mlp": "relu"}, "mlp='relu' is not one of"),
    ],
)
def test_a_wrong_field_is_refused_in_one_line(fields, message):
    with pytest.raises(ConfigError, match=message) as caught:
        replace(SMALL, **fields)
    assert "\n" not in str(caught.value)


def test_a_vocabulary_larger_than_its_padding_is_refused():
    with pytest.raises(ConfigError, match="vocab_size=66"):
        SMALL.build(66, 65)


def test_the_config_survives_json():
    config = replace(SMALL, kv_heads=2, window=7, logit_softcap=30.0)
    assert from_json(to_json(config)) == config
