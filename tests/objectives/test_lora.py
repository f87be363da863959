"""Claims about low-rank adapters."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax import config
from gptjax.config import ConfigError
from gptjax.data.tokenizers import Bytes
from gptjax.models.encoder_decoder_transformer import TransformerTranslator
from gptjax.models.gpt import GPT
from gptjax.models.recurrent import Recurrent
from gptjax.objectives.causal import Causal
from gptjax.objectives.lora import Lora, _dropped, at
from gptjax.objectives.tasks import Classification
from gptjax.types import Batch

V = 24
SMALL = GPT(layers=2, width=16, heads=4, kv_heads=2, mlp_width=24, context=8, attention="dense", dropout=0.1)
LORA = Lora(of=Causal(), rank=3, alpha=12.0, targets=("attn/(q|v|o)", "mlp/.*"))


@cache
def built(lora=LORA, model=SMALL):
    made = model.build(V, V)
    return made, lora.build(made, None)


@cache
def begun(objective):
    """Its first parameters."""
    return jax.jit(objective.init)(jax.random.key(0))


def batch():
    ids = np.random.default_rng(0).integers(0, V, (3, 9)).astype(np.int32)
    return Batch(ids[:, :-1], ids[:, 1:], np.ones((3, 8), np.float32), None, None)


def drawn(params):
    """Adapters that have learnt something."""
    draws = np.random.default_rng(1)
    adapter = jax.tree.map(lambda x: jnp.asarray(draws.normal(size=x.shape) * 0.3, jnp.float32), params["adapter"])
    return {**params, "adapter": adapter}


def named(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(x) for path, x in leaves}


def test_untrained_adapters_leave_parameters_and_logits_bit_for_bit_the_base_s():
    model, objective = built()
    params = begun(objective)
    base = named(begun(Causal().build(model, None)))
    for found in (LORA.merged(params), {"model": params["model"]}):
        assert named(found).keys() == base.keys()
        for path, value in named(found).items():
            np.testing.assert_array_equal(value, base[path], err_msg=path)
    own = named(params["adapter"])
    assert all(np.any(own[path]) == path.endswith("A/kernel") for path in own)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_merged_kernel_is_the_frozen_one_and_the_scaled_product_layer_by_layer(precision):
    _, objective = built()
    params = jax.tree.map(lambda x: x.astype(precision), drawn(begun(objective)))
    before, after = named(params["model"]), named(LORA.merged(params)["model"])
    changed = {path for path in after if np.any(after[path] != before[path])}
    assert changed == {f"blocks/{layer}/kernel" for layer in ("attn/q", "attn/v", "attn/o", "mlp/up", "mlp/down")}
    for path in changed:
        a, b = (np.asarray(x, np.float64) for x in at(params["adapter"], path))
        assert a.shape[-1] == b.shape[-2] == 3
        for layer in range(2):
            expected = before[path][layer].astype(np.float64) + 12.0 / 3 * a[layer] @ b[layer]
            np.testing.assert_allclose(
                after[path][layer].astype(np.float64), expected, atol=1e-6, rtol=1e-2 if precision == "bfloat16" else 0
            )


def test_the_loss_of_adapters_beside_the_model_is_that_of_the_merged_one():
    model, objective = built()
    params = drawn(begun(objective))
    total, count, _ = jax.jit(objective.loss)(params, batch(), None)
    expected, _, _ = jax.jit(Causal().build(model, None).loss)(LORA.merged(params), batch(), None)
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    base, _, _ = jax.jit(objective.loss)(begun(objective), batch(), None)
    assert count == 24
    assert abs(float(total) - float(base)) > 0.01


def test_merged_parameters_are_judged_by_the_same_loss():
    _, objective = built()
    params = drawn(begun(objective))
    assert LORA.merged(LORA.merged(params)).keys() == {"model"}
    first, second = (jax.jit(objective.loss)(p, batch(), None)[0] for p in (params, LORA.merged(params)))
    assert first == second


def test_the_model_is_frozen_but_for_what_is_named_and_heads_are_not():
    lora = Lora(of=Classification(lm_weight=0.0), whole=("embed/tokens", ".*norm/scale"))
    objective = lora.build(SMALL.build(259, 259), Bytes(eos=False).build(None))
    trained = {path for path in named(begun(objective)) if not objective.frozen(path)}
    assert trained == {
        *(f"adapter/blocks/attn/{x}/{part}/kernel" for x in "qv" for part in "AB"),
        *(f"model/{x}" for x in ("embed/tokens", "blocks/attn_norm/scale", "blocks/mlp_norm/scale")),
        "model/final_norm/scale",
        "head/kernel",
        "head/bias",
    }


def test_kernels_of_any_family_are_adapted_gate_by_gate():
    _, objective = built(replace(LORA, targets=("input", "recurrent")), Recurrent(width=8, embed_width=8, layers=1))
    params = begun(objective)
    assert params["adapter"]["layer_0"]["input"]["A"]["kernel"].shape == (4, 8, 3)
    gradient = jax.jit(jax.grad(lambda p: objective.loss(p, batch(), None)[0]))(params)
    own = named(gradient["adapter"])
    assert all(np.any(x) == path.endswith("B/kernel") for path, x in own.items())  # B is 0, so A has none yet


def test_a_recurrent_state_is_carried_through_adapted_parameters():
    lora = replace(LORA, targets=("recurrent",))
    _, objective = built(lora, Recurrent(width=8, embed_width=8, layers=1))
    params, rows = drawn(begun(objective)), batch()._replace(positions=np.arange(8)[None] + [[0]] * 3)
    total, *_ = jax.jit(objective.carried.loss)(params, rows, None, objective.carried.start(3))
    expected, *_ = jax.jit(objective.loss)(params, rows, None)
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_gradients_of_adapters_are_those_of_the_kernel_through_the_scaled_product():
    """dL/dA = s dL/dW B^T and dL/dB = s A^T dL/dW, where dL/dW is that of the merged model."""
    model, objective = built(LORA, replace(SMALL, dropout=0.0))
    params = drawn(begun(objective))
    own = jax.jit(jax.grad(lambda p: objective.loss(p, batch(), jax.random.key(0))[0]))(params)["adapter"]
    plain = Causal().build(model, None)
    whole = named(jax.jit(jax.grad(lambda p: plain.loss(p, batch(), None)[0]))(LORA.merged(params))["model"])
    for layer in ("attn/q", "attn/v", "attn/o", "mlp/up", "mlp/down"):
        path = f"blocks/{layer}/kernel"
        (a, b), (found_a, found_b) = at(params["adapter"], path), at(own, path)
        np.testing.assert_allclose(found_a, 4 * whole[path] @ np.swapaxes(b, 1, 2), atol=1e-4, err_msg=path)
        np.testing.assert_allclose(found_b, 4 * np.swapaxes(a, 1, 2) @ whole[path], atol=1e-4, err_msg=path)


def hidden(key, rate):
    """(kernel, what dropout makes of it) of every A and of every B, by path."""
    adapter = drawn(begun(built()[1]))["adapter"]
    before, after = named(adapter), named(_dropped(adapter, rate, jax.random.key(key)))
    return {path: (before[path], after[path]) for path in before}


def test_dropout_leaves_out_whole_inputs_of_an_adapter_and_raises_the_others_so_that_the_mean_stays():
    shares = []
    for key in range(20):
        for path, (before, after) in hidden(key, 0.25).items():
            if path.endswith("B/kernel"):
                np.testing.assert_array_equal(before, after)
                continue
            gone = np.all(after == 0, axis=-1, keepdims=True)
            np.testing.assert_allclose(after, np.where(gone, 0, before / 0.75), rtol=1e-6, err_msg=path)
            shares += gone.reshape(-1).tolist()
    assert np.mean(shares) == pytest.approx(0.25, abs=0.03)  # of 3,520 inputs: four standard errors


def test_dropout_draws_for_every_adapter_layer_and_key_by_itself():
    rows = {}
    for key in (0, 1):
        for path, (_, after) in hidden(key, 0.5).items():
            if path.endswith("A/kernel"):
                rows |= {(key, path, layer): tuple(np.any(x, axis=-1)) for layer, x in enumerate(after)}
    assert len(rows) == 2 * 5 * 2
    assert len(set(rows.values())) == len(rows)


def test_the_loss_in_training_is_the_model_s_with_inputs_of_the_adapters_hidden_by_draws_of_their_own():
    lora = replace(LORA, dropout=0.5)
    model, objective = built(lora)  # whose own dropout is on
    params, key = drawn(begun(objective)), jax.random.key(5)
    rest, own = jax.random.split(key)
    some = lora.merged({**params, "adapter": _dropped(params["adapter"], 0.5, own)})
    expected = jax.jit(Causal().build(model, None).loss)(some, batch(), rest)[0]
    np.testing.assert_allclose(jax.jit(objective.loss)(params, batch(), key)[0], expected, rtol=1e-6)


def test_dropout_hides_inputs_from_the_adapters_in_training_alone():
    lora = replace(LORA, dropout=0.5, of=Causal())
    _, objective = built(lora, replace(SMALL, dropout=0.0))
    start = begun(objective)
    params, loss = drawn(start), jax.jit(objective.loss)
    judged = loss(params, batch(), None)[0]
    assert float(judged) == float(loss(lora.merged(params), batch(), None)[0])
    some = {float(loss(params, batch(), jax.random.key(n))[0]) for n in range(3)}
    assert len(some) == 3
    assert float(judged) not in some
    assert float(loss(start, batch(), jax.random.key(0))[0]) == float(loss(start, batch(), None)[0])  # B is 0


@pytest.mark.parametrize(
    ("field", "pattern", "said"),
    [
        ("targets", "attn/qq", r"'attn/qq' names nothing of this model, did you mean 'attn/q'\?; it has blocks/attn/k"),
        ("targets", "embed/tokens", "'embed/tokens' names nothing of this model"),
        ("whole", "attn/q", r"whole: 'attn/q' names nothing of this model.*it has .*embed/tokens"),
        ("whole", "attn/q/kernel", "is to be adapted and trained whole"),
    ],
)
def test_a_pattern_that_names_nothing_is_refused_with_the_nearest(field, pattern, said):
    with pytest.raises(ConfigError, match=said):
        built(replace(LORA, **{field: (pattern,)} | ({"targets": ("attn/q",)} if field == "whole" else {})))


def test_a_pattern_must_name_whole_steps_of_a_path():
    with pytest.raises(ConfigError, match="names nothing"):
        built(replace(LORA, targets=("own",)))  # down ends in it


@pytest.mark.parametrize(
    "changes",
    [
        {"rank": 0},
        {"alpha": 0.0},
        {"dropout": 1.0},
        {"targets": ()},
        {"targets": ("(",)},
        {"of": LORA},
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(changes):
    with pytest.raises(ConfigError):
        replace(LORA, **changes)


def test_the_configuration_survives_json():
    assert config.from_json(config.to_json(LORA)) == LORA


def test_adapters_of_layers_that_are_not_stacked_lie_beside_them():
    model = TransformerTranslator(width=16, heads=2, mlp_width=16, layers=1)
    abstract = jax.eval_shape(model.build(V, V).init, jax.random.key(0))
    adapted, _ = replace(LORA, targets=("decoder/0/cross/.*",))._chosen(abstract)
    assert adapted == {f"decoder/0/cross/{x}/kernel" for x in "qkvo"}
