"""Named points on a plane as one SVG picture."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from gptjax.report.chart import Scale

WIDTH, HEIGHT, MARGIN = 1040, 680, 50
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#3ca951", "#a463f2", "#9c6b4e", "#6cc5b0", "#ff8ab7")


def to_svg(points_N2: np.ndarray, names: Sequence[str], groups: Sequence[str]) -> str:
    """The points, each with its name, in the colour of its group; groups are listed at the top.

    Both axes have one scale, so that distances are true. Raises `ValueError` where the three differ in length.
    """
    low, high = points_N2.min(0), points_N2.max(0)
    # One length of the picture for one length of the plane, whichever side is the tighter.
    room = np.array([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN])
    unit = max(float(np.max((high - low) / room)), 1e-12)
    middle, half = (low + high) / 2, unit * room / 2
    x = Scale(middle[0] - half[0], middle[0] + half[0], MARGIN, WIDTH - MARGIN)
    y = Scale(middle[1] - half[1], middle[1] + half[1], HEIGHT - MARGIN, MARGIN)
    order = list(dict.fromkeys(groups))
    colour = {group: COLOURS[i % len(COLOURS)] for i, group in enumerate(order)}
    circle = Markup('<circle cx="{}" cy="{}" r="3" fill="{}"/>')
    label = Markup('<text x="{}" y="{}" dy="0.35em" fill="{}">{}</text>')
    parts = []
    for (a, b), name, group in zip(points_N2, names, groups, strict=True):
        left, top = x(float(a)), y(float(b))
        parts.append(circle.format(left, top, colour[group]) + label.format(left + 5, top, colour[group], name))
    legend = Markup('<text x="{}" y="20" fill="{}" font-weight="bold">{}</text>')
    parts += [legend.format(MARGIN + 130 * i, colour[group], group) for i, group in enumerate(order)]
    head = Markup('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" font-family="system-ui" font-size="13">')
    return head.format(WIDTH, HEIGHT) + Markup("\n").join(parts) + Markup("</svg>\n")
