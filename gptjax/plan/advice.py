"""What would fit where a run does not: changes tried one after another, each by compiling it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from gptjax.config import Run
from gptjax.models.stack import REMAT
from gptjax.plan.estimate import Estimate

TILE_TOKENS = 8192
"""Tokens whose logits exist at once, in the tiled head that is tried."""
TRIES = 3
"""Members of a kind that are compiled at most."""
OPTIMISM = 0.8
"""Temporaries are taken to shrink at best to this share of what rows would tell, when the first try is chosen."""

Needs = Callable[[Run], tuple[bool, int | None]]
"""Compiles a run: (it fits, bytes that a device needs or None where the compiler gave up)."""


class Change(NamedTuple):
    """A run that differs in one way, or a few."""

    words: str
    """As options of the command line."""
    run: Run


def advise(run: Run, estimate: Estimate, needs: Needs, say: Callable[[str], None]) -> tuple[str, ...]:
    """Of each kind of change the mildest that fits, with what a device then needs; and the kinds that do not help.

    Where to begin is guessed from the run's own estimate; what is said to fit has been compiled.
    """
    found = []
    for kind, changes in kinds(run, estimate):
        for change in changes[:TRIES]:
            say(f"it does not fit; compiling {change.words}")
            fits, needed = needs(change.run)
            if fits and needed is not None:
                found.append(f"{change.words} fits: {needed / 2**30:.2f} GiB a device")
                break
        else:
            found.append(_none_fits(kind, changes))
    return tuple(found)


def _none_fits(kind: str, changes: list[Change]) -> str:
    if not changes:
        return f"{kind} cannot be tried"
    if len(changes) <= TRIES:
        return f"{kind} alone does not fit"
    return f"{kind} does not fit up to {changes[TRIES - 1].words}; stronger ones were not compiled"


def kinds(run: Run, estimate: Estimate) -> Iterator[tuple[str, list[Change]]]:
    """Kinds of changes, and the members of each from mild to strong; all but the last kind give the same update."""
    remat, least = list(_remat(run)), _least(estimate)
    if split := list(_split(run, estimate, remat[-1:])):
        yield "splitting parameters", split
    if math.isinf(least):  # whatever is done about activations, the state leaves them no room
        return
    yield "recomputation", remat
    if getattr(run.objective, "tile_tokens", TILE_TOKENS) in ("auto", "all"):
        objective: Any = replace(run.objective, tile_tokens=TILE_TOKENS)  # type: ignore[call-arg]  # it has the field
        yield "a tiled head", [Change(f"--objective.tile-tokens {TILE_TOKENS}", replace(run, objective=objective))]
    rows = run.batch_rows // run.accumulation // (estimate.devices // run.mesh.tensor)
    shares = [n for n in range(2, rows + 1) if rows % n == 0 and n >= least]
    parts = [run.accumulation * n for n in shares]
    yield "accumulation", [Change(f"--accumulation {n}", replace(run, accumulation=n)) for n in parts]
    fewer = [run.batch_rows // n for n in shares]
    yield "another batch", [Change(f"--batch-rows {n}", replace(run, batch_rows=n)) for n in fewer]


def _least(estimate: Estimate) -> float:
    """Into how many parts rows must be split at least before the temporaries might fit; infinite: never."""
    memory = estimate.memory
    room = memory.capacity - memory.params - memory.optimizer - memory.average
    return OPTIMISM * (memory.temporaries or 0) / room if room > 0 else math.inf


def _remat(run: Run) -> Iterator[Change]:
    before = getattr(run.model, "remat", REMAT[-1])
    for policy in REMAT[REMAT.index(before) + 1 :]:
        model = replace(run.model, remat=policy)  # type: ignore[call-arg]  # it has the field
        yield Change(f"--model.remat {policy}", replace(run, model=model))


def _split(run: Run, estimate: Estimate, strongest: list[Change]) -> Iterator[Change]:
    """Parameters and optimizer state over all devices that tensor leaves, as they come together now and by layers."""
    fsdp = estimate.devices // run.mesh.tensor
    split = run.mesh.fsdp != fsdp
    mesh = replace(run.mesh, data=1, fsdp=fsdp) if split else run.mesh
    first = Change(f"--mesh.data 1 --mesh.fsdp {fsdp} " if split else "", replace(run, mesh=mesh))
    others = (Change(f"{first.words}{one.words} ", replace(first.run, model=one.run.model)) for one in strongest)
    for words, changed in (first, *others):
        if split:
            yield Change(words.strip(), changed)
        looped = getattr(changed.model, "scan", False) and getattr(changed.model, "remat", "none") != "none"
        if looped and mesh.gather == "update" and fsdp > 1:
            yield Change(f"{words}--mesh.gather layer", replace(changed, mesh=replace(mesh, gather="layer")))
