"""The tasks of the lm-evaluation-harness, asked of a run's checkpoint."""

import math
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from gptjax import trained
from gptjax.config import ConfigError, nearest
from gptjax.evals.continuations import TOKENS_AT_ONCE
from gptjax.interop import origin
from gptjax.judging.judge import Say, in_precision
from gptjax.types import Model

SEED = 1234
"""Of whatever a task draws; the harness's own default."""
RESAMPLES = 1000
"""Bootstrap resamples of a standard error that has no formula."""


def asked(
    folder: Path, names: Sequence[str], include: Path | None, limit: int | None, shots: int | None, say: Say
) -> dict[str, Any]:
    """`gptjax eval --tasks` of the harness: every metric of every task, as the harness computes them.

    `include` is a folder of YAML files beside the harness's own; `limit` examples of each task are asked, behind
    `shots` solved ones. Where choices are equally likely the harness takes the first, unlike the tasks of this house.
    Gives {"step", "tasks": [...], "requests", "cut_requests", "seconds"}: those in which the model answered.

    Raises `ConfigError` where the harness is not installed, a file of `include` cannot be read, a name is not known, or
    the model has no continuations, and `FloatingPointError` for a score that is not finite.
    """
    for option, value, least in (("limit", limit, 1), ("num-fewshot", shots, 0)):
        if value is not None and value < least:
            raise ConfigError(f"--{option} {value}: must be {least} or more")
    if include is not None and not include.is_dir():
        raise ConfigError(f"--include-path {include}: is no folder; it holds the YAML files of tasks")
    os.environ["DISABLE_MULTIPROC"] = "1"  # its bootstrap would fork, and a process that runs JAX must not
    try:
        from lm_eval import simple_evaluate

        from gptjax.evals.harness import Backend
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--tasks {names[0]}: needs the lm-evaluation-harness ({error.name} is missing); "
            "pip install 'gptjax[harness]', or name a task as FILE.py:NAME"
        ) from None
    manager, found = _manager(names, include), _reader(folder, say)
    params = in_precision(found.params["model"], found.run.precision)
    backend = Backend(found.model, params, found.tokenizer, TOKENS_AT_ONCE, SEED)
    how = {"num_fewshot": shots, "limit": limit, "bootstrap_iters": RESAMPLES, "log_samples": False}
    try:
        with redirect_stdout(sys.stderr):  # it talks, and stdout is for results
            results = simple_evaluate(backend, tasks=list(names), task_manager=manager, **how)
    except TemplateError as error:
        raise ConfigError(f"--tasks {' '.join(names)}: a template of the task fails: {error}") from None
    if backend.cut:
        say(f"{backend.cut:,} of {backend.requests:,} requests did not fit and lost their oldest tokens")
    tasks = [_task(name, values, results["n-samples"]) for name, values in results["results"].items()]
    about = {"requests": backend.requests, "cut_requests": backend.cut, "seconds": backend.seconds}
    return {"step": found.step, "tasks": tasks, **about}


def _reader(folder: Path, say: Say) -> trained.Trained:
    """A run whose model has continuations."""
    found = origin.load(folder, say)
    if not isinstance(found.model, Model) or not found.model.causal:
        kind = type(found.run.model).__name__
        raise ConfigError(f"RUN {folder}: a {kind} does not predict a text from left to right; ask a GPT these tasks")
    return found


def _manager(names: Sequence[str], include: Path | None) -> Any:
    """What knows the tasks; raises `ConfigError` for a name that it does not know."""
    from lm_eval.tasks import TaskManager

    given = None if include is None else str(include)
    if include is not None:
        _require_readable(include)
        alone = TaskManager(include_path=given, include_defaults=False)
        if set(names) <= set(alone.all_tasks):  # the harness's own take many seconds to be read
            return alone
    everything = TaskManager(include_path=given)
    if unknown := [name for name in names if name not in everything.all_tasks]:
        where = "the harness's" if given is None else f"those of {given} or the harness's"
        near = nearest(unknown[0], everything.all_tasks)
        raise ConfigError(f"--tasks {unknown[0]}: is not among {where}{near}; `lm_eval ls tasks` lists them")
    return everything


def _require_readable(include: Path) -> None:
    """Raise `ConfigError` naming file and line of what is no YAML: the harness would pass over it without a word."""
    import yaml
    from lm_eval.tasks._index import TaskIndex
    from lm_eval.tasks._yaml_loader import load_yaml

    for path in TaskIndex._iter_yaml_files(include):
        try:
            load_yaml(path, resolve_func=False)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = str(path) if mark is None else f"{mark.name}:{mark.line + 1}"
            raise ConfigError(f"{place}: is no YAML ({error.problem or error.context})") from None
        except (yaml.YAMLError, ValueError, TypeError) as error:  # not text, no mapping, or includes that are no files
            raise ConfigError(f"{path}: is no task of the harness ({' '.join(str(error).split())})") from None
        except OSError as error:
            included = f"includes {error.filename}, which " if path.exists() and error.filename != str(path) else ""
            raise ConfigError(f"{path}: {included}cannot be read ({error.strerror})") from None


def _task(name: str, values: Mapping[str, Any], samples: Mapping[str, Any]) -> dict[str, Any]:
    """{"task", "examples", METRIC: {"value", "stderr"}, ...}; a filter other than none is part of the metric's name.

    A group of tasks has no examples of its own (None), and no metrics where it adds none up.
    """
    metrics = {}
    for key, value in values.items():
        metric, comma, filtered = key.partition(",")
        if not comma or metric.endswith("_stderr"):
            continue
        error = values.get(f"{metric}_stderr,{filtered}")
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise FloatingPointError(f"task {name}: {metric} is {value}, which is no finite number")
        shown = metric if filtered == "none" else f"{metric}/{filtered}"
        stderr = float(error) if isinstance(error, int | float) and math.isfinite(error) else None
        metrics[shown] = {"value": float(value), "stderr": stderr}
    return {"task": name, "examples": samples.get(name, {}).get("effective"), **metrics}
