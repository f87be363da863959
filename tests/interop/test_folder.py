"""Claims about folders of transformers, written and read back here."""

import json
from dataclasses import fields, replace

import jax
import numpy as np
import pytest
from interop.families import GPT1, GPT2, LLAMA, MODELS, made

from gptjax.config import ConfigError
from gptjax.data.errors import DataError
from gptjax.interop import folder as folders
from gptjax.interop import gpt1, gpt2, llama, safe, shapes
from gptjax.models.feedforward import FeedForward
from gptjax.models.gpt import GPT


def quiet(line):
    pass


def leaves(params):
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(params)}


@pytest.fixture
def exported(tmp_path):
    """A GPT-2 on disk."""
    folders.write(made(GPT2, tmp_path / "run"), tmp_path / "out", quiet)
    return tmp_path / "out"


def edited(folder, **changes):
    """Change fields of `config.json`."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def edited_tensors(folder, change):
    """Change the dict of tensors."""
    with safe.opened(folder) as weights:
        tensors = {name: np.array(weights.read(name)) for name in sorted(weights.names)}
    change(tensors)
    safe.write(folder, tensors)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_out_and_in_is_bit_exact_and_leaves_the_padding_out(name, tmp_path):
    found = made(MODELS[name], tmp_path / "run", pad=100)
    folders.write(found, tmp_path / "out", quiet)
    read = folders.read(tmp_path / "out")
    size = found.model.vocab_size
    assert read.model == replace(found.run.model, attention="auto")
    assert read.vocab_size == size < found.params["model"]["embed"]["tokens"].shape[0]
    assert read.notes == ()
    before, after = leaves(found.params["model"]), leaves(read.params)
    assert before.keys() == after.keys()
    for path, value in after.items():
        cut = tuple(slice(n) for n in value.shape)
        np.testing.assert_array_equal(value, before[path][cut], err_msg=path)


def test_in_and_out_again_is_the_same_file(exported, tmp_path):
    read = folders.read(exported)
    again = made(GPT2, tmp_path / "run")._replace(params={"model": read.params})
    folders.write(again, tmp_path / "again", quiet)
    assert (tmp_path / "again" / safe.SINGLE).read_bytes() == (exported / safe.SINGLE).read_bytes()


def test_a_sharded_folder_reads_as_a_single_one(exported, tmp_path):
    folders.write(made(GPT2, tmp_path / "run"), tmp_path / "several", quiet, shard_bytes=4000)
    assert (tmp_path / "several" / safe.INDEX).is_file()
    one, other = leaves(folders.read(exported).params), leaves(folders.read(tmp_path / "several").params)
    for path in one:
        np.testing.assert_array_equal(one[path], other[path])


REFUSED = [
    (gpt2, replace(GPT2, qk_norm=True), "qk_norm"),
    (gpt2, replace(GPT2, conv_tokens=3), "conv_tokens"),
    (gpt2, replace(GPT2, embed_norm=True), "embed_norm"),
    (gpt2, replace(GPT2, window=4), "window"),
    (gpt2, replace(GPT2, logit_softcap=3.0), "logit_softcap"),
    (gpt2, replace(GPT2, positions="none"), "positions"),
    (gpt2, replace(GPT2, bias=False), "bias"),
    (gpt2, replace(GPT2, mlp="swiglu"), "mlp"),
    (gpt2, replace(GPT2, kv_heads=2), "kv_heads"),
    (gpt2, GPT1, "norm_place"),
    (gpt1, GPT2, "norm_place"),
    (gpt1, replace(GPT1, mlp_width=24), "mlp_width"),
    (gpt1, replace(GPT1, mlp="gelu"), "mlp"),
    (llama, replace(LLAMA, mlp="relu2"), "mlp"),
    (llama, replace(LLAMA, qk_norm=True), "qk_norm"),
    (llama, replace(LLAMA, positions="learned"), "positions"),
]


@pytest.mark.parametrize(("family", "model", "field"), REFUSED, ids=lambda x: x if isinstance(x, str) else "")
def test_what_a_family_cannot_express_is_refused_by_its_field(family, model, field):
    with pytest.raises(ConfigError, match=rf"model\.{field}="):
        family.SHAPE.write(model)


def test_every_field_of_a_gpt_is_written_refused_or_only_about_running():
    """A field that is added to GPT must be decided on here, or weights would be written that mean something else."""
    running = {"attention", "remat", "scan", "residual_init"}
    sized = {"layers", "width", "heads", "kv_heads", "mlp_width", "context", "dropout", "norm_eps", "init_std", "tied"}
    names = {field.name for field in fields(GPT)} - running - sized
    assert names - {"mlp", "norm_place", "rope_theta"} == gpt2.ONLY.keys()
    assert names - {"rope_theta", "bias"} == llama.ONLY.keys()


def test_a_model_of_another_kind_cannot_be_exported():
    with pytest.raises(ConfigError, match="FeedForward is none that transformers reads"):
        shapes.fitting(FeedForward())


def test_a_folder_in_the_way_is_left_alone(exported, tmp_path):
    before = sorted(exported.iterdir())
    with pytest.raises(ConfigError, match="is there already"):
        folders.write(made(GPT2, tmp_path / "run"), exported, quiet)
    assert sorted(exported.iterdir()) == before


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safe, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        folders.write(made(GPT2, tmp_path / "run"), tmp_path / "out", quiet)
    assert list(tmp_path.iterdir()) == []


FOREIGN = {
    "model_type": ({"model_type": "mamba"}, DataError),
    "auto_map": ({"auto_map": {"AutoModel": "evil.Model"}}, ConfigError),
    "quantization_config": ({"quantization_config": {"bits": 4}}, ConfigError),
    "activation_function": ({"activation_function": "silu"}, ConfigError),
    "scale_attn_weights": ({"scale_attn_weights": False}, ConfigError),
    "add_cross_attention": ({"add_cross_attention": True}, ConfigError),
    "n_layer": ({"n_layer": "2"}, ConfigError),
    "n_embd": ({"n_embd": -16}, ConfigError),
    "n_head": ({"n_head": 2**40}, ConfigError),
    "layer_norm_epsilon": ({"layer_norm_epsilon": 0}, ConfigError),
    "initializer_range": ({"initializer_range": 10**400}, ConfigError),
    "vocab_size": ({"vocab_size": None}, ConfigError),
    "divisible": ({"n_head": 3}, ConfigError),
    "names 1000000000 layers": ({"n_layer": 10**9}, DataError),
    "transformer.h.2": ({"n_layer": 3}, DataError),
    "wte.weight is": ({"vocab_size": 100}, DataError),
    "lm_head.weight is missing": ({"tie_word_embeddings": False}, DataError),
    "h.1.attn.c_attn.bias has no place": ({"n_layer": 1}, DataError),
}


@pytest.mark.parametrize("said", FOREIGN)
def test_a_configuration_that_does_not_fit_is_refused_by_name_in_one_line(said, exported):
    changes, kind = FOREIGN[said]
    with pytest.raises(kind, match=said) as error:
        folders.read(edited(exported, **changes))
    assert str(exported) in str(error.value)
    assert "\n" not in str(error.value)


def test_fields_without_a_like_are_said(exported):
    (note,) = folders.read(edited(exported, logit_scale=3.0)).notes
    assert "logit_scale" in note


def test_dropout_that_differs_between_places_is_said(exported):
    read = folders.read(edited(exported, attn_pdrop=0.5))
    assert read.model.dropout == 0.0
    assert "attn_pdrop=0.5" in read.notes[0]


ROPES = [
    {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "rope_theta": 500.0}},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5}},
    {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}},
    {"head_dim": 8},
    {"mlp_bias": True},
    {"hidden_act": "gelu"},
]


@pytest.mark.parametrize("changes", ROPES, ids=str)
def test_a_llama_that_has_no_like_here_is_refused(changes, tmp_path):
    folders.write(made(LLAMA, tmp_path / "run"), tmp_path / "out", quiet)
    with pytest.raises(ConfigError, match=[*changes][-1]):
        folders.read(edited(tmp_path / "out", **changes))


@pytest.mark.parametrize("other", ["rope_theta", "rope_parameters"])
def test_the_rotary_base_is_read_where_either_version_writes_it(other, tmp_path):
    folders.write(made(LLAMA, tmp_path / "run"), tmp_path / "out", quiet)
    assert folders.read(edited(tmp_path / "out", **{other: None})).model.rope_theta == LLAMA.rope_theta == 500.0


def test_old_files_without_prefix_and_with_masks_are_read(exported):
    def old(tensors):
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        tensors["h.0.attn.bias"] = np.tril(np.ones((1, 1, 16, 16), np.uint8))
        tensors["h.1.attn.masked_bias"] = np.float32(-1e4).reshape(())
        tensors["lm_head.weight"] = tensors["wte.weight"].copy()

    before = leaves(folders.read(exported).params)
    after = leaves(folders.read(edited_tensors(exported, old)).params)
    for path in before:
        np.testing.assert_array_equal(before[path], after[path])


def test_a_head_that_is_said_to_be_tied_must_be_the_embedding(exported):
    def other(tensors):
        tensors["lm_head.weight"] = tensors["transformer.wte.weight"] + 1

    with pytest.raises(DataError, match=r"lm_head\.weight differs"):
        folders.read(edited_tensors(exported, other))


def test_a_tensor_without_a_place_is_refused(exported):
    with pytest.raises(DataError, match=r"tensor score\.weight has no place"):
        folders.read(edited_tensors(exported, lambda t: t.update({"score.weight": np.zeros(2, np.float32)})))


def test_a_bert_without_pooler_is_read_and_it_is_said(tmp_path):
    folders.write(made(MODELS["bert"], tmp_path / "run"), tmp_path / "out", quiet)

    def masked_only(tensors):
        for name in [n for n in tensors if "pooler" in n or "seq_relationship" in n]:
            del tensors[name]
        for n in [n for n in tensors if "LayerNorm" in n]:
            tensors[n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")] = (
                tensors.pop(n)
            )

    read = folders.read(edited_tensors(tmp_path / "out", masked_only))
    assert len(read.notes) == 2
    assert not np.any(read.params["pooler"]["kernel"])
    assert np.any(read.params["embed_norm"]["bias"])


def test_a_half_present_part_is_refused(tmp_path):
    folders.write(made(MODELS["bert"], tmp_path / "run"), tmp_path / "out", quiet)
    with pytest.raises(DataError, match=r"bert\.pooler\.dense\.bias is missing"):
        folders.read(edited_tensors(tmp_path / "out", lambda t: t.pop("bert.pooler.dense.bias")))


def test_the_card_says_what_the_numbers_are_of(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "data.json").write_text('{"identity": "abc123"}')
    row = {"step": 3, "split": "validation", "nats_per_token": 1.25, "bits_per_byte": 1.8}
    (run / "metrics.jsonl").write_text(json.dumps({**row, "step": 2}) + "\n" + json.dumps(row) + "\n")
    found = made(GPT2, run, pad=100)
    folders.write(found, tmp_path / "out", quiet)
    card = (tmp_path / "out" / "README.md").read_text()
    for said in ("abc123", found.tokenizer.hash, "| nats_per_token | 1.2500 | mean of -ln p", "trained with 300 rows"):
        assert said in card
