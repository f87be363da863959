"""Lines with bands over a few places on the x axis (layers, say), as one SVG picture."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from gptjax.report.chart import BOTTOM, LEFT, RIGHT, TOP, Scale, label, ticks

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, which nearly everybody can tell apart."""
WIDTH, HEIGHT = 510, 260
HEAD = 22
"""Room above the chart for the names of the lines."""


class Band(NamedTuple):
    """A line and how uncertain it is."""

    name: str
    values: Sequence[float]
    """One for each place."""
    errors: Sequence[float]
    """Half the height of the band at each place."""


def bands(places: Sequence[str], x_name: str, y_name: str, lines: Sequence[Band]) -> str:
    """The picture as SVG text, all names escaped; the y axis begins at 0. Needs two places and one line at least."""
    top = max(value + error for line in lines for value, error in zip(line.values, line.errors, strict=True))
    x = Scale(0, len(places) - 1, LEFT + 10, WIDTH - RIGHT)
    y = Scale(0.0, top * 1.05 or 1.0, HEIGHT - BOTTOM - 14, TOP + HEAD)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="11">',
        f"<title>{escape(f'{y_name} by {x_name}')}</title>",
    ]
    for value in ticks(y.low, y.high, 5):
        parts.append(f'<path d="M{LEFT} {y(value)} H{WIDTH - RIGHT}" stroke="#8885" fill="none"/>')
        parts.append(_text(LEFT - 6, y(value) + 4, label(value), "end"))
    parts += [_text(x(i), HEIGHT - BOTTOM, name, "middle") for i, name in enumerate(places)]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_name, "middle"))
    parts.append(_text(4, TOP + 2, y_name, "start"))
    for number, line in enumerate(lines):
        parts += _drawn(line, COLOURS[number % len(COLOURS)], x, y)
        parts.append(_text(LEFT + 110 * number, TOP + 16, line.name, "start", COLOURS[number % len(COLOURS)]))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _drawn(line: Band, colour: str, x: Scale, y: Scale) -> list[str]:
    above = [f"{x(i)} {y(v + e)}" for i, (v, e) in enumerate(zip(line.values, line.errors, strict=True))]
    below = [f"{x(i)} {y(max(v - e, 0.0))}" for i, (v, e) in enumerate(zip(line.values, line.errors, strict=True))]
    path = "M" + " L".join(f"{x(i)} {y(v)}" for i, v in enumerate(line.values))
    dots = [f'<circle cx="{x(i)}" cy="{y(v)}" r="2.5" fill="{colour}"/>' for i, v in enumerate(line.values)]
    area = "M" + " L".join(above + below[::-1]) + "Z"
    return [
        f'<path d="{area}" fill="{colour}" fill-opacity="0.18"/>',
        f'<path d="{path}" stroke="{colour}" stroke-width="2" fill="none"/>',
        *dots,
    ]


def _text(x: float, y: float, text: str, anchor: str, colour: str = "currentColor") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
