"""The geometry of one SVG chart: scales, ticks and paths; the template draws it in the colours of its theme."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

Point = tuple[int, float | None]
"""(step, value); None where the value was not finite."""

LEFT, RIGHT, TOP, BOTTOM = 56, 14, 10, 26


class Curve(NamedTuple):
    """What is to be drawn."""

    run: int
    """Which run, for its colour."""
    kind: Literal["raw", "smooth", "judged"]
    """Every logged row (faint), their trend, or what was judged on held-out data."""
    label: str
    """Its name where one points at it; empty where there is nothing to point at."""
    points: list[Point]


class Line(NamedTuple):
    """A curve as SVG: path data, and dots."""

    curve: Curve
    path: str
    dots: list[tuple[float, float]]


class Chart(NamedTuple):
    """One chart; lengths in SVG units."""

    title: str
    width: int
    height: int
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[Line]
    last_step: int
    """Where the axis of steps, which begins at 0, ends."""
    log: bool
    both: bool
    """Whether it shows training and held-out data."""

    @property
    def left(self) -> int:
        """Where step 0 is."""
        return LEFT

    @property
    def right(self) -> int:
        """Where the last step is."""
        return self.width - RIGHT

    @property
    def hover(self) -> dict[str, Any]:
        """What the page's script needs to tell the values under the pointer."""
        lines = [[c.run, c.label, c.points] for c, _, _ in self.lines if c.label]
        return {"width": self.width, "left": self.left, "right": self.right, "steps": self.last_step, "lines": lines}


class Scale(NamedTuple):
    """A range of values, linear or logarithmic, onto a range of lengths."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Where a value stands, to a tenth."""
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return round(self.start + (self.end - self.start) * (at - low) / (high - low), 1)


def chart(title: str, curves: Sequence[Curve], wide: bool, least_top: float | None) -> Chart:
    """The chart of these curves, logarithmic where values span more than a factor of three.

    With `least_top` the axis of values begins at 0 and ends there or, for larger values, above it. At least one value
    of at least one curve must be finite.
    """
    width, height = (1040, 340) if wide else (510, 230)
    values = [value for curve in curves for _, value in curve.points if value is not None]
    last = max(1, *(step for curve in curves for step, _ in curve.points))
    x = Scale(0, last, LEFT, width - RIGHT)
    y = _y_scale(values, least_top, height)
    return Chart(
        title=title,
        width=width,
        height=height,
        x_ticks=[(x(at), label(at)) for at in ticks(0, last, 8 if wide else 5)],
        y_ticks=[(y(at), label(at)) for at in (log_ticks(y.low, y.high) if y.log else ticks(y.low, y.high, 5))],
        lines=[_drawn(curve, x, y) for curve in curves],
        last_step=last,
        log=y.log,
        both=len({curve.kind == "judged" for curve in curves}) == 2,
    )


def _y_scale(values: Sequence[float], least_top: float | None, height: int) -> Scale:
    low, high = min(values), max(values)
    ends = height - BOTTOM, TOP
    if least_top is not None and low >= 0:
        return Scale(0.0, max(high * 1.05, least_top) or 1.0, *ends)
    if low > 0 and high / low > 3:
        return Scale(low / 1.04, high * 1.04, *ends, log=True)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return Scale(low - room, high + room, *ends)


def _drawn(curve: Curve, x: Scale, y: Scale) -> Line:
    """The path, broken where a value is missing; dots where it was judged, or where a point stands alone."""
    parts: list[list[tuple[float, float]]] = [[]]
    for step, value in curve.points:
        if value is None:
            parts.append([])
        else:
            parts[-1].append((x(step), y(value)))
    path = " ".join("M" + " L".join(f"{a} {b}" for a, b in part) for part in parts if part)
    every = curve.kind == "judged" and len(curve.points) <= 60
    return Line(curve, path, [point for part in parts for point in part if every or len(part) == 1])


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers within [low, high], at most one more than `about`."""
    rough = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers within [low, high], spread over a logarithmic axis: four or more where the range allows."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    found: list[float] = []
    for marks in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)):
        every = -(-(last - first) // 8)
        powers = [10.0**d for d in range(first, last + 1, every)]
        found = [float(f"{m * power:.12g}") for power in powers for m in marks if low <= m * power <= high]
        if len(found) >= 4:
            break
    return found


def label(value: float) -> str:
    """A tick's label: `0.0005`, `1.5`, `2,000`, `48k`, `1.2M`."""
    for size, least, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e3, 1e4, "k")):
        if abs(value) >= least:
            return f"{value / size:g}{letter}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}"
