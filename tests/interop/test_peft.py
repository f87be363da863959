"""Claims about low-rank adapters in the form of the PEFT library."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interop.families import LLAMA, MODELS, made

from gptjax import trained
from gptjax.config import ConfigError
from gptjax.data.errors import DataError
from gptjax.interop import folder as folders
from gptjax.interop import peft, safe
from gptjax.interop.adopt import adopt
from gptjax.objectives.lora import Lora
from gptjax.types import Place

GOLDEN = Path(__file__).parent / "golden"
LAYERS = {
    "gpt2": ("attn/(q|v)", "attn/o", "mlp/down"),
    "llama": ("attn/.", "mlp/gate"),
    "bert": ("attn/(q|o)", "mlp/.*"),
}


def quiet(line):
    pass


def adapted(name, folder, **changes):
    """A run of adapters over a drawn model, every adapter drawn too, as its checkpoint has it."""
    base = made(MODELS[name], folder)
    lora = replace(Lora(of=base.run.objective, rank=2, alpha=3.0, targets=LAYERS[name]), **changes)
    run = replace(base.run, objective=lora)
    _, objective = trained.build(run, base.tokenizer, Place("cpu"))
    shapes = jax.eval_shape(objective.init, jax.random.key(0))["adapter"]
    draws = np.random.default_rng(2)
    adapter = jax.tree.map(lambda x: jnp.asarray(0.3 * draws.standard_normal(x.shape), jnp.float32), shapes)
    return base._replace(run=run, objective=objective, params={**base.params, "adapter": adapter})


def leaves(tree):
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(x) for path, x in found}


def logits(name, described, params, ids_BT, types=None):
    model = described.model.build(described.vocab_size, described.vocab_size)
    extra = {} if types is None else {"types_BT": np.array(types, np.int32)}
    features_BTD = jax.jit(model.features)(params, np.array(ids_BT, np.int32), **extra)
    return model.head(params, features_BTD)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert"])
def test_adapters_that_peft_saved_compute_what_it_computed(name):
    read, described = folders.read(GOLDEN / name), folders.described(GOLDEN / name)
    params = peft.put(GOLDEN / f"peft-{name}", described, read.params)
    expected = json.loads((GOLDEN / f"peft-{name}/expected.json").read_text())
    types = json.loads((GOLDEN / name / "expected.json").read_text()).get("types")
    found = logits(name, described, params, expected["ids"], types)
    np.testing.assert_allclose(found, expected["logits"], rtol=0, atol=1e-5)
    base = logits(name, described, read.params, expected["ids"], types)
    assert np.max(np.abs(np.asarray(base) - expected["logits"])) > 0.01


@pytest.mark.parametrize("name", LAYERS)
def test_adapters_that_are_written_and_put_into_the_base_are_the_merged_model(name, tmp_path):
    found = adapted(name, tmp_path / "run")
    folders.write(made(MODELS[name], tmp_path / "run"), tmp_path / "base", quiet)
    peft.write(found, tmp_path / "adapter", quiet)
    read = folders.read(tmp_path / "base")
    both = leaves(peft.put(tmp_path / "adapter", folders.described(tmp_path / "base"), read.params))
    merged = leaves(found.run.objective.merged(found.params)["model"])
    assert both.keys() == merged.keys()
    for path in merged:
        np.testing.assert_allclose(both[path], merged[path], atol=1e-6, err_msg=path)
    assert any(np.max(np.abs(merged[path] - leaves(read.params)[path])) > 0.1 for path in merged)


def names(folder):
    with safe.opened(folder, peft.WEIGHTS) as weights:
        return {name: tuple(weights.read(name).shape) for name in weights.names}


def test_names_and_shapes_are_those_that_peft_writes(tmp_path):
    there = names(GOLDEN / "peft-llama")
    small = replace(LLAMA, width=8, mlp_width=12, context=8)
    here = made(small, tmp_path / "run")
    lora = Lora(of=here.run.objective, rank=2, targets=("attn/(q|v)", "mlp/down"))
    run = replace(here.run, objective=lora)
    _, objective = trained.build(run, here.tokenizer, Place("cpu"))
    params = jax.jit(objective.init)(jax.random.key(0))
    peft.write(here._replace(run=run, params=params), tmp_path / "adapter", quiet)
    assert names(tmp_path / "adapter") == there
    settings = json.loads((tmp_path / "adapter" / peft.CONFIG).read_text())
    known = json.loads((GOLDEN / "peft-llama" / peft.CONFIG).read_text())
    assert settings.keys() <= known.keys()
    assert settings["target_modules"][0] == "model.layers.0.mlp.down_proj"


def test_queries_and_values_of_a_fused_matrix_are_one_adapter_of_twice_the_rank(tmp_path):
    peft.write(adapted("gpt2", tmp_path / "run", targets=("attn/(q|v)", "mlp/up")), tmp_path / "adapter", quiet)
    found = names(tmp_path / "adapter")
    assert found["base_model.model.transformer.h.0.attn.c_attn.lora_A.weight"] == (4, 16)
    assert found["base_model.model.transformer.h.1.attn.c_attn.lora_B.weight"] == (48, 4)
    assert found["base_model.model.transformer.h.1.mlp.c_fc.lora_B.weight"] == (24, 2)
    settings = json.loads((tmp_path / "adapter" / peft.CONFIG).read_text())
    assert settings["alpha_pattern"].keys() == settings["rank_pattern"].keys()
    assert {*settings["rank_pattern"].values()} == {4}
    assert {*settings["alpha_pattern"].values()} == {6.0}
    with safe.opened(tmp_path / "adapter", peft.WEIGHTS) as weights:  # keys, between the two, are not adapted
        assert not np.any(weights.read("base_model.model.transformer.h.0.attn.c_attn.lora_B.weight")[16:32])


@pytest.mark.parametrize("name", LAYERS)
def test_peft_itself_loads_what_is_written_and_computes_the_merged_model(name, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed; golden files stand for it")
    library = pytest.importorskip("peft", reason="peft is not installed; golden files stand for it")
    transformers = pytest.importorskip("transformers")
    found = adapted(name, tmp_path / "run")
    folders.write(made(MODELS[name], tmp_path / "run"), tmp_path / "base", quiet)
    peft.write(found, tmp_path / "adapter", quiet)
    kind = transformers.AutoModelForPreTraining if name == "bert" else transformers.AutoModelForCausalLM
    base = kind.from_pretrained(tmp_path / "base").eval()
    both = library.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    ids_BT = np.random.default_rng(0).integers(0, 256, (2, 12))
    extra = {"token_type_ids": torch.zeros((2, 12), dtype=torch.long)} if name == "bert" else {}
    with torch.no_grad():
        out = both(input_ids=torch.tensor(ids_BT), **extra)
    expected = (out.prediction_logits if name == "bert" else out.logits).numpy()
    params = found.run.objective.merged(found.params)["model"]
    here = np.asarray(found.model.head(params, found.model.features(params, ids_BT.astype(np.int32))))
    np.testing.assert_allclose(here, expected, rtol=0, atol=1e-4)


def test_a_base_and_its_adapters_are_imported_as_one_run(tmp_path):
    found = adapted("gpt2", tmp_path / "run")
    folders.write(made(MODELS["gpt2"], tmp_path / "run"), tmp_path / "folder", quiet)
    peft.write(found, tmp_path / "adapter", quiet)
    adopt(tmp_path / "folder", tmp_path / "imported", quiet, adapter=tmp_path / "adapter")
    params = leaves(trained.load(tmp_path / "imported", quiet).params["model"])
    for path, value in leaves(found.run.objective.merged(found.params)["model"]).items():
        np.testing.assert_allclose(params[path], value, atol=1e-6, err_msg=path)
    assert json.loads((tmp_path / "imported/adapter.json").read_text())["sha256"].keys() == {peft.WEIGHTS}


@pytest.fixture
def golden(tmp_path):
    shutil.copytree(GOLDEN / "peft-gpt2", tmp_path / "adapter")
    return tmp_path / "adapter"


def put(adapter):
    return peft.put(adapter, folders.described(GOLDEN / "gpt2"), folders.read(GOLDEN / "gpt2").params)


REFUSED = [
    {"peft_type": "IA3"},
    {"bias": "all"},
    {"use_dora": True},
    {"modules_to_save": ["lm_head"]},
    {"init_lora_weights": "pissa"},
    {"something_new": 3},
    {"r": "3"},
    {"rank_pattern": {"(": 3}},
    {"rank_pattern": {"((.)+)+!": 3}},
    {"alpha_pattern": {"c_attn": "3"}},
]


@pytest.mark.parametrize("changes", REFUSED, ids=str)
def test_what_other_adapters_are_is_refused_by_its_field(golden, changes):
    path = golden / peft.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ConfigError, match=next(iter(changes))) as refused:
        put(golden)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t, n: t.clear(), "adapter_model.safetensors holds no adapters"),
        (lambda t, n: t.pop(n), "lora_A.weight is missing"),
        (lambda t, n: t.update({n: t[n][:2]}), r"lora_A.weight is \[2, 8\], and not \[3, 8\]"),
        (lambda t, n: t.update({"base_model.model.score.weight": t[n]}), "score.weight is no low-rank adapter"),
        (lambda t, n: t.update({n.replace("h.0", "h.7"): t[n]}), "there is no matrix transformer.h.7.attn.c_attn"),
    ],
)
def test_tensors_that_do_not_fit_the_base_are_refused_by_name(golden, change, said):
    with safe.opened(golden, peft.WEIGHTS) as weights:
        tensors = {name: np.array(weights.read(name)) for name in weights.names}
    change(tensors, "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight")
    safe.write_file(golden / peft.WEIGHTS, tensors)
    with pytest.raises(DataError, match=said):
        put(golden)


def test_only_a_run_of_adapters_has_adapters_to_write(tmp_path):
    with pytest.raises(ConfigError, match="Causal trained no adapters"):
        peft.write(made(MODELS["gpt2"], tmp_path / "run"), tmp_path / "out", quiet)
    with pytest.raises(ConfigError, match="was trained besides"):
        peft.write(adapted("gpt2", tmp_path / "run", whole=("embed/tokens",)), tmp_path / "out", quiet)
    assert list(tmp_path.iterdir()) == []
