"""Claims about runs that train adapters of a frozen model."""

import re
import shutil

import jax
import numpy as np
import pytest
from runs import TARGETS, finished, gptjax, results, rows
from train.test_resume import final_arrays

from gptjax import config, trained
from gptjax.cli import run_verb
from gptjax.interop import folder as folders
from gptjax.judging import judge
from gptjax.objectives.lora import Lora
from gptjax.objectives.tasks import Classification


def quiet(line):
    pass


@pytest.fixture(scope="module")
def places(tmp_path_factory, text):
    """A pretrained run, a table of examples, and a run of adapters."""
    here = tmp_path_factory.mktemp("adapters")
    table = ["sentence\tlabel"] + [f"the number {i} is {'even' if i % 2 == 0 else 'odd'}\t{i % 2}" for i in range(80)]
    (here / "table.tsv").write_text("\n".join(table) + "\n")
    options = ["--data", str(text), "--steps", "10", "--cache", str(here / "cache")]
    assert run_verb(["train", f"{TARGETS}:small", "--out", str(here / "base"), *options]) == 0
    assert run_verb(command(here, "adapted")) == 0
    return here


def command(here, out, *options):
    where = ["--out", str(here / out), "--cache", str(here / "cache"), "--data", str(here / "table.tsv")]
    return ["train", f"{TARGETS}:lora", *where, "--init", str(here / "base"), *options]


def leaves(tree):
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(x) for path, x in found}


def test_training_changes_adapters_and_head_alone(places):
    first, last = (leaves(trained.stored(places / "adapted/checkpoints" / step, quiet).params) for step in "06")
    changed = {path for path in first if np.any(first[path] != last[path])}
    layers = ("attn/q", "attn/v", "mlp/up")
    assert changed == {
        *(f"adapter/blocks/{layer}/{part}/kernel" for layer in layers for part in "AB"),
        "head/kernel",
        "head/bias",
    }
    base = leaves(trained.load(places / "base", quiet).params)
    for path, value in base.items():
        here = last[path][: len(value)] if path == "model/embed/tokens" else last[path]
        np.testing.assert_array_equal(here, value, err_msg=path)


def test_the_optimizer_holds_state_of_what_is_trained_alone(places):
    """Two moments of every trained scalar, three counters besides."""
    arrays = final_arrays(places / "adapted")
    moments = {path: x for path, x in arrays.items() if "opt_state" in path and x.ndim}
    own = {path: x for path, x in arrays.items() if path.startswith("params") and "'model'" not in path}
    assert sum(x.nbytes for x in moments.values()) == 2 * sum(x.nbytes for x in own.values())
    assert not any("'model'" in path for path in arrays if path.startswith("training"))


def test_a_run_of_adapters_is_read_as_a_model_whose_every_parameter_was_trained(places):
    stored, found = trained.stored(places / "adapted", quiet), trained.load(places / "adapted", quiet)
    assert isinstance(stored.run.objective, Lora)
    assert isinstance(found.run.objective, Classification)
    assert found.params.keys() == {"model", "head"}
    before, after = leaves(stored.params["model"]), leaves(found.params["model"])
    changed = {path for path in before if np.any(before[path] != after[path])}
    assert changed == {f"blocks/{layer}/kernel" for layer in ("attn/q", "attn/v", "mlp/up")}


def test_training_and_eval_give_the_same_numbers(places):
    logged = [row for row in rows(places / "adapted") if "split" in row][-1]
    found = judge.held_out(places / "adapted", None, None, places / "cache", quiet)
    assert {"accuracy", "accuracy_low", "accuracy_high", "task"} <= found.keys()
    shared = found.keys() & logged.keys()  # training logs no intervals
    assert {"accuracy", "task"} <= shared
    assert {name: logged[name] for name in shared} == {name: found[name] for name in shared}


def test_a_resumed_run_of_adapters_ends_bit_for_bit_as_the_uninterrupted(places):
    folder = places / "resumed"
    shutil.copytree(places / "adapted", folder)
    shutil.rmtree(folder / "checkpoints/6")
    (places / "base").rename(places / "elsewhere")  # what it began from is not needed any more
    assert run_verb(command(places, "resumed")) == 0
    (places / "elsewhere").rename(places / "base")
    assert results(folder) == results(places / "adapted")
    first, second = final_arrays(folder), final_arrays(places / "adapted")
    assert first.keys() == second.keys()
    for path in first:
        np.testing.assert_array_equal(first[path], second[path], err_msg=path)


def test_devices_that_share_a_run_of_adapters_learn_the_same(places):
    words = command(places, "sharded", "--mesh.fsdp", "2", "--mesh.tensor", "2")
    _, said = finished(gptjax(*words, devices=4))
    assert "no sharding rule names it" not in said  # adapters are copied to every device, as a rule says
    for one, other in zip(rows(places / "sharded"), rows(places / "adapted"), strict=True):
        for name in ("loss_nats", "grad_norm", "accuracy", "task"):
            assert one.get(name, 0) == pytest.approx(other.get(name, 0), rel=1e-4, abs=1e-5), name


def test_a_run_of_adapters_is_exported_merged_apart_or_as_a_classifier(places, capfd):
    run = str(places / "adapted")
    assert run_verb(["export", run, str(places / "merged")]) == 0
    read, found = folders.read(places / "merged"), trained.load(places / "adapted", quiet)
    for path, value in leaves(read.params).items():
        np.testing.assert_array_equal(value, leaves(found.params["model"])[path], err_msg=path)
    card = (places / "merged/README.md").read_text()
    trained_here, frozen = (sum(x.size for x in leaves(tree).values()) for tree in apart(places))
    assert "| low-rank adapters | rank 2, alpha 16, of attn/(q\\|v), mlp/up |" in card
    assert f"| parameters in training | {trained_here:,} trained, {frozen:,} frozen |" in card
    assert config.fingerprint(trained.stored(places / "adapted", quiet).run) in card
    assert run_verb(["export", run, str(places / "peft"), "--adapter"]) == 0
    assert run_verb(["export", run, str(places / "classifier"), "--classifier"]) == 0
    assert (places / "peft/adapter_model.safetensors").is_file()
    assert "ForSequenceClassification" in (places / "classifier/config.json").read_text()
    capfd.readouterr()
    assert run_verb(["export", run, str(places / "both"), "--classifier", "--adapter"]) == 2
    assert "--adapter and --classifier are two kinds of folder" in capfd.readouterr().err


def apart(places):
    """(what was trained, what was frozen) of the run of adapters: all but the model, and the model."""
    params = trained.stored(places / "adapted", quiet).params
    return {name: tree for name, tree in params.items() if name != "model"}, params["model"]


def test_the_report_names_the_adapters_and_how_much_was_trained(places):
    trained_here, frozen = (sum(x.size for x in leaves(tree).values()) for tree in apart(places))
    page = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", (places / "adapted/report.html").read_text()))
    assert "adapters rank 2 alpha 16, of attn/(q|v), mlp/up" in page
    assert f"trained parameters {trained_here:,} {frozen:,} frozen" in page
    assert "trained parameters" not in (places / "base/report.html").read_text()


def test_a_wrong_target_is_one_line(places, capfd):
    capfd.readouterr()
    assert run_verb(command(places, "wrong", "--objective.targets", "attn/w")) == 2
    err = capfd.readouterr().err
    assert "targets: 'attn/w' names nothing of this model, did you mean 'attn/v'?" in err
    assert not (places / "wrong" / "config.json").exists()
