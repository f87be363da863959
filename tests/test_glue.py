"""Claims about the GLUE experiment."""

import json
from pathlib import Path

import pytest
from untrained import write

from gptjax import arguments, trained
from gptjax.data.tokenizers import Bytes
from gptjax.models.gpt import GPT

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "glue.py"
TINY = GPT(layers=1, width=8, heads=2, mlp_width=8, context=32)


@pytest.fixture(scope="module")
def experiment():
    return arguments.load_file(EXPERIMENT)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An untrained run, and a table with the columns of RTE."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write(tmp_path / "init", TINY, tokenizer=Bytes())
    rows = [f"{i}\tIt is {i}.\tIs it?\t{'' if i % 2 else 'not_'}entailment" for i in range(12)]
    (tmp_path / "glue/RTE").mkdir(parents=True)
    for part in ("train", "dev"):
        table = ["index\tsentence1\tsentence2\tlabel", *rows]
        (tmp_path / "glue/RTE" / f"{part}.tsv").write_text("\n".join(table) + "\n")
    return tmp_path


def test_published_epochs_are_as_many_updates_as_the_head_says(experiment, place):
    runs = {name: experiment.tuned(name, place / "init", place / "glue", 1e-3, None) for name in experiment.TARGETS}
    assert {name: run.steps for name, run in runs.items()} == {"rte": 233, "stsb": 538, "cola": 801, "sst2": 6313}
    for name, run in runs.items():
        assert f" {run.steps:,}" in experiment.__doc__, name
        assert (run.model.width, run.tokenizer) == (TINY.width, Bytes())  # of what it starts from
        assert run.optimizer.learning_rate == 1e-3


def test_a_task_is_tuned_once_and_told_beside_the_published_score(experiment, place, capsys):
    asked = place / "init", place / "glue", place / "out", ("rte",), 1e-3, 2
    experiment.main(*asked)
    found = json.loads((place / "out/glue.json").read_text())
    lines = [json.loads(line) for line in (place / "out/rte/metrics.jsonl").read_text().splitlines()]
    [judged] = [line for line in lines if "split" in line]
    row = {"metric": "accuracy", "updates": 2, "ours": 100 * judged["accuracy"], "published": 56.0}
    assert found == {"rte": row}
    assert trained.load(place / "out/rte", print).step == 2
    capsys.readouterr()
    experiment.main(*asked)
    again = capsys.readouterr()
    assert again.err.count("already trained") == 1
    assert "at most 2 updates" in again.out
    assert json.loads((place / "out/glue.json").read_text()) == found
