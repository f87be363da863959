"""Two runs on one text as one self-contained HTML page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from rich.table import Table
from rich.text import Text

from gptjax.evals.differences import Breakdown, Comparison, Part, Sentence
from gptjax.evals.paired import Interval
from gptjax.report import page, surprisal
from gptjax.report.chart import Scale, label, ticks

OPENING = 2000
"""Units of the text's beginning that are shown whole."""
FULL_NATS = 3.0
"""Difference that has the full colour."""
WIDTH, HEIGHT = 300, 18


class Reader(NamedTuple):
    """One run's own tokens of the text."""

    name: str
    pieces: Sequence[str]
    bits: Sequence[float]
    unit_N: np.ndarray
    """The unit of each token; -1 for one that is left out."""
    summary: Mapping[str, Any]


class _Excerpt(NamedTuple):
    """A sentence as both runs saw it."""

    difference: str
    units: int
    texts: list[Markup]


def write(readers: tuple[Reader, Reader], found: Comparison, notes: Sequence[str], data: str, out: Path) -> None:
    """Write the page."""
    opening = Sentence(0, min(OPENING, len(found.units.pieces)), 0.0)
    text = page.template("comparison.html").render(
        names=[reader.name for reader in readers],
        summaries=[_told(reader.summary) for reader in readers],
        found=found,
        unit=found.units.kind,
        notes=notes,
        data=data,
        whole=spelled(found.whole),
        bits=_spelled(found.bits_per_byte),
        breakdowns=[(b.title, b.about, _rows(b), _axis(b)) for b in found.breakdowns],
        better=[_excerpt(readers, sentence) for sentence in found.better],
        worse=[_excerpt(readers, sentence) for sentence in found.worse],
        opening=[_text(reader, opening) for reader in readers],
        differing=differing(found.units.pieces[: opening.end], *found.units.nats_2U[:, : opening.end]),
        cut=opening.end if opening.end < len(found.units.pieces) else None,
    )
    page.replace_text(out, text)


def terminal(readers: tuple[Reader, Reader], found: Comparison, notes: Sequence[str]) -> list[Table]:
    """The whole difference and every breakdown as tables for a terminal."""
    unit, bits = found.units.kind, _spelled(found.bits_per_byte)
    a, b = (reader.name for reader in readers)
    caption = "; ".join([*notes, f"bits per byte {bits}", f"{found.blocks:,} blocks of {found.sentences:,} sentences"])
    whole = Breakdown(f"{a} (A) and {b} (B)", caption, [found.whole])
    tables = []
    for title, about, parts in (whole, *found.breakdowns):
        table = Table(title=Text(title), caption=Text(about), title_justify="left", caption_justify="left")
        table.add_column("")
        for name in (f"{unit}s", "A", "B", f"B - A, nats a {unit} [95%]"):
            table.add_column(name, justify="right")
        for part in parts:
            table.add_row(*map(Text, spelled(part)))
        tables.append(table)
    return tables


def differing(pieces: Sequence[str], nats_a_U: np.ndarray, nats_b_U: np.ndarray) -> Markup:
    """The units, each in the colour of the run that predicts it better, deeper where it is much better."""
    spans = []
    for piece, a, b in zip(pieces, nats_a_U.tolist(), nats_b_U.tolist(), strict=True):
        depth = min(abs(b - a) / FULL_NATS, 1.0)
        colour = f"color-mix(in srgb, var(--run{int(b < a)}) {80 * depth:.0f}%, transparent)"
        style = Markup(' style="background:{}"').format(colour) if depth >= 0.02 else ""
        title = f"A {a:.2f}, B {b:.2f} nats: {b - a:+.2f}"
        spans.append(Markup('<span title="{}"{}>{}</span>').format(title, style, piece.replace("\n", "↵\n")))
    return Markup('<div class="text">{}</div>').format(Markup().join(spans))


def spelled(part: Part) -> tuple[str, str, str, str, str]:
    """(name, units, A's nats a unit, B's, the difference with its interval) for a table."""
    a, b = (f"{nats / part.units:.4f}" for nats in (part.nats_a, part.nats_b))
    return part.name, f"{part.units:,}", a, b, _spelled(part.difference)


def _spelled(interval: Interval) -> str:
    told = "too few blocks" if interval.low is None else f"{interval.low:+.4f}, {interval.high:+.4f}"
    return f"{interval.mean:+.4f} [{told}]"


def _told(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), f"{v:,.4f}" if isinstance(v, float) else f"{v:,}") for name, v in summary.items()]


def _scale(breakdown: Breakdown) -> Scale:
    """From 0 or below to 0 or above, all intervals inside; a mean that has none does not stretch it."""
    sure = [part.difference for part in breakdown.parts if part.difference.low is not None]
    ends = [
        x for difference in sure or [part.difference for part in breakdown.parts] for x in difference if x is not None
    ]
    low, high = min(0.0, *ends), max(0.0, *ends)
    room = 0.04 * (high - low) or 1.0
    return Scale(low - room, high + room, 4, WIDTH - 4)


def _rows(breakdown: Breakdown) -> list[tuple[tuple[str, ...], Markup]]:
    scale = _scale(breakdown)
    return [(spelled(part), _bar(part.difference, scale)) for part in breakdown.parts]


def _bar(interval: Interval, scale: Scale) -> Markup:
    """A bar from 0 to the mean (or the picture's edge) in the better run's colour, and a whisker over the interval."""
    zero, mean = scale(0.0), scale(min(max(interval.mean, scale.low), scale.high))
    parts = [
        f'<rect x="{min(zero, mean)}" y="4" width="{round(abs(mean - zero), 1)}" height="10" rx="1.5" '
        f'fill="var(--run{int(interval.mean < 0)})" opacity="0.55"/>',
        f'<line class="grid zero" x1="{zero}" x2="{zero}" y1="0" y2="{HEIGHT}"/>',
    ]
    if interval.low is not None and interval.high is not None:
        low, high = scale(interval.low), scale(interval.high)
        parts.append(f'<path class="whisker" d="M{low} 5V13M{high} 5V13M{low} 9H{high}"/>')
    return Markup(f'<svg class="bar" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>')


def _axis(breakdown: Breakdown) -> Markup:
    """The ticks of a breakdown's bars."""
    scale = _scale(breakdown)
    texts = [
        f'<text x="{scale(v)}" y="12" text-anchor="middle">{label(v)}</text>' for v in ticks(scale.low, scale.high, 4)
    ]
    return Markup(f'<svg class="bar" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{"".join(texts)}</svg>')


def _excerpt(readers: tuple[Reader, Reader], sentence: Sentence) -> _Excerpt:
    texts = [_text(reader, sentence) for reader in readers]
    return _Excerpt(f"{sentence.difference_nats:+.2f}", sentence.end - sentence.first, texts)


def _text(reader: Reader, sentence: Sentence) -> Markup:
    """A run's tokens of these units, coloured by their surprisal."""
    chosen = np.flatnonzero((reader.unit_N >= sentence.first) & (reader.unit_N < sentence.end)).tolist()
    return Markup(surprisal.to_html([reader.pieces[i] for i in chosen], [reader.bits[i] for i in chosen]))
