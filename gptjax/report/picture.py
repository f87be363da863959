"""A picture of several lines, as SVG that stands by itself: time to the right on a logarithmic axis, worth upwards."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from gptjax.report.chart import Scale, label, log_ticks, ticks

WIDTH, HEIGHT = 1040, 560
LEFT, RIGHT, TOP, BOTTOM = 60, 150, 14, 44
LINE = 14
"""Height of a line of text."""
COLOURS = ("#2f6db0", "#c8692b", "#3f8f5f", "#a8477f", "#7a63b8", "#2e8f97", "#9a7b22", "#6b7280", "#b0413e", "#4d7c0f")
INK, SOFT, GRID = "#22252a", "#6a7078", "#e3e2dc"


class Trace(NamedTuple):
    """A line, named at its end."""

    name: str
    points: list[tuple[float, float]]
    """(x > 0, y), in order."""


class Level(NamedTuple):
    """A value that does not depend on x."""

    name: str
    value: float


def picture(x_title: str, y_title: str, traces: Sequence[Trace], levels: Sequence[Level]) -> str:
    """The SVG of traces with dots, and of levels as dashed lines; names stand at the right and do not overlap.

    Points at x <= 0 have no place on the axis and are left out; one trace at least must have another.
    """
    traces = [trace for trace in traces if any(x > 0 for x, _ in trace.points)]
    points = [point for trace in traces for point in trace.points if point[0] > 0]
    xs, ys = [x for x, _ in points], [y for _, y in points] + [level.value for level in levels]
    x = Scale(min(xs) / 1.1, max(xs) * 1.1, LEFT, WIDTH - RIGHT, log=True)
    room = 0.05 * (max(ys) - min(ys)) or 0.05
    y = Scale(min(ys) - room, max(ys) + room, HEIGHT - BOTTOM, TOP)
    parts = _axes(x, y, x_title, y_title)
    names: list[tuple[float, str, str]] = []
    for number, trace in enumerate(traces):
        colour = COLOURS[number % len(COLOURS)]
        drawn = [(x(a), y(b)) for a, b in trace.points if a > 0]
        path = "M" + " L".join(f"{a} {b}" for a, b in drawn)
        dash = ' stroke-dasharray="6 3"' if number >= len(COLOURS) else ""
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        parts += [f'<circle cx="{a}" cy="{b}" r="3" fill="{colour}"/>' for a, b in drawn]
        names.append((drawn[-1][1], trace.name, colour))
    for level in levels:
        at = y(level.value)
        line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"'
        parts.append(f'{line} stroke="{SOFT}" stroke-dasharray="2 4"/>')
        names.append((at, level.name, SOFT))
    parts += _names(names)
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    font = 'font-family="system-ui, sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box} {font}>\n' + "\n".join(parts) + "\n</svg>\n"


def _axes(x: Scale, y: Scale, x_title: str, y_title: str) -> list[str]:
    parts = []
    for value in ticks(y.low, y.high, 8):
        at = y(value)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}" stroke="{GRID}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4}" text-anchor="end" fill="{SOFT}">{label(value)}</text>')
    for value in log_ticks(x.low, x.high):
        parts.append(
            f'<text x="{x(value)}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="{SOFT}">{label(value)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle" fill="{INK}">{escape(x_title)} (log scale)</text>'
    )
    turn = f"rotate(-90 14 {HEIGHT / 2})"
    parts.append(
        f'<text x="14" y="{HEIGHT / 2}" transform="{turn}" text-anchor="middle" fill="{INK}">{escape(y_title)}</text>'
    )
    return parts


def _names(names: list[tuple[float, str, str]]) -> list[str]:
    """Each name beside its line, moved down where the one above is in its way, and all up where they run out."""
    names = sorted(names)
    places: list[float] = []
    for at, _, _ in names:
        places.append(max(at, places[-1] + LINE) if places else max(at, TOP + LINE / 2))
    over = max(0.0, places[-1] - (HEIGHT - BOTTOM))
    for i in reversed(range(len(places))):
        below = places[i + 1] - LINE if i + 1 < len(places) else places[-1] - over
        places[i] = min(places[i], below)
    return [
        f'<text x="{WIDTH - RIGHT + 8}" y="{round(at + 4, 1)}" fill="{colour}">{escape(name)}</text>'
        for at, (_, name, colour) in zip(places, names, strict=True)
    ]
