"""An experiment: rows of a table as configurations by name, read from a Python file.

ROWS = {"base": base(), "no_positions": replace(base(), model=replace(base().model, positions="none"))}
BASE = "base"                    the row that others are compared with; the first where it is not named
BUDGET = Tokens(1_000_000)       what every row may spend (gptjax.ablate.budget); without it rows keep their steps
METRIC = "nats_per_token"        what is compared, as the runs' evaluations name it
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from gptjax import arguments
from gptjax.ablate.budget import Budget
from gptjax.config import ConfigError, Run, nearest
from gptjax.counted import Counting

Row = Run | Counting


class Experiment(NamedTuple):
    """What an experiment file says."""

    path: Path
    rows: dict[str, Row]
    base: str
    budget: Budget | None
    metric: str


def read(path: Path, sources: Sequence[str] = ()) -> Experiment:
    """The experiment of a file; `sources` replace the corpora of every row.

    Raises `ConfigError` where the file, or something in it, is not what an experiment is.
    """
    if path.suffix != ".py" or not path.is_file():
        raise ConfigError(f"{path}: is no Python file; name one with ROWS, as experiments/lineage.py")
    module = arguments.load_file(path)
    rows = getattr(module, "ROWS", None)
    if not isinstance(rows, dict) or not rows:
        raise ConfigError(f"{path}: has no ROWS; an experiment is a dict of name -> Run")
    found = {name: _row(path, name, value, sources) for name, value in rows.items()}
    base = getattr(module, "BASE", next(iter(found)))
    if not isinstance(base, str) or base not in found:
        raise ConfigError(f"{path}: BASE={base!r} is no row{nearest(str(base), list(found))}; rows are {_names(found)}")
    budget, metric = getattr(module, "BUDGET", None), getattr(module, "METRIC", "nats_per_token")
    if budget is not None and not isinstance(budget, Budget):
        raise ConfigError(
            f"{path}: BUDGET={budget!r} is no budget; use Tokens, Flops or Seconds of gptjax.ablate.budget"
        )
    if not isinstance(metric, str):
        raise ConfigError(f"{path}: METRIC={metric!r} is not the name of a metric")
    return Experiment(path, found, base, budget, metric)


def _row(path: Path, name: object, value: Row | Callable[[], Row], sources: Sequence[str]) -> Row:
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+-]*", name):
        raise ConfigError(f"{path}: row {name!r}: names are letters, digits, _ . + -, for each names a folder")
    row = value() if callable(value) else value
    if not isinstance(row, Row):
        raise ConfigError(f"{path}: row {name!r} is a {type(row).__name__}, not a Run")
    return arguments.reading(row, sources)


def chosen(experiment: Experiment, picks: Sequence[str]) -> list[str]:
    """Row names for these names or indices from 0 (none: all); raises `ConfigError` for one that there is not."""
    names = list(experiment.rows)
    found = []
    for pick in picks:
        if pick in experiment.rows:
            found.append(pick)
        elif pick.isdecimal() and int(pick) < len(names):
            found.append(names[int(pick)])
        else:
            rows = f"rows are {_names(experiment.rows)}, or 0 to {len(names) - 1}"
            raise ConfigError(f"--row {pick}: there is no such row{nearest(pick, names)}; {rows}")
    return found or names


def _names(rows: dict[str, Row]) -> str:
    return ", ".join(rows)
