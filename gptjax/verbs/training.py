"""The verbs that make runs, and that plan them."""

import itertools
import json
from collections.abc import Sequence

import jax
import tyro
from rich.console import Console

from gptjax import arguments, counted, launch
from gptjax.ablate import experiment as experiments
from gptjax.ablate import runner
from gptjax.ablate import table as rows_table
from gptjax.config import ConfigError, Run
from gptjax.counted import Counting
from gptjax.plan import planned
from gptjax.plan import table as estimates
from gptjax.train import allocator, virtual
from gptjax.verbs.options import Ablate, Count, Plan, Train
from gptjax.verbs.shown import say


def train(argv: Sequence[str]) -> None:
    """`gptjax train`."""
    allocator.keep_freed_memory()  # before a target, or what it starts from, asks for devices
    named = arguments.first_target(argv)
    chosen = None if named is None else arguments.configuration(named)
    if isinstance(chosen, Counting):
        count(argv, chosen)
        return
    run = arguments.following_init(chosen or launch.default_run(), argv)
    default = Train(target=tyro.MISSING, out=tyro.MISSING, run=run)
    asked = arguments.parse(Train, argv, "gptjax train", default)
    if asked.target != named:
        raise ConfigError(f"target {asked.target!r}: name it first: gptjax train FILE.py:NAME --out RUN")
    run = arguments.reading(asked.run, asked.source)
    if asked.distributed or asked.coordinator is not None:
        jax.distributed.initialize(asked.coordinator, asked.processes, asked.process)
    trackers = launch.Trackers(asked.tensorboard, asked.wandb_project)
    launch.launch(run, asked.out, asked.cache, say, trackers)


def count(argv: Sequence[str], counting: Counting) -> None:
    """`gptjax train` of a model that is counted."""
    default = Count(target=tyro.MISSING, out=tyro.MISSING, counting=counting)
    asked = arguments.parse(Count, argv, "gptjax train", default)
    found = arguments.reading(asked.counting, asked.source)
    for name, value in counted.count(found, asked.out, asked.cache).items():
        say(f"{name} {value}")


def ablate(argv: Sequence[str]) -> None:
    """`gptjax ablate`."""
    allocator.keep_freed_memory()  # before the experiment, or a budget of its, asks for devices
    asked = arguments.parse(Ablate, argv, "gptjax ablate")
    experiment = experiments.read(asked.experiment, asked.source)
    rows = experiments.chosen(experiment, asked.row)
    virtual.split(row for row in experiment.rows.values() if isinstance(row, Run))
    found = runner.run(experiment, asked.seeds, asked.out, asked.cache, rows, asked.seed, say)
    if asked.json:
        print(json.dumps(found))
        return
    Console().print(rows_table.terminal(found))
    say(f"wrote {asked.out / 'report.html'}")


def plan(argv: Sequence[str]) -> None:
    """`gptjax plan`; options of a run change every target alike."""
    named = list(itertools.takewhile(lambda word: not word.startswith("-"), argv))
    runs = [arguments.following_init(arguments.target(name), argv) for name in named] or [launch.default_run()]
    defaults = [Plan(targets=tyro.MISSING, topology=tyro.MISSING, run=run) for run in runs]
    asked = [arguments.parse(Plan, argv, "gptjax plan", default) for default in defaults]
    first = asked[0]
    if list(first.targets) != named:
        raise ConfigError("targets: name them first: gptjax plan FILE.py:NAME ... --topology v5e:4x4")
    options = planned.Options(first.vocab_size, first.memory_fraction, not first.full_effort)
    found = planned.plan([(n, one.run) for n, one in zip(named, asked, strict=True)], first.topology, options, say)
    if first.json:
        print(json.dumps({"plans": [one.to_json() for one in found]}, ensure_ascii=False))
        return
    console = Console()
    console.print(estimates.table(found))
    for line in estimates.footnotes(found):
        console.print(line, style="dim", soft_wrap=True, highlight=False)
