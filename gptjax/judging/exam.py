"""What a language model is asked: the tasks of an experiment, after training or at every evaluation of it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from gptjax.config import ConfigError, Run, TaskConfig
from gptjax.data.tokenizer import Tokenizer
from gptjax.evals.bootstrap import Measured
from gptjax.evals.sweep import Between, Evaluator, nothing
from gptjax.evals.task import Subject
from gptjax.interop import origin
from gptjax.judging.judge import Say, in_precision
from gptjax.train import sharding
from gptjax.types import Model, Params


class Result(NamedTuple):
    """What a checkpoint was worth in one task."""

    task: str
    examples: int
    measures: dict[str, Measured]
    definitions: dict[str, str]
    """What each measure is, in words."""
    results: list[dict[str, Any]]
    """What each example gave."""

    def to_json(self) -> dict[str, Any]:
        """{"task", "examples", MEASURE: {"value", "low", "high"}, ...}."""
        measures = {name: one.to_json() for name, one in self.measures.items()}
        return {"task": self.task, "examples": self.examples, **measures}


class Answers(NamedTuple):
    """What a checkpoint answered."""

    step: int
    results: list[Result]

    def to_json(self) -> dict[str, Any]:
        """{"step", "tasks": [...], "definitions": {TASK: {MEASURE: its meaning}}}."""
        words = {result.task: result.definitions for result in self.results}
        return {"step": self.step, "tasks": [result.to_json() for result in self.results], "definitions": words}

    def write(self, path: Path) -> None:
        """What each example gave, one JSON object a line, the task's name in it."""
        rows = [{"task": result.task, **row} for result in self.results for row in result.results]
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def subject(run: Run, model: Model, tokenizer: Tokenizer, mesh: Mesh | None = None) -> Subject:
    """A run's model as tasks ask it; raises `ConfigError` where it does not read a text from left to right."""
    if not isinstance(model, Model) or not model.causal:
        kind = type(run.model).__name__
        raise ConfigError(f"tasks: a {kind} does not predict a text from left to right; they are asked of a GPT")
    if mesh is None:
        return Subject(model, tokenizer, run.evaluation.rows)
    parts = sharding.row_shards(mesh)
    rows = -(-run.evaluation.rows // parts) * parts
    return Subject(model, tokenizer, rows, parts, sharding.placer(mesh, whole=True), sharding.fetch)


def asked(folder: Path, tasks: Sequence[TaskConfig], data: str | None, limit: int | None, say: Say) -> Answers:
    """`gptjax eval --tasks`: what a checkpoint answers; `data` and `limit` take the place of the tasks' own."""
    names = [task.name for task in tasks]
    if again := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"--tasks: two are named {again!r}; ask them by commands of their own")
    found = origin.load(folder, say)
    whom = subject(found.run, found.model, found.tokenizer)
    params, results = in_precision(found.params["model"], found.run.precision), []
    chosen = [task if data is None else replace(task, data=data) for task in tasks]
    chosen = [task if limit is None else replace(task, limit=limit) for task in chosen]
    # All are read before the first is asked: a missing file is found at once.
    for task, ask in [(task, task.build(whom)) for task in chosen]:
        judged = ask(params, nothing)
        for note in judged.notes:
            say(note)
        results.append(Result(task.name, len(judged.results), judged.measures, task.definitions(), judged.results))
    return Answers(found.step, results)


def with_tasks(
    run: Run, judge: Evaluator | None, model: Model, tokenizer: Tokenizer, mesh: Mesh | None = None
) -> Evaluator | None:
    """What judges a run in training: its held-out split, and the tasks of `run.evaluation`, as TASK/MEASURE.

    The records are read and tokenized here. Programs for them are compiled when they are first asked.
    """
    if not run.evaluation.tasks:
        return judge
    whom = subject(run, model, tokenizer, mesh)
    tasks = [(task.name, task.build(whom)) for task in run.evaluation.tasks]

    def judged(params: Params, between: Between) -> dict[str, float]:
        values = {} if judge is None else judge.judge(params, between)
        own = in_precision(run.objective.merged(params)["model"], run.precision)
        for name, ask in tasks:
            values |= {f"{name}/{measure}": one.value for measure, one in ask(own, between).measures.items()}
        return values

    def warm(params: Params) -> None:
        if judge is not None:
            judge.warm(params)

    def names(params: Params) -> tuple[str, ...]:
        theirs = (f"{task.name}/{name}" for task in run.evaluation.tasks for name in task.definitions())
        return (*(() if judge is None else judge.names(params)), *theirs)

    return Evaluator(judged, warm, names)


def require_best(run: Run, judge: Evaluator | None, init: Any) -> None:
    """Raise `ConfigError` where `checkpoints.keep_best` names nothing that the evaluations will measure.

    `init` is the objective's; only the shapes of what it gives are looked at.
    """
    best = run.checkpoints.keep_best
    if best is None:
        return
    names = () if judge is None else judge.names(jax.eval_shape(init, jax.random.key(0)))
    if best not in names:
        found = ", ".join(names) or "none, for nothing is held out"
        raise ConfigError(f"checkpoints.keep_best={best!r} is no metric of this run's evaluation; it has {found}")
