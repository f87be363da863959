"""Running an experiment: every row with every seed, one after another, and one table of what they came to.

DIR/runs/ROW/seed-K are ordinary run folders (ROW/counted where there is no seed). What is finished is not run again, so
a killed sweep continues by the same command, and several machines may share DIR, each with rows and seeds of its own.
DIR/table.json, table.md and report.html are written anew after every run.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax

from gptjax import config, counted, launch
from gptjax.ablate import outcome, summary, table
from gptjax.ablate.budget import Seconds
from gptjax.ablate.experiment import Experiment, Row
from gptjax.ablate.outcome import Outcome
from gptjax.config import ConfigError, Run
from gptjax.report import ablation
from gptjax.train.folder import FolderError, remembered
from gptjax.train.loop import Diverged

Say = Callable[[str], None]


class Job(NamedTuple):
    """One run of an experiment."""

    name: str
    seed: int | None
    row: Row
    folder: Path


def run(
    experiment: Experiment, seeds: int, out: Path, cache: Path, rows: Sequence[str], only: Sequence[int], say: Say
) -> dict[str, Any]:
    """Run these rows with seeds 0 ... seeds - 1 (or `only` some of them) and give what `table.json` holds.

    The table has all rows that have finished in `out`, by whomever. Raises `ConfigError` for a row that cannot be
    judged by the experiment's metric, and what `launch` raises; a row that diverges is noted and the others go on.
    """
    if seeds < 1:
        raise ConfigError(f"--seeds {seeds}: must be positive")
    for seed in only:
        if not 0 <= seed < seeds:
            raise ConfigError(f"--seed {seed}: is not one of the seeds 0 to {seeds - 1}; raise --seeds")
    if out.is_file() or (out / "config.json").exists():
        raise FolderError(f"--out {out}: is a file or a run's own folder; name a folder for the experiment")
    budgeted = {}
    for name in experiment.rows:
        row = _budgeted(experiment, name, out, cache, say, name in rows)
        if row is not None:
            budgeted[name] = row
    todo = [job for job in jobs(budgeted, only or range(seeds), out) if job.name in rows]
    known: dict[Path, Outcome] = {}
    for number, job in enumerate(todo, start=1):
        if outcome.finished(job.folder, job.row):
            continue
        say(f"run {number} of {len(todo)}: {job.name}" + ("" if job.seed is None else f", seed {job.seed}"))
        _run(job, cache, say)
        known[job.folder] = outcome.read(job.folder, job.row)
        _check_metric(experiment, job, known[job.folder])
        write(experiment, budgeted, seeds, out, known)
    return write(experiment, budgeted, seeds, out, known)


def jobs(rows: dict[str, Row], seeds: Sequence[int], out: Path) -> list[Job]:
    """All runs: every row with the first seed, then with the next, so that there is soon something to compare.

    A counted row goes with seed 0, so that of several machines one counts it.
    """
    found = []
    for seed in seeds:
        for name, row in rows.items():
            home = out / "runs" / name
            if isinstance(row, Run):
                found.append(Job(name, seed, replace(row, seed=seed), home / f"seed-{seed}"))
            elif seed == 0:
                found.append(Job(name, None, row, home / "counted"))
    return found


def _run(job: Job, cache: Path, say: Say) -> None:
    if not isinstance(job.row, Run):
        counted.count(job.row, job.folder, cache)
        return
    try:
        launch.launch(job.row, job.folder, cache, say)
    except (Diverged, FloatingPointError) as error:  # the second where it was judged after it had gone wrong
        say(f"{job.name}: {error}")
        outcome.give_up(job.folder, str(error))
    jax.clear_caches()  # compiled programs of this row are of no use to the next


def _budgeted(experiment: Experiment, name: str, out: Path, cache: Path, say: Say, wanted: bool) -> Row | None:
    """The row with as many updates as the budget pays for, found once and remembered in budget/ROW.json.

    None for a row of a budget of seconds that is not wanted here and was not timed yet.
    """
    row, budget = experiment.rows[name], experiment.budget
    if budget is None or not isinstance(row, Run):
        return row
    path = out / "budget" / f"{name}.json"
    asked = {"budget": config.to_json(budget), "row": config.fingerprint(row)}
    if path.is_file() and remembered(path, "asked") == asked:
        return _lasting(experiment, name, row, remembered(path, "steps"))
    if isinstance(budget, Seconds):
        if not wanted:
            return None
        say(f"{name}: timing some updates")
    steps = budget.steps(row, out / "budget" / f"{name}-{asked['row'][:8]}", cache, say)
    path.parent.mkdir(parents=True, exist_ok=True)
    config.write_json(path, {"asked": asked, "steps": steps})
    return _lasting(experiment, name, row, steps)


def _lasting(experiment: Experiment, name: str, row: Run, steps: int) -> Run:
    try:
        return replace(row, steps=steps)
    except ConfigError as error:
        raise ConfigError(f"{experiment.path}: row {name}, {steps} updates by its budget: {error}") from None


def _check_metric(experiment: Experiment, job: Job, found: Outcome) -> None:
    if experiment.metric not in found.metrics and found.failure is None:
        there = ", ".join(found.metrics) or "none: nothing is held out"
        what = f"row {job.name} has no finite metric {experiment.metric!r}"
        raise ConfigError(f"{experiment.path}: {what}; it has {there}")


def write(
    experiment: Experiment, rows: dict[str, Row], seeds: int, out: Path, known: dict[Path, Outcome]
) -> dict[str, Any]:
    """Write `table.json`, `table.md` and `report.html` of all that is finished; gives the first.

    What is read of a run folder is put into `known`, and not read again: a finished run does not change.
    """
    outcomes: dict[str, list[Outcome]] = {name: [] for name in experiment.rows}
    for job in jobs(rows, range(seeds), out):
        if job.folder not in known and outcome.finished(job.folder, job.row):
            known[job.folder] = outcome.read(job.folder, job.row)
        if job.folder in known:
            outcomes[job.name].append(known[job.folder])
    result = {
        "experiment": experiment.path.stem,
        "metric": experiment.metric,
        "base": experiment.base,
        "seeds": seeds,
        "level": summary.LEVEL,
        "budget": _spelled(experiment),
        "rows": summary.summarise(outcomes, experiment.base, experiment.metric, range(seeds)),
    }
    out.mkdir(parents=True, exist_ok=True)
    config.write_json(out / "table.json", result)
    ablation.page.replace_text(out / "table.md", table.markdown(result))
    curves = {
        name: [_points(one, experiment.metric) for one in found if one.failure is None]
        for name, found in outcomes.items()
    }
    configs = {name: config.to_json(row) for name, row in (experiment.rows | rows).items()}
    ablation.write(result, table.header(result), table.cells(result), table.footnotes(result), curves, configs, out)
    return result


def _points(one: Outcome, metric: str) -> list[tuple[float, float]]:
    return [(seconds, metrics[metric]) for seconds, metrics in one.curve if metric in metrics]


def _spelled(experiment: Experiment) -> str:
    if experiment.budget is None:
        return "the row's own steps"
    fields = dataclasses.asdict(experiment.budget).items()
    return ", ".join(f"{v:,.6g} {name}" if isinstance(v, float) else f"{v:,} {name}" for name, v in fields)
