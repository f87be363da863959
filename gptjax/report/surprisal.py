"""Text in which every token is coloured by how much it surprised the model: -log2 p, in bits."""

import math
from collections.abc import Iterator, Sequence

from markupsafe import Markup
from rich.text import Text

FULL_BITS = 12.0
"""Surprisal that has the full colour; a uniform guess among 4,096 tokens."""
_HEAT = (222, 99, 20)
_STYLE = "white-space:pre-wrap;overflow-wrap:anywhere;font:0.875rem/1.75 ui-monospace,Menlo,Consolas,monospace"


def to_html(pieces: Sequence[str], bits: Sequence[float | None]) -> str:
    """A self-contained piece of HTML, legible on light and dark pages; hovering over a token shows its bits.

    Bits that are None have no colour, bits that are not finite the full one. Raises `ValueError` unless there are as
    many bits as pieces.
    """
    spans = []
    for piece, value, heat in _heated(pieces, bits):
        text = piece.replace("\n", "↵\n")  # a line's end has no width, and its surprisal would not be seen
        style = Markup(' style="background:rgba({},{},{},{})"').format(*_HEAT, f"{0.75 * heat:.2f}") if heat else ""
        title = "" if value is None else f"{value:.2f} bits"
        spans.append(Markup('<span title="{}"{}>{}</span>').format(title, style, text))
    return Markup('<div style="{}">{}</div>').format(_STYLE, Markup().join(spans))


def to_page(pieces: Sequence[str], bits: Sequence[float | None], title: str) -> str:
    """`to_html` as a whole page."""
    head = Markup('<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{}</title>').format(title)
    style = "color-scheme:light dark;max-width:60rem;margin:3rem auto;padding:0 1rem"
    about = f"Deeper colour is a greater surprise, up to {FULL_BITS:g} bits; hover to read it."
    body = Markup('<body style="{}"><p style="font:0.875rem system-ui;opacity:0.7">{}</p>').format(style, about)
    return head + body + Markup(to_html(pieces, bits)) + Markup("</body></html>\n")


def to_terminal(pieces: Sequence[str], bits: Sequence[float | None]) -> Text:
    """The text for a terminal of 256 colours or more: from none over yellow to red. Errors as in `to_html`."""
    text = Text()
    for piece, _, heat in _heated(pieces, bits):
        colour = f"rgb(255,{round(235 - 150 * heat)},{round(190 - 140 * heat)})"
        text.append(piece, f"black on {colour}" if heat >= 0.1 else "")
    return text


def _heated(pieces: Sequence[str], bits: Sequence[float | None]) -> Iterator[tuple[str, float | None, float]]:
    """(piece, bits, heat in [0, 1]) of every token."""
    for piece, value in zip(pieces, bits, strict=True):
        known = value is not None and math.isfinite(value)
        heat = min(1.0, max(0.0, value / FULL_BITS)) if value is not None and known else float(value is not None)
        yield piece, value, heat
