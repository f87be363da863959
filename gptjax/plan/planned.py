"""From runs and names of topologies to estimates: each run compiled for each, and advice where it does not fit."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from gptjax.config import Run
from gptjax.data.tokenizer import Tokenizer
from gptjax.plan import compiled, devices, machines, vocabulary
from gptjax.plan.advice import advise
from gptjax.plan.estimate import Estimate, estimate
from gptjax.plan.machines import Topology


class Options(NamedTuple):
    """How to plan."""

    vocab_size: int | None = None
    """Ids of the tokenizer, where its own size is not to be taken."""
    pool: float | None = None
    """Share of a GPU's memory that a run may fill; None is JAX's default."""
    quick: bool = True
    """Compile with `compiled.QUICK`."""


def plan(
    targets: Sequence[tuple[str, Run]], names: Sequence[str], options: Options, say: Callable[[str], None]
) -> list[Estimate]:
    """An estimate of every run on every topology, in this order.

    Raises `ConfigError` for a topology that there is not or that needs packages, and for a run that does not fit a
    mesh; a run that does not fit the memory is no error, but is estimated with advice.
    """
    topologies = [machines.parse(name) for name in names]
    for topology in topologies:
        machines.capacity(topology, options.pool)  # a wrong share is told before anything is compiled
    devices.prepare(max((t.devices for t in topologies if t.chip.platform == "cpu"), default=1))
    return [_planned(name, run, topology, options, say) for name, run in targets for topology in topologies]


def _planned(name: str, run: Run, topology: Topology, options: Options, say: Callable[[str], None]) -> Estimate:
    tokenizer, origin = vocabulary.tokenizer(run, options.vocab_size)
    say(f"compiling {name} for {topology.name}")
    found = _estimated(name, run, topology, tokenizer, origin, options)
    if found.memory.fits:
        return found

    def needs(changed: Run) -> tuple[bool, int | None]:
        memory = _estimated(name, changed, topology, tokenizer, origin, options).memory
        return memory.fits, memory.needed

    return replace(found, advice=advise(run, found, needs, say))


def _estimated(
    name: str, run: Run, topology: Topology, tokenizer: Tokenizer, origin: str, options: Options
) -> Estimate:
    made = compiled.update(run, tokenizer, devices.of(topology), options.quick)
    size = f"{tokenizer.vocab_size:,} ({origin})"
    return estimate(name, run, topology, made, size, options.pool)
