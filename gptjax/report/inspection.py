"""A text inside a model as one self-contained HTML page; what needs no script is there without one."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from rich.table import Table
from rich.text import Text

from gptjax.evals.lens import Lens
from gptjax.report import page, png, surprisal

SIDE = 640
"""Largest side of the large attention map, in SVG units."""
LETTER = 7.3
"""Width of a letter of its labels."""
DECIMALS = 6
"""Of a share of attention in JSON: of so many numbers each digit counts."""


class Inspection(NamedTuple):
    """A text inside a run. Parts that a run does not have are None, and `notes` say so."""

    title: str
    pieces: list[str]
    """What each token shows as."""
    ids: list[int]
    bits: list[float | None]
    """-log2 p of each token; None where it was not predicted."""
    lens: Lens | None
    places: np.ndarray
    """Index of the token that each of the lens's predictions is of; the last may be behind the text."""
    weights_LNTS: np.ndarray | None
    """Where each head looks."""
    neighbours: list[tuple[str, list[tuple[str, float]]]] | None
    """Each different token of the text, with the tokens whose embeddings have the highest cosines to its own."""
    names: Callable[[int], str]
    """What a token shows as, by its id."""
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """What the page shows, as numbers; None for what the run has not, and for a number that is not finite.

        {"title", "notes", "tokens": [{"text", "id", "bits"}], "lens": [{"place", "layers": [{"layer", "top": [{"text",
        "id", "probability"}], "true": {"probability", "rank"}}]}], "attention": [layer][head][token that looks][token
        that is looked at], "neighbours": [{"text", "near": [{"text", "cosine"}]}]}. A place is an index into the
        tokens, or one behind the last for what follows the text, of which no true token is known (None).
        """
        tokens = zip(self.pieces, self.ids, self.bits, strict=True)
        weights, near = self.weights_LNTS, self.neighbours
        return {
            "title": self.title,
            "notes": list(self.notes),
            "tokens": [{"text": text, "id": id, "bits": bits} for text, id, bits in tokens],
            "lens": None if self.lens is None else _lens_json(self.lens, self.places, self.names),
            "attention": None if weights is None else _plain(np.round(weights.astype(np.float64), DECIMALS)),
            "neighbours": None if near is None else [_near_json(*one) for one in near],
        }


class Cell(NamedTuple):
    """What one layer predicts at one place."""

    text: str
    right: bool
    """Whether that is the true token."""
    share: float
    """Probability of the true token; 0 where it is not known."""
    told: str
    """All that is known, for the one who points at it."""
    rank: str
    """The rank of the true token."""


def write(found: Inspection, out: Path) -> None:
    """Write the page; parts that the run does not have are absent."""
    shown = [visible(piece) for piece in found.pieces]
    near = [(visible(name), [(visible(n), f"{c:.2f}") for n, c in rows]) for name, rows in found.neighbours or ()]
    weights = found.weights_LNTS
    text = page.template("inspection.html").render(
        title=found.title,
        notes=found.notes,
        text=Markup(surprisal.to_html(found.pieces, found.bits)),
        tokens=shown,
        maps=None if weights is None else [[png.uri(w_TS) for w_TS in w_NTS] for w_NTS in weights],
        stage=_stage(shown),
        layers=[] if found.lens is None else found.lens.layers,
        rows=[] if found.lens is None else _rows(found, found.lens, shown),
        neighbours=near,
    )
    page.replace_text(out, text)


def _lens_json(lens: Lens, places: np.ndarray, names: Callable[[int], str]) -> list[dict[str, Any]]:
    ids_ATK, ranks_AT = lens.top_ids_ATK.tolist(), lens.ranks_AT.tolist()
    shares_ATK, true_AT = _plain(lens.top_shares_ATK), _plain(lens.true_shares_AT)

    def cell(a: int, t: int) -> dict[str, Any]:
        tops = zip(ids_ATK[a][t], shares_ATK[a][t], strict=True)
        true = {"probability": true_AT[a][t], "rank": ranks_AT[a][t]} if ranks_AT[a][t] else None
        shown = [{"text": names(id), "id": id, "probability": share} for id, share in tops]
        return {"layer": lens.layers[a], "top": shown, "true": true}

    layers = range(len(lens.layers))
    return [{"place": place, "layers": [cell(a, t) for a in layers]} for t, place in enumerate(places.tolist())]


