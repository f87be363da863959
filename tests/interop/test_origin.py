"""Claims about Hugging Face folders given to a verb as they are."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from interop.families import GPT2, MODELS, made
from runs import TARGETS

from gptjax import arguments, config, trained
from gptjax.cli import run_verb
from gptjax.config import ConfigError
from gptjax.data.errors import DataError
from gptjax.infer.sample import Decoding
from gptjax.interop import folder as folders
from gptjax.interop import origin, safe
from gptjax.interop.adopt import adopt
from gptjax.judging import judge, scored
from gptjax.types import Place


def quiet(line):
    pass


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A GPT-2 as a folder, and the run that it becomes when it is imported."""
    here = tmp_path_factory.mktemp("origin")
    folders.write(made(GPT2, here / "run"), here / "folder", quiet)
    adopt(here / "folder", here / "imported", quiet)
    (here / "text.txt").write_text("line 3 says 9 and no more.\nand a second line.\n")
    (here / "table.tsv").write_text("sentence\tlabel\n" + "".join(f"is {i} even\t{i % 2}\n" for i in range(40)))
    return here


def same(first, second):
    leaves = jax.tree_util.tree_leaves_with_path(first), jax.tree_util.tree_leaves_with_path(second)
    for (path, x), (other, y) in zip(*leaves, strict=True):
        assert path == other
        np.testing.assert_array_equal(x, y, err_msg=str(path))


@pytest.mark.parametrize("name", ["gpt2", "bert", "llama"])
def test_a_folder_is_the_run_that_it_would_be_imported_as(name, tmp_path):
    folders.write(made(MODELS[name], tmp_path / "run", pad=100), tmp_path / "folder", quiet)
    adopt(tmp_path / "folder", tmp_path / "imported", quiet)
    direct, imported = origin.load(tmp_path / "folder", quiet), trained.load(tmp_path / "imported", quiet)
    assert (direct.run, direct.step, direct.tokenizer.hash) == (imported.run, 0, imported.tokenizer.hash)
    same(direct.params, imported.params)
    run, tokenizer, _ = origin.recall(tmp_path / "folder")
    assert (run, tokenizer.hash) == (direct.run, direct.tokenizer.hash)
    assert not any(path.name == "checkpoints" for path in (tmp_path / "folder").iterdir())


def test_judging_continuing_and_scoring_a_folder_gives_what_its_import_gives(places):
    data, cache = str(places / "text.txt"), places / "cache"
    folder, run = places / "folder", places / "imported"
    assert judge.held_out(folder, data, None, cache, quiet) == judge.held_out(run, data, None, cache, quiet)
    drawn = [judge.continued(p, ["line"], 5, Decoding(), 3, quiet) for p in (folder, run)]
    assert drawn[0] == drawn[1]
    costs = [scored.read(p, data, None, cache, quiet).to_json() for p in (folder, run)]
    assert costs[0] == costs[1]


def test_a_folder_is_not_judged_by_a_text_that_nobody_named(places):
    with pytest.raises(DataError, match=r"has no text of its own; name some with --data"):
        judge.held_out(places / "folder", None, None, places / "cache", quiet)


def train(places, out, *options, target="task"):
    where = ("--out", str(places / out), "--cache", str(places / "cache"), "--data", str(places / "table.tsv"))
    return run_verb(["train", f"{TARGETS}:{target}", *where, "--init", str(places / "folder"), *options])


FROZEN = ("--optimizer.learning-rate", "1e-30", "--optimizer.weight-decay", "0")


