"""Claims about starting one run from another."""

import json

import jax
import numpy as np
import pytest
from runs import TARGETS

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
    data = ("--data", str(folder / "table.tsv"), "--init", str(folder / "pretrained"))
    return train(folder, "task", out, *data, *options)


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


def test_training_logs_the_scores_of_the_task(places):
    assert finetune(places, "scores") == 0
    rows = [json.loads(line) for line in (places / "scores" / "metrics.jsonl").read_text().splitlines()]
    judged = [row for row in rows if "split" in row]
    assert {"accuracy", "matthews", "f1", "task", "lm_nats"} <= judged[-1].keys()


def test_eval_of_a_task_judges_the_records_that_it_is_given(places, capfd):
    assert finetune(places, "scores") == 0
    capfd.readouterr()
    assert run_verb(["eval", str(places / "scores"), "--data", str(places / "table.tsv"), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert 0 <= found["accuracy"] <= 1
    assert (found["accuracy"] * 80) % 1 == pytest.approx(0, abs=1e-6) or (found["accuracy"] * 80) % 1 > 0.999


def test_another_architecture_is_refused_in_one_line(places, capfd):
    capfd.readouterr()
    assert finetune(places, "wider", "--model.width", "32") == 2
    err = capfd.readouterr().err.strip()
    assert "is (1, 16) there and (1, 32) here" in err or "there and" in err
    assert len([line for line in err.splitlines() if "--init" in line]) == 1


def test_a_run_without_checkpoint_cannot_be_started_from(places, capfd, tmp_path):
    (tmp_path / "empty").mkdir()
    assert finetune(places, "x", "--init", str(tmp_path / "empty")) == 2
    assert "holds no config.json" in capfd.readouterr().err