def _near_json(text: str, near: Sequence[tuple[str, float]]) -> dict[str, Any]:
    return {"text": text, "near": [{"text": name, "cosine": _plain(np.asarray(cosine))} for name, cosine in near]}


def _plain(values: np.ndarray) -> Any:
    """Nested lists of numbers, None in the place of one that is not finite."""
    plain = values.astype(object)
    plain[~np.isfinite(values)] = None
    return plain.tolist()


def terminal(found: Inspection) -> Table:
    """Every token with its surprisal, and what the model itself thought most probable there."""
    table, best = Table("token", "bits", "most probable"), {}
    if found.lens is not None:
        own = zip(found.lens.top_ids_ATK[-1].tolist(), found.lens.top_shares_ATK[-1].tolist(), strict=True)
        best = dict(zip(found.places.tolist(), own, strict=True))
    for place in range(max([len(found.pieces), *(p + 1 for p in best)])):
        tops = zip(*best.get(place, ((), ())), strict=True)
        told = "  ".join(f"{visible(found.names(id))} {share:.2f}" for id, share in tops)
        table.add_row(Text(_name(found, place)), _spelled(found, place), Text(told))
    return table


def _name(found: Inspection, place: int) -> str:
    return visible(found.pieces[place]) if place < len(found.pieces) else "what follows"


def _spelled(found: Inspection, place: int) -> str:
    value = found.bits[place] if place < len(found.bits) else None
    return "" if value is None else f"{value:.2f}"


def visible(piece: str) -> str:
    """A token with its white space made visible."""
    return piece.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥").replace("\r", "␍") or "∅"


class _Stage(NamedTuple):
    """The geometry of the large attention map, in SVG units."""

    cell: float
    edge: float
    """Room for the labels, at the left and at the top."""
    labels: bool
    centres: list[float]
    """Of the cells, along both axes."""

    @property
    def size(self) -> float:
        """Side of the map."""
        return self.cell * len(self.centres)


def _stage(shown: Sequence[str]) -> _Stage:
    cell = min(22.0, max(SIDE / len(shown), 1.0))
    labels = cell >= 8
    room = min(12, max(map(len, shown))) * LETTER + 10 if labels else 0.0
    return _Stage(cell, room, labels, [round(room + cell * (t + 0.5), 1) for t in range(len(shown))])


def _rows(found: Inspection, lens: Lens, shown: Sequence[str]) -> list[tuple[str, list[Cell], str]]:
    """(token, what each layer predicts in its place, bits) of every place."""
    rows = []
    for t, place in enumerate(found.places.tolist()):
        true = shown[place] if place < len(shown) else None
        cells = [_cell(lens, a, t, true, found.names) for a in range(len(lens.layers))]
        rows.append((_name(found, place), cells, _spelled(found, place)))
    return rows


def _cell(lens: Lens, a: int, t: int, true: str | None, names: Callable[[int], str]) -> Cell:
    ids, shares = lens.top_ids_ATK[a, t].tolist(), lens.top_shares_ATK[a, t].tolist()
    share, rank = float(lens.true_shares_AT[a, t]), int(lens.ranks_AT[a, t])
    told = [f"{visible(names(id))}  {p:.3f}" for id, p in zip(ids, shares, strict=True)]
    if true is not None:
        told.insert(0, f"{true}: probability {share:.3f}, rank {rank:,}")
    unknown = math.isnan(share)
    return Cell(
        text=visible(names(ids[0])),
        right=rank == 1,
        share=0.0 if unknown else share,
        told="\n".join(told),
        rank="" if unknown else f"{rank:,}",
    )
