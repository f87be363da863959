"""Claims about starting one run from another."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from runs import TARGETS
from targets import small
from untrained import write

from gptjax import trained
from gptjax.cli import run_verb


def quiet(line: str) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def places(tmp_path_factory, text):
    """A folder with a pretrained run and a table of examples."""
    folder = tmp_path_factory.mktemp("places")
    table = ["sentence\tlabel"] + [f"the number {i} is {'even' if i % 2 == 0 else 'odd'}\t{i % 2}" for i in range(80)]
    (folder / "table.tsv").write_text("\n".join(table) + "\n")
    assert train(folder, "small", "pretrained", "--data", str(text), "--steps", "10") == 0
    return folder


def train(folder, target, out, *options) -> int:
    where = ["--out", str(folder / out), "--cache", str(folder / "cache")]
    return run_verb(["train", f"{TARGETS}:{target}", *where, *options])


def finetune(folder, out, *options) -> int:
    init = () if "--init" in options else ("--init", str(folder / "pretrained"))
    return train(folder, "task", out, "--data", str(folder / "table.tsv"), *init, *options)


def parameters(folder, out, step=None) -> dict[str, np.ndarray]:
    path = folder / out if step is None else folder / out / "checkpoints" / str(step)
    found = trained.load(path, quiet)
    leaves = jax.tree_util.tree_leaves_with_path(found.params["model"])
    return {jax.tree_util.keystr(path): np.asarray(value) for path, value in leaves}


FROZEN = ("--optimizer.learning-rate", "1e-30", "--optimizer.weight-decay", "0")


def test_a_fine_tuned_run_starts_from_all_pretrained_values(places):
    assert finetune(places, "all", *FROZEN) == 0
    old, new = parameters(places, "pretrained"), parameters(places, "all")
    assert old.keys() == new.keys()
    for name in old:
        if "tokens" in name:
            assert len(new[name]) == len(old[name]) + 3  # start, delimiter and extract are new rows
        np.testing.assert_allclose(new[name][: len(old[name])], old[name], atol=1e-20)


def test_embeddings_alone_or_nothing_can_be_transferred(places):
    assert finetune(places, "embeddings", "--transfer", "embeddings", *FROZEN) == 0
    assert finetune(places, "none", "--transfer", "none", *FROZEN) == 0
    old, some, none = (parameters(places, out) for out in ("pretrained", "embeddings", "none"))
    for name in old:
        same = np.allclose(some[name][: len(old[name])], old[name])
        assert same == ("embed" in name or np.all(old[name] == some[name])), name
    assert not np.allclose(none["['embed']['tokens']"][:256], old["['embed']['tokens']"])


def test_embeddings_alone_leave_a_model_of_the_same_family_its_own_depth_and_must_be_as_wide(places, capfd):
    write(places / "deep", replace(small().model, layers=3, heads=4))
    assert finetune(places, "shallow", "--init", str(places / "deep"), "--transfer", "embeddings", *FROZEN) == 0
    source, own = (trained.load(places / out, quiet).run.model for out in ("deep", "shallow"))
    assert (source.layers, source.heads, own.layers, own.heads) == (3, 4, 1, 2)
    old, new = parameters(places, "deep"), parameters(places, "shallow")
    table = old["['embed']['tokens']"]
    np.testing.assert_allclose(new["['embed']['tokens']"][: len(table)], table, atol=1e-20)
    blocks = "['blocks']['attn']['q']['kernel']"
    assert not np.allclose(new[blocks][0], old[blocks][0])
    capfd.readouterr()
    assert finetune(places, "wide", "--transfer", "embeddings", "--model.width", "32") == 2
    err = capfd.readouterr().err
    assert (
        "embed/positions is (16, 16) there and (16, 32) here; the model is this run's own, so give it the size" in err
    )


def test_training_logs_the_scores_of_the_task(places):
    assert finetune(places, "scores") == 0
    rows = [json.loads(line) for line in (places / "scores" / "metrics.jsonl").read_text().splitlines()]
    judged = [row for row in rows if "split" in row]
    assert {"accuracy", "matthews", "f1", "task", "lm_nats"} <= judged[-1].keys()


def test_eval_of_a_task_judges_the_records_that_it_is_given(places, capfd):
    own = places / "own.tsv"
    shutil.copy(places / "table.tsv", own)
    assert train(places, "task", "moved", "--data", str(own), "--init", str(places / "pretrained")) == 0
    own.unlink()  # what was trained on is not read to judge something else
    capfd.readouterr()
    assert run_verb(["eval", str(places / "moved"), "--data", str(places / "table.tsv"), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert 0 <= found["accuracy"] <= 1
    assert (found["accuracy"] * 80) % 1 == pytest.approx(0, abs=1e-6) or (found["accuracy"] * 80) % 1 > 0.999


def test_another_architecture_is_refused_in_one_line(places, capfd):
    capfd.readouterr()
    assert finetune(places, "wider", "--model.width", "32") == 2
    err = capfd.readouterr().err.strip()
    assert "blocks/attn/k/bias is (1, 16) there and (1, 32) here" in err
    assert len([line for line in err.splitlines() if "--init" in line]) == 1


def test_a_run_without_checkpoint_cannot_be_started_from(places, capfd, tmp_path):
    (tmp_path / "empty").mkdir()
    assert finetune(places, "x", "--init", str(tmp_path / "empty")) == 2
    assert "holds no config.json" in capfd.readouterr().err


def test_another_tokenizer_is_refused_in_one_line(places, capfd):
    capfd.readouterr()
    assert finetune(places, "characters", "--tokenizer.bos") == 2
    err = capfd.readouterr().err.strip()
    assert "its tokenizer is Bytes(" in err
    assert "this run's Bytes(" in err


def test_what_transfers_nothing_needs_no_checkpoint(places, tmp_path):
    untrained = tmp_path / "untrained"
    shutil.copytree(places / "pretrained", untrained, ignore=shutil.ignore_patterns("checkpoints*"))
    assert finetune(places, "untrained", "--init", str(untrained), "--transfer", "none") == 0


def test_a_fine_tuned_run_remembers_its_start_and_can_do_without_it(places, tmp_path):
    source, data = tmp_path / "source", str(places / "table.tsv")
    shutil.copytree(places / "pretrained", source)
    again = ("--init", str(source), "--data", data)
    assert train(tmp_path, "task", "run", *again) == 0
    began = json.loads((tmp_path / "run" / "init.json").read_text())
    assert began["step"] == 10
    killed = tmp_path / "killed"  # before its first checkpoint
    killed.mkdir()
    shutil.copy(tmp_path / "run" / "config.json", killed)
    (killed / "init.json").write_text(json.dumps({**began, "sha256": "0" * 64}))
    assert train(tmp_path, "task", "killed", *again) == 2  # not the parameters that it began with
    source.rename(tmp_path / "elsewhere")
    assert train(tmp_path, "task", "run", *again) == 0


def test_training_and_eval_give_the_same_number_in_the_precision_of_the_run(places, text, capfd):
    options = ("--data", str(text), "--steps", "10", "--precision", "bfloat16", "--evaluation.max-tokens", "300")
    assert train(places, "small", "bf16", *options) == 0
    rows = [json.loads(line) for line in (places / "bf16" / "metrics.jsonl").read_text().splitlines()]
    logged = [row for row in rows if "split" in row][-1]
    capfd.readouterr()
    assert run_verb(["eval", str(places / "bf16"), "--json", "--cache", str(places / "cache")]) == 0
    found = json.loads(capfd.readouterr().out)
    assert {name: logged[name] for name in found} == found
    assert found["tokens"] == 300


def test_rates_count_the_tokens_of_the_rows_of_a_task(places):
    assert finetune(places, "rates") == 0
    row = json.loads((places / "rates" / "metrics.jsonl").read_text().splitlines()[0])
    assert row["tokens_per_second"] * row["step_seconds"] == pytest.approx(8 * 8)  # start, six tokens of text, extract
