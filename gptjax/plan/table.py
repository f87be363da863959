"""Estimates as a table for people: one column each."""

from collections.abc import Callable, Sequence

from rich import box
from rich.table import Table

from gptjax.plan.estimate import Estimate
from gptjax.plan.roofline import Times

UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
CLOCK = ((3600, "hours"), (60, "minutes"), (1, "s"), (1e-3, "ms"))
Cell = Callable[[Estimate], str]


def table(estimates: Sequence[Estimate]) -> Table:
    """Facts down, runs across."""
    drawn = Table(box=box.SIMPLE_HEAD, header_style="bold")
    drawn.add_column("")
    for one in estimates:
        drawn.add_column(f"{one.target.rpartition(':')[2]}\n{one.topology}", justify="right", overflow="fold")
    for section in SECTIONS:
        for name, cell in section:
            drawn.add_row(name, *map(cell, estimates))
        drawn.add_section()
    return drawn


def footnotes(estimates: Sequence[Estimate]) -> list[str]:
    """What stands under the table: the basis of its numbers, each line once."""
    lines = []
    for one in estimates:
        where = f"{one.target.rpartition(':')[2]} on {one.topology}"
        lines += [f"{where}: {note}" for note in one.notes]
        lines.append(f"{where}: vocabulary {one.vocabulary}")
        lines.append(f"{where}: memory {one.memory.reserve}")
        lines += [f"{where}: {one.refusal}"] * (one.refusal is not None)
        lines += [f"{where}: {said}" for said in one.uncounted]
        lines += [f"{where}: {advice}" for advice in one.advice]
    bases = dict.fromkeys(f"times: {one.basis}" for one in estimates)
    return [*lines, *bases]


def _bytes(count: float | None) -> str:
    if count is None:
        return "?"
    unit, name = next((u for u in UNITS if count >= u[0]), UNITS[-1])
    return f"{count / unit:,.2f} {name}"


def _verdict(one: Estimate) -> str:
    return f"{'yes' if one.memory.fits else 'NO'}, of {_bytes(one.memory.capacity)}"


def _mesh(one: Estimate) -> str:
    split = " x ".join(f"{name} {ways}" for name, ways in one.mesh.items() if ways > 1)
    return split or "one device"


def _collectives(one: Estimate) -> str:
    kinds: dict[str, tuple[int, float]] = {}
    for each in one.collectives:
        count, total = kinds.get(each.kind, (0, 0.0))
        kinds[each.kind] = count + each.count, total + each.bytes
    lines = [f"{count} {kind}, {_bytes(total)}" for kind, (count, total) in kinds.items()]
    return "\n".join(lines) or ("?" if one.refusal else "none")


def _spread(times: Times | None) -> str:
    """Seconds, in the unit that suits the expected ones."""
    if times is None:
        return "?"
    unit, name = next((u for u in CLOCK if times.expected >= u[0]), CLOCK[-1])
    low, expected, high = (_figure(time / unit) for time in times)
    return f"{expected} {name}\n({low} to {high})"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"


def _rate(one: Estimate) -> str:
    return "?" if one.tokens_per_second is None else f"{_figure(one.tokens_per_second / 1000)}k"


SECTIONS: tuple[tuple[tuple[str, Cell], ...], ...] = (
    (
        ("devices", lambda one: f"{one.devices:,}"),
        ("mesh", _mesh),
        ("parameters", lambda one: f"{one.parameters:,}"),
        ("rows, tokens of an update", lambda one: f"{one.batch_rows:,}, {one.tokens:,}"),
    ),
    (
        ("params", lambda one: _bytes(one.memory.params)),
        ("optimizer", lambda one: _bytes(one.memory.optimizer)),
        ("batch", lambda one: _bytes(one.memory.batch)),
        ("activations and temporaries", lambda one: _bytes(one.memory.temporaries)),
        ("peak of a device", lambda one: _bytes(one.memory.needed)),
        ("fits", _verdict),
    ),
    (
        ("FLOPs of an update, a device", lambda one: f"{one.flops.all / one.devices:.3g}"),
        ("collectives of an update", _collectives),
        ("step, predicted", lambda one: _spread(one.step_seconds)),
        ("tokens/s, predicted", _rate),
        ("updates", lambda one: f"{one.steps:,}"),
        ("whole run, predicted", lambda one: _spread(one.hours and one.hours.times(3600))),
        ("all chips' time, predicted", lambda one: _spread(one.chip_hours and one.chip_hours.times(3600))),
        ("compiled in", lambda one: f"{one.compile_seconds:.0f} s"),
    ),
)
