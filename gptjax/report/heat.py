"""A matrix of weights as an SVG picture: where each target token looked in the source."""

from collections.abc import Sequence
from html import escape

import numpy as np

CELL, GAP, LETTER, LINE = 24, 8, 7.2, 16
"""Side of a cell, space between words and cells, width of a letter and height of a line, in SVG units."""


def heat(weights_TS: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str) -> str:
    """The SVG: a row for each of `rows`, a column for each of `columns`, darker where a weight in [0, 1] is larger.

    Each cell tells its weight where one points at it. Raises `ValueError` where names and weights differ in number.
    """
    if weights_TS.shape != (len(rows), len(columns)):
        raise ValueError(f"weights are {weights_TS.shape} for {len(rows)} rows and {len(columns)} columns")
    left, top = _longest(rows) + GAP, LINE + _longest(columns) + 2 * GAP
    width, height = left + CELL * len(columns) + GAP, top + CELL * len(rows) + GAP
    width = max(width, round(len(title) * LETTER) + 2 * GAP)
    cells = [
        _cell(left + CELL * s, top + CELL * t, float(weights_TS[t, s]), f"{row} ← {column}: {weights_TS[t, s]:.2f}")
        for t, row in enumerate(rows)
        for s, column in enumerate(columns)
    ]
    names = [
        f'<text x="{left - GAP}" y="{top + CELL * t + 16}" text-anchor="end">{escape(row)}</text>'
        for t, row in enumerate(rows)
    ]
    over = [
        f'<text transform="translate({left + CELL * s + 16} {top - GAP}) rotate(-90)">{escape(column)}</text>'
        for s, column in enumerate(columns)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" font-family="ui-monospace, monospace" font-size="12" fill="currentColor">',
            f'<text x="{GAP}" y="{LINE}">{escape(title)}</text>',
            *over,
            *names,
            *cells,
            "</svg>\n",
        ]
    )


def _longest(words: Sequence[str]) -> int:
    return round(max((len(word) for word in words), default=0) * LETTER)


def _cell(x: int, y: int, weight: float, told: str) -> str:
    return (
        f'<rect x="{x}" y="{y}" width="{CELL - 1}" height="{CELL - 1}" fill="#2563eb" '
        f'fill-opacity="{min(max(weight, 0.0), 1.0):.3f}" stroke="#94a3b8" stroke-width="0.5">'
        f"<title>{escape(told)}</title></rect>"
    )
