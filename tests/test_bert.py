"""Claims about runs of a model that reads both sides, from the command line."""

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
def folder(tmp_path_factory, text):
    """A pretrained run, and a table of examples."""
    folder = tmp_path_factory.mktemp("bert")
    table = ["sentence\tlabel"] + [f"the number {i} is {'even' if i % 2 == 0 else 'odd'}\t{i % 2}" for i in range(80)]
    (folder / "table.tsv").write_text("\n".join(table) + "\n")
    assert train(folder, "bert", "pretrained", "--data", str(text)) == 0
    return folder


def train(folder, target, out, *options) -> int:
    where = ["--out", str(folder / out), "--cache", str(folder / "cache")]
    return run_verb(["train", f"{TARGETS}:{target}", *where, *options])


def answer(capfd, *words) -> dict:
    capfd.readouterr()
    assert run_verb([*map(str, words), "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def test_eval_gives_masked_scores_and_a_pseudo_perplexity_of_a_bounded_number_of_tokens(folder, text, capfd):
    where = folder / "pretrained", "--cache", folder / "cache"
    found = answer(capfd, "eval", *where)
    logged = [json.loads(line) for line in (folder / "pretrained/metrics.jsonl").read_text().splitlines()]
    judged = next(row for row in reversed(logged) if row.get("split") == "validation")
    names = ("masked_nats", "masked_accuracy", "next_sentence_accuracy")
    assert [found[name] for name in names] == [judged[name] for name in names]
    assert found["pseudo_tokens"] <= 2000
    assert found["pseudo_perplexity"] == pytest.approx(np.exp(found["pseudo_nats_per_token"]))
    assert answer(capfd, "eval", *where, "--data", text) == answer(capfd, "eval", *where, "--data", text)


def test_what_a_reader_of_both_sides_cannot_do_is_refused_in_one_line(folder, text, capfd):
    for words, said in (
        (["sample", folder / "pretrained", "--prompt", "line"], "cannot continue a text"),
        (["score", folder / "pretrained", "--data", text, "--cache", folder / "cache"], "no left-to-right likelihood"),
        (
            ["eval", folder / "pretrained", "--stride", 8, "--cache", folder / "cache"],
            "--stride 8: Masked is judged by",
        ),
    ):
        capfd.readouterr()
        assert run_verb([*map(str, words)]) == 2
        last = capfd.readouterr().err.splitlines()[-1]
        assert said in last


def test_a_task_starts_from_all_of_bert_with_the_special_tokens_it_knows(folder, capfd):
    options = ("--init", str(folder / "pretrained"), "--data", str(folder / "table.tsv"))
    assert train(folder, "bert_task", "refused", *options, "--objective.lm-weight", "0.5") == 2
    assert "set objective.lm_weight to 0" in capfd.readouterr().err
    frozen = ("--optimizer.learning-rate", "1e-30", "--optimizer.weight-decay", "0")
    assert train(folder, "bert_task", "task", *options, *frozen) == 0
    old, new = (trained.load(folder / name, quiet).params["model"] for name in ("pretrained", "task"))
    tokens = len(new["embed"]["tokens"])
    assert tokens == len(old["embed"]["tokens"]) - 1  # start, delimiter and extract are known; the mask is not needed
    for tree in (old, new):
        tree["embed"]["tokens"], tree["head"]["bias"] = tree["embed"]["tokens"][:tokens], tree["head"]["bias"][:tokens]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-20), old, new)
    assert "accuracy" in answer(capfd, "eval", folder / "task", "--cache", folder / "cache")
