"""Where two models differ on one text: the difference of their nats, taken apart, with what is sure of it.

A difference is what B pays minus what A pays: negative where B predicts better. Axes beside the alphabet's: U units
(tokens, or words where the models' tokens are not the same).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gptjax.data.errors import DataError
from gptjax.evals import letters, paired
from gptjax.evals.likelihood import refuse_non_finite

SENTENCES = 10
"""Sentences told in each direction."""
FILES = 30
"""Files that are parts of their own."""


class Units(NamedTuple):
    """One text, cut into units that both models are judged on."""

    kind: str
    """token or word."""
    pieces: Sequence[str]
    """[U] what each unit adds to the text; nothing for one that stands for none."""
    nats_2U: np.ndarray
    """What each unit costs under A and under B."""
    document_U: np.ndarray
    """The document that each unit is of, ascending."""
    bytes: int
    """UTF-8 bytes of the text."""


class Part(NamedTuple):
    """Some of the units."""

    name: str
    units: int
    nats_a: float
    """What they cost A, in all."""
    nats_b: float
    difference: paired.Interval
    """The mean of B's nats minus A's, over these units."""

    @property
    def difference_nats(self) -> float:
        """The sum of the differences."""
        return self.nats_b - self.nats_a

    def to_json(self) -> dict[str, Any]:
        """The fields, the differences by name."""
        mean, low, high = self.difference
        about = {"name": self.name, "units": self.units, "nats_a": self.nats_a, "nats_b": self.nats_b}
        return about | {"difference": mean, "low": low, "high": high}


class Breakdown(NamedTuple):
    """All units, in parts that do not overlap."""

    title: str
    about: str
    parts: list[Part]


class Sentence(NamedTuple):
    """A sentence whose cost changed much: the units from `first` to before `end`."""

    first: int
    end: int
    difference_nats: float


class Comparison(NamedTuple):
    """B against A on one text."""

    units: Units
    whole: Part
    bits_per_byte: paired.Interval
    """The difference of the sums over the text's bytes; its interval is that of `whole`, in this unit."""
    breakdowns: list[Breakdown]
    better: list[Sentence]
    """Sentences on which B gained most over A, the most first."""
    worse: list[Sentence]
    """Sentences on which it lost most."""
    blocks: int
    sentences: int

    def to_json(self) -> dict[str, Any]:
        """All numbers, and the text of the sentences."""

        def told(found: Sentence) -> dict[str, Any]:
            text = "".join(self.units.pieces[found.first : found.end])
            return {"text": text, "units": found.end - found.first, "difference_nats": found.difference_nats}

        return {
            "unit": self.units.kind,
            "bytes": self.units.bytes,
            "sentences": self.sentences,
            "blocks": self.blocks,
            "whole": self.whole.to_json(),
            "bits_per_byte": self.bits_per_byte._asdict(),
            "breakdowns": {b.title: [part.to_json() for part in b.parts] for b in self.breakdowns},
            "better": [told(sentence) for sentence in self.better],
            "worse": [told(sentence) for sentence in self.worse],
        }


Labels = tuple[np.ndarray, Sequence[str], str]
"""(part_U, names of the parts, what they are): every part has a unit at least."""


