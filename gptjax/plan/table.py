"""Estimates as a table for people: one column each."""

from collections.abc import Callable, Sequence

from rich import box
from rich.table import Table

from gptjax.plan.estimate import Estimate
from gptjax.plan.roofline import Times

GiB = 2**30
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
        if one.unknown_loops:
            lines.append(f"{where}: {one.unknown_loops} loops of unknown length are counted once")
        lines += [f"{where}: {advice}" for advice in one.advice]
    bases = dict.fromkeys(f"times: {one.basis}" for one in estimates)
    return [*lines, *bases]


def _bytes(count: float | None) -> str:
    return "?" if count is None else f"{count / GiB:,.2f} GiB" if count >= GiB / 100 else f"{count / 2**20:,.2f} MiB"


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


def _spread(times: Times | None, unit: str, scale: float = 1.0) -> str:
    if times is None:
        return "?"
    low, expected, high = (f"{_figure(time * scale)}" for time in times)
    return f"{expected} {unit}\n({low} to {high})"


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
        ("step, predicted", lambda one: _spread(one.step_seconds, "ms", 1000)),
        ("tokens/s, predicted", _rate),
        ("updates", lambda one: f"{one.steps:,}"),
        ("whole run, predicted", lambda one: _spread(one.hours, "hours")),
        ("chip-hours, predicted", lambda one: _spread(one.chip_hours, "")),
        ("compiled in", lambda one: f"{one.compile_seconds:.0f} s"),
    ),
)