def test_fine_tuning_starts_from_a_folder_and_can_then_do_without_it(places, tmp_path, capfd):
    shutil.copytree(places / "folder", tmp_path / "folder")
    shutil.copy(places / "table.tsv", tmp_path)
    assert train(tmp_path, "tuned", *FROZEN) == 0
    before, after = origin.load(tmp_path / "folder", quiet), trained.load(tmp_path / "tuned", quiet)
    same(before.params["model"]["blocks"], after.params["model"]["blocks"])
    words = before.tokenizer.vocab_size
    same(before.params["model"]["embed"]["tokens"], after.params["model"]["embed"]["tokens"][:words])
    assert after.tokenizer.hash == before.tokenizer.hash
    assert after.run.model.dropout == 0.2  # the target's own
    began = json.loads((tmp_path / "tuned/init.json").read_text())
    assert began["step"] == 0

    killed = tmp_path / "killed"  # before its first checkpoint
    killed.mkdir()
    for name in ("config.json", "init.json"):
        shutil.copy(tmp_path / "tuned" / name, killed)
    with safe.opened(tmp_path / "folder") as weights:
        tensors = {name: np.array(weights.read(name)) for name in weights.names}
    tensors["transformer.ln_f.bias"] += 1
    safe.write(tmp_path / "folder", tensors)
    capfd.readouterr()
    assert train(tmp_path, "killed", *FROZEN) == 2
    assert "is not the checkpoint that this run began with" in capfd.readouterr().err

    shutil.rmtree(tmp_path / "folder")
    assert train(tmp_path, "tuned", *FROZEN) == 0


def test_a_folder_can_be_written_anew(places, tmp_path):
    assert run_verb(["export", str(places / "folder"), str(tmp_path / "again")]) == 0
    one, other = ((p / safe.SINGLE).read_bytes() for p in (places / "folder", tmp_path / "again"))
    assert one == other


def test_a_folder_has_no_training_to_report(places, tmp_path, capfd):
    assert run_verb(["report", str(places / "folder"), "--out", str(tmp_path / "page.html")]) == 2
    assert "a Hugging Face folder tells nothing of training" in capfd.readouterr().err


def test_a_damaged_folder_is_one_line(places, tmp_path, capfd):
    shutil.copytree(places / "folder", tmp_path / "folder")
    (tmp_path / "folder" / safe.SINGLE).unlink()
    assert run_verb(["sample", str(tmp_path / "folder"), "--prompt", "x"]) == 2
    assert "holds no weights (model.safetensors" in capfd.readouterr().err


def test_every_kind_of_dropout_stays_the_run_s_own(tmp_path):
    target = arguments.target(f"{TARGETS}:recurrent")
    wide = replace(target, model=replace(target.model, width=24, output_dropout=0.0, word_dropout=0.1))
    config.save(wide, tmp_path / "config.json")
    wide.tokenizer.build(None).save(tmp_path / "tokenizer")
    model = arguments.following_init(target, ["--init", str(tmp_path)]).model
    assert (model.width, model.output_dropout, model.word_dropout) == (24, 0.3, 0.0)


def grafted(places, model):
    """A fresh model of another family with the folder's embeddings."""
    found = origin.load(places / "folder", quiet)
    run = replace(found.run, model=model)
    fresh = jax.jit(trained.build(run, found.tokenizer, Place("cpu"))[1].init)(jax.random.key(0))
    return fresh, trained.grafting(found, "embeddings")(fresh)


def test_embeddings_alone_go_into_another_family_which_keeps_its_architecture(places):
    target = arguments.target(f"{TARGETS}:recurrent")
    words = ["--init", str(places / "folder"), "--transfer", "embeddings"]
    followed = arguments.following_init(target, words)
    assert followed.model == target.model
    assert followed.tokenizer == origin.recall(places / "folder")[0].tokenizer
    fresh, found = grafted(places, target.model)
    table = origin.load(places / "folder", quiet).params["model"]["embed"]["tokens"]
    np.testing.assert_array_equal(found["model"]["embed"]["tokens"], table)
    same(found["model"]["layer_0"], fresh["model"]["layer_0"])


def test_embeddings_of_another_width_are_refused_in_one_line(places):
    with pytest.raises(ConfigError, match=r"embed/tokens is \(257, 16\) there and \(257, 12\) here"):
        grafted(places, replace(arguments.target(f"{TARGETS}:recurrent").model, embed_width=12))


def test_what_is_neither_a_run_nor_a_folder_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ConfigError, match="not a run's configuration"):
        origin.load(tmp_path, quiet)
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        origin.recall(tmp_path / "nothing")