def compare(units: Units, labels: Mapping[str, Labels], seed: int) -> Comparison:
    """The whole difference and every breakdown, in the same resamples; `labels` by the title of the breakdown.

    Raises `DataError` where there is no unit, `FloatingPointError` for a cost that is not finite.
    """
    if not len(units.pieces) or not units.bytes:
        raise DataError("there is no text to compare on; give it some")
    refuse_non_finite("cost", units.nats_2U)
    sentence_U = letters.sentences(units.pieces, units.document_U)
    block_U = paired.blocks(sentence_U)
    weights_RG = paired.draws(int(block_U[-1]) + 1, seed)
    difference_U = units.nats_2U[1] - units.nats_2U[0]

    def parts(part_U: np.ndarray, names: Sequence[str]) -> list[Part]:
        found = paired.intervals(difference_U, block_U, part_U, weights_RG)
        counts = np.bincount(part_U).tolist()
        a, b = (np.bincount(part_U, weights=nats_U).tolist() for nats_U in units.nats_2U)
        return [Part(*row) for row in zip(names, counts, a, b, found, strict=True)]

    [whole] = parts(np.zeros(len(units.pieces), np.int64), ["all"])
    per_byte = whole.units / math.log(2) / units.bytes
    bits = paired.Interval(*(None if x is None else x * per_byte for x in whole.difference))  # type: ignore[arg-type]
    breakdowns = [Breakdown(title, about, parts(part_U, names)) for title, (part_U, names, about) in labels.items()]
    better, worse = _changed(units, difference_U, sentence_U)
    return Comparison(units, whole, bits, breakdowns, better, worse, weights_RG.shape[1], int(sentence_U[-1]) + 1)


def by_kind(units: Units) -> Labels:
    """Classes of units by their spelling, as `letters.KINDS` has them."""
    kind_U = letters.kinds(units.pieces, units.document_U)
    used, part_U = np.unique(kind_U, return_inverse=True)
    names = [list(letters.KINDS)[k] for k in used]
    return part_U, names, "; ".join(f"{name}: {letters.KINDS[name]}" for name in names)


def repeats(types_U: np.ndarray) -> np.ndarray:
    """How often each unit's type (its id, or its spelling) occurs among them all: counts_U."""
    _, type_U, counts = np.unique(types_U, return_inverse=True, return_counts=True)
    return counts[type_U]


def by_frequency(counts_U: np.ndarray, unit: str, where: str) -> Labels:
    """How often a unit's type occurs in some text; `unit` is what a unit is called, `where` the text."""
    part_U, names = letters.powers(counts_U, 10)
    return part_U, names, f"how often the same {unit} occurs in {where}"


def by_distance(before_U: np.ndarray) -> Labels:
    """How many tokens a model had read before it predicted a unit."""
    part_U, names = letters.powers(before_U, 2)
    return (
        part_U,
        names,
        "tokens of its window that the model had read when it predicted the token (of a word, its last)",
    )


def by_document(document_U: np.ndarray, sources: Sequence[str]) -> Labels:
    """The file that a unit comes from; `sources` names each document's. Of many files the smaller are one part."""
    names, of_document = np.unique(np.asarray(sources), return_inverse=True)
    file_U = of_document[document_U]
    units = np.bincount(file_U, minlength=len(names))
    order = [i for i in np.argsort(-units, kind="stable").tolist() if units[i]]
    shown, rest = order[:FILES], order[FILES:]
    part_of = np.full(len(names), len(shown))
    part_of[shown] = np.arange(len(shown))
    others = [f"{len(rest):,} smaller files"] if rest else []
    return part_of[file_U], [str(names[i]) for i in shown] + others, "the file that the text comes from, largest first"


def _changed(units: Units, difference_U: np.ndarray, sentence_U: np.ndarray) -> tuple[list[Sentence], list[Sentence]]:
    """The sentences with the lowest and with the highest sums, none that did not change; of equal ones the first."""
    sums = np.bincount(sentence_U, weights=difference_U)
    first, end = (np.searchsorted(sentence_U, np.arange(len(sums)), side=side) for side in ("left", "right"))
    order = np.argsort(sums, kind="stable")

    def told(chosen: np.ndarray) -> list[Sentence]:
        found: dict[str, Sentence] = {}
        for i in chosen.tolist():
            if len(found) == SENTENCES:
                break
            text = "".join(units.pieces[first[i] : end[i]]).strip()
            found.setdefault(text, Sentence(int(first[i]), int(end[i]), float(sums[i])))
        return list(found.values())

    return told(order[sums[order] < 0]), told(order[::-1][sums[order[::-1]] > 0])
