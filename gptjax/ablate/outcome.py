"""What one run of an experiment came to, read from its folder."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gptjax import config, trained
from gptjax.ablate.experiment import Row
from gptjax.config import Run
from gptjax.train import log

FAILED = "failed.json"


class Outcome(NamedTuple):
    """A finished run, or one that gave up."""

    seed: int | None
    """None for a counted row, which has no seed."""
    metrics: dict[str, float]
    """The last evaluation; empty for a run that gave up."""
    failure: str | None
    """Why it gave up."""
    parameters: int | None
    tokens: float
    """Positions read in training."""
    flops: float | None
    """Training FLOPs by the whole-square convention."""
    seconds: float
    """Time in updates."""
    curve: list[tuple[float, dict[str, float]]]
    """(seconds in updates so far, evaluation), in order."""
    batches: dict[int, str]
    """Fingerprint of the batch at every logged step."""


def finished(folder: Path, row: Row) -> bool:
    """Whether this very configuration has been run to its end in `folder`, or gave up there."""
    path = folder / "config.json"
    if not path.is_file() or config.fingerprint(config.read(path)) != config.fingerprint(row):
        return False
    last = row.steps if isinstance(row, Run) else 1
    judged = any("split" in line and line["step"] == last for line in _lines(folder))
    return judged or (folder / FAILED).exists()


def give_up(folder: Path, why: str) -> None:
    """Note in the folder that its run cannot be finished, so that a sweep that goes on does not try again."""
    config.write_json(folder / FAILED, {"error": why})


def read(folder: Path, row: Row) -> Outcome:
    """The outcome of a finished run."""
    lines = _lines(folder)
    judged = [line for line in lines if "split" in line]
    if not isinstance(row, Run):
        line = judged[-1]
        known = float(line["train_tokens"])
        return Outcome(None, _metrics(line), None, None, known, None, line["seconds"], [], {})
    updates = [line for line in lines if "split" not in line]
    times, read = _totals(updates)
    curve = [(_at(times, line["step"]), _metrics(line)) for line in judged]
    failure = json.loads((folder / FAILED).read_text())["error"] if (folder / FAILED).exists() else None
    parameters, each = _size(folder, row)
    return Outcome(
        seed=row.seed,
        metrics={} if failure else _metrics(judged[-1]),
        failure=failure,
        parameters=parameters,
        tokens=read,
        flops=None if each is None else each * read,
        seconds=max(times.values(), default=0.0),
        curve=curve,
        batches={line["step"]: line["batch"] for line in updates},
    )


def _lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    return log.rows(path) if path.exists() else []


def _metrics(line: dict[str, Any]) -> dict[str, float]:
    """The numbers of an evaluation, without those that say how it was made."""
    about = ("step", "split", "train_tokens", "seconds")
    return {name: float(v) for name, v in line.items() if name not in about and isinstance(v, int | float)}


def _totals(updates: list[dict[str, Any]]) -> tuple[dict[int, float], float]:
    """Seconds in updates up to every logged step, from 0, and positions read in all."""
    times, seconds, read, before = {0: 0.0}, 0.0, 0.0, 0
    for line in updates:
        seconds += line["update_seconds"]
        read += line["tokens_per_second"] * line["step_seconds"] * (line["step"] - before)
        times[line["step"]], before = seconds, line["step"]
    return times, round(read)


def _at(times: dict[int, float], step: int) -> float:
    """Seconds up to a step, in proportion between logged ones."""
    return float(np.interp(step, list(times), list(times.values())))


def _size(folder: Path, row: Run) -> tuple[int, float | None]:
    """Parameters of the model, and training FLOPs a token."""
    tokenizer = trained.recall(folder)[1]
    vocab_size = tokenizer.padded(tokenizer.vocab_size + len(row.objective.specials()))
    context = getattr(row.model, "context", None)
    each = None if context is None else row.model.flops_per_token(vocab_size, context)[0]
    return row.model.parameter_count(vocab_size), each
