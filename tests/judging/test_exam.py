"""Claims about tasks from the command line and in training: the same numbers, and the best checkpoint by them."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from runs import TARGETS, rows
from test_cli import mistake, mistake_after_notes

from gptjax import launch, trained
from gptjax.cli import run_verb
from gptjax.config import Checkpoints, ConfigError, Evaluation, TaskConfig
from gptjax.evals.choices import MinimalPairs
from gptjax.evals.lastword import LastWord
from gptjax.evals.sweep import Evaluator
from gptjax.judging import exam, judge
from gptjax.train import checkpoint

TASKS = """
from gptjax.evals.choices import MinimalPairs
from gptjax.evals.lastword import LastWord

def pairs(): return MinimalPairs(name="pairs", data="nowhere.jsonl")
def words(): return LastWord(name="words", data="nowhere.jsonl", text="{sentence_good}")
def number(): return 3
"""


def quiet(line: str) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def place(tmp_path_factory, text) -> Path:
    """A folder with tasks, records, and a run that was judged by them every 5 updates."""
    folder = tmp_path_factory.mktemp("exam")
    (folder / "tasks.py").write_text(TASKS)
    pairs = [(f"line {i} says {i} and", f"nile {i} yass and {i}") for i in range(12)]
    records = [{"sentence_good": good, "sentence_bad": bad} for good, bad in pairs]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    launch.launch(run(folder, text, "pairs/accuracy"), folder / "run", folder / "cache", quiet)
    return folder


def run(folder, text, best):
    from targets import small

    data = str(folder / "pairs.jsonl")
    tasks = (MinimalPairs(name="pairs", data=data), LastWord(name="words", data=data, text="{sentence_good}"))
    base = replace(small(), model=replace(small().model, context=32, dropout=0.0), steps=15, ema_decay=None)
    return replace(
        base,
        data=replace(base.data, corpora=(replace(base.data.corpora[0], source=str(text)),)),
        evaluation=Evaluation(every_steps=5, rows=8, max_tokens=200, tasks=tasks),
        checkpoints=Checkpoints(every_steps=5, keep_last=1, keep_best=best),
    )


def judged(folder) -> list[dict]:
    return [row for row in rows(folder) if "split" in row]


def test_rows_of_evaluation_carry_what_the_tasks_found(place):
    found = judged(place / "run")
    assert [row["step"] for row in found] == [5, 10, 15]
    for row in found:
        assert {"nats_per_token", "pairs/accuracy", "pairs/ties", "words/accuracy", "words/perplexity"} <= row.keys()
        assert 0 <= row["pairs/accuracy"] <= 1
    assert len({row["words/perplexity"] for row in found}) == 3


def test_the_best_checkpoint_by_a_task_is_the_one_with_the_highest_accuracy(place):
    accuracies = {row["step"]: row["pairs/accuracy"] for row in judged(place / "run")}
    best = max(accuracies, key=accuracies.__getitem__)  # the first of equals, as the writer takes it
    assert sorted({best, 15}) == checkpoint.steps(place / "run" / "checkpoints")
    about = checkpoint.about(place / "run" / "checkpoints" / str(best))
    assert about["metrics"]["pairs/accuracy"] == accuracies[best]


def test_larger_is_better_also_behind_the_name_of_a_task(tmp_path):
    for metric, best in (("lambada/accuracy", 1), ("lambada/perplexity", 2), ("arc/accuracy_byte", 1)):
        folder = tmp_path / metric
        folder.mkdir(parents=True)
        writer = checkpoint.Writer(folder, 1, metric)
        for step, value in ((1, 0.9), (2, 0.1), (3, 0.5)):
            writer.save(step, {"params": {"x": np.ones(2)}}, {"metrics": {metric: value}})
        writer.close()
        assert checkpoint.steps(folder) == [best, 3]


def ask(place, capfd, *options) -> dict:
    words = ["eval", place / "run", "--data", place / "pairs.jsonl", "--json", "--tasks", *options]
    capfd.readouterr()
    assert run_verb([str(word) for word in words]) == 0
    return json.loads(capfd.readouterr().out)


def test_the_command_line_finds_what_training_found_with_intervals(place, capfd, tmp_path):
    out = tmp_path / "results.jsonl"
    found = ask(place, capfd, f"{place}/tasks.py:pairs", f"{place}/tasks.py:words", "--results", out)
    last = judged(place / "run")[-1]
    assert found["step"] == 15
    assert [one["task"] for one in found["tasks"]] == ["pairs", "words"]
    for one in found["tasks"]:
        assert one["examples"] == 12
        for name, words in found["definitions"][one["task"]].items():
            assert words
            assert one[name]["value"] == pytest.approx(last[f"{one['task']}/{name}"], rel=1e-6)
            assert one[name]["low"] <= one[name]["value"] <= one[name]["high"]
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["task"] for line in lines] == ["pairs"] * 12 + ["words"] * 12
    right = np.mean([line["chosen"] == line["answer"] for line in lines[:12]])
    assert right == found["tasks"][0]["accuracy"]["value"]


def test_a_limit_asks_the_first_examples(place, capfd):
    all_, some = (ask(place, capfd, f"{place}/tasks.py:words", *more) for more in ((), ("--limit", 5)))
    assert [one["tasks"][0]["examples"] for one in (all_, some)] == [12, 5]
    assert some["tasks"][0]["perplexity"] != all_["tasks"][0]["perplexity"]


def test_people_get_a_table_that_says_what_is_measured(place, capfd):
    capfd.readouterr()
    words = ["eval", place / "run", "--data", place / "pairs.jsonl", "--tasks", place / "tasks.py:pairs"]
    assert run_verb([str(word) for word in words]) == 0
    out = " ".join(capfd.readouterr().out.replace("│", " ").split())
    assert "pairs, 12 examples" in out
    assert "95% interval" in out
    assert "right" in out


def test_a_wrong_metric_for_the_best_is_refused_before_anything_is_written(place, text, tmp_path):
    for best, there in (("pairs/acuracy", "pairs/accuracy"), ("lambada/accuracy", "words/perplexity")):
        with pytest.raises(ConfigError, match=rf"^checkpoints.keep_best='{best}' is no metric .*{there}"):
            launch.launch(run(place, text, best), tmp_path / "run", place / "cache", quiet)
    assert not (tmp_path / "run" / "config.json").exists()
    assert rows(tmp_path / "run") == []


def test_the_names_that_are_known_early_are_those_of_the_rows(place):
    found = trained.load(place / "run", quiet)

    def init(key: jax.Array) -> object:
        return found.params

    sources = found.run.objective.sources(found.run.data, found.tokenizer, 32, found.run.seed, place / "cache")
    plain = judge.evaluator(found.run, found.model, found.objective, sources)
    judges = exam.with_tasks(found.run, plain, found.model, found.tokenizer)
    early = judges.names(jax.eval_shape(init, jax.random.key(0)))
    assert set(early) == judged(place / "run")[-1].keys() - {"step", "split"}
    half = judge.evaluator(replace(found.run, precision="bfloat16"), found.model, found.objective, sources)
    assert set(half.names(found.params)) == {name for name in early if "/" not in name}


def test_a_fine_tuned_task_says_its_names_early_and_its_intervals_late(place, text, capfd, tmp_path):
    table = "sentence\tlabel\n" + "".join(
        f"the number {i} is {'even' if i % 2 else 'odd'}\t{i % 2}\n" for i in range(60)
    )
    (tmp_path / "table.tsv").write_text(table)
    base = [
        "train",
        f"{TARGETS}:task",
        "--out",
        tmp_path / "run",
        "--cache",
        tmp_path,
        "--data",
        tmp_path / "table.tsv",
    ]
    line = mistake_after_notes(capfd, *base, "--checkpoints.keep-best", "acuracy")
    names = line.partition("it has ")[2].split(", ")
    assert len(set(names)) == len(names)
    assert {"loss_nats", "accuracy", "matthews", "f1"} <= {*names}
    assert run_verb([str(word) for word in base]) == 0
    capfd.readouterr()
    assert run_verb(["eval", str(tmp_path / "run"), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["accuracy"] == judged(tmp_path / "run")[-1]["accuracy"]
    assert found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"]
    assert "accuracy_low" not in judged(tmp_path / "run")[-1]


def test_mistakes_in_tasks_are_one_line(place, capfd, tmp_path):
    def line(*words):
        return mistake(capfd, "eval", place / "run", *words)

    assert "gives a int, not a task" in line("--tasks", f"{place}/tasks.py:number")
    assert "did you mean 'pairs'" in line("--tasks", f"{place}/tasks.py:pair")
    assert "nowhere.jsonl: no such file" in line("--tasks", f"{place}/tasks.py:pairs")
    assert "limit=0 must be positive" in line("--tasks", f"{place}/tasks.py:pairs", "--limit", 0)
    assert "--num-fewshot 2: is for tasks of the" in line("--tasks", f"{place}/tasks.py:pairs", "--num-fewshot", 2)
    assert "--stride 3: is for running text" in line("--tasks", f"{place}/tasks.py:pairs", "--stride", 3)
    assert "is for the examples of --tasks" in line("--results", tmp_path / "x")
    twice = ["--tasks", f"{place}/tasks.py:pairs", f"{place}/tasks.py:pairs"]
    assert "two are named 'pairs'" in line(*twice)
    assert "there is no folder" in line(*twice[:2], "--results", tmp_path / "no" / "x")
    with pytest.raises(ConfigError, match="tasks: two have one name; they are a, a"):
        Evaluation(tasks=(TaskConfig(name="a", data="x"), TaskConfig(name="a", data="y")))


def test_what_reads_both_sides_is_not_asked(place, text, tmp_path):
    from targets import bert

    task = MinimalPairs(name="pairs", data=str(place / "pairs.jsonl"))
    asked = replace(bert(), evaluation=Evaluation(every_steps=6, rows=8, tasks=(task,)))
    asked = replace(asked, data=replace(asked.data, corpora=(replace(asked.data.corpora[0], source=str(text)),)))
    with pytest.raises(ConfigError, match="a Bert does not predict a text from left to right"):
        launch.launch(asked, tmp_path / "run", place / "cache", quiet)


def test_nothing_held_out_and_no_task_has_nothing_to_keep_the_best_by(place, text):
    plain = replace(run(place, text, "nats_per_token"), evaluation=Evaluation())
    with pytest.raises(ConfigError, match="it has none, for nothing is held out"):
        exam.require_best(plain, None, lambda key: {})
    judges = Evaluator(lambda params, between: {}, lambda params: None, lambda params: ("nats_per_token",))
    exam.require_best(plain, judges, lambda key: {})
