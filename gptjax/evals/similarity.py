"""What word vectors know: human scores of similarity, analogies, and who stands nearest to whom.

Vectors are rows of a table, `words[i]` is the spelling of row i; V words, D numbers of each.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gptjax.data import utf8
from gptjax.data.errors import DataError
from gptjax.evals.classify import spearman
from gptjax.evals.likelihood import refuse_non_finite

TILE = 256
"""Analogies that are answered at once: so many rows of V scores exist."""


class Table(NamedTuple):
    """Word vectors of length 1."""

    words: tuple[str, ...]
    """[V] spellings."""
    unit_VD: np.ndarray
    """float32; a vector of zeros, which has no direction, stays zeros."""
    ids: Mapping[str, int]
    """Spelling -> row."""


class Pair(NamedTuple):
    """Two words and how similar people find them."""

    first: str
    second: str
    score: float


class Analogy(NamedTuple):
    """a is to b as c is to d."""

    section: str
    words: tuple[str, str, str, str]


def table(words: Sequence[str], vectors_VD: np.ndarray) -> Table:
    """The vectors at length 1, so that dot products are cosines; raises `FloatingPointError` for non-finite ones."""
    refuse_non_finite("word vector", vectors_VD)
    length_V1 = np.linalg.norm(vectors_VD, axis=1, keepdims=True)
    unit_VD = np.divide(vectors_VD, length_V1, out=np.zeros_like(vectors_VD, np.float32), where=length_V1 > 0)
    return Table(tuple(words), unit_VD, {word: i for i, word in enumerate(words)})


def pairs(path: Path, lowercase: bool) -> list[Pair]:
    """The lines `word word score` of a file (WordSim-353, SimLex-999); raises `DataError` with the line of another."""
    found = []
    for origin, fields in _lines(path, lowercase):
        try:
            first, second, score = fields
            found.append(Pair(first, second, float(score)))
        except ValueError:
            raise DataError(f"{origin}: {' '.join(fields)!r} is not two words and a number") from None
    if not found:
        raise DataError(f"{path}: holds no pair of words")
    return found


def analogies(path: Path, lowercase: bool) -> list[Analogy]:
    """The lines `a b c d` of a file, under sections that begin with a colon (questions-words.txt)."""
    found, section = [], path.stem
    for origin, fields in _lines(path, lowercase):
        if fields[0] == ":":
            section = " ".join(fields[1:])
        elif len(fields) == 4:
            found.append(Analogy(section, (fields[0], fields[1], fields[2], fields[3])))
        else:
            raise DataError(f"{origin}: {' '.join(fields)!r} is not four words, nor a section (': name')")
    if not found:
        raise DataError(f"{path}: holds no analogy")
    return found


def _lines(path: Path, lowercase: bool) -> Iterator[tuple[str, list[str]]]:
    for number, line in utf8.lines(path):
        if fields := (line.lower() if lowercase else line).split():
            yield f"{path}:{number}", fields


def agreement(vectors: Table, judged: Sequence[Pair]) -> dict[str, float]:
    """Spearman's correlation of cosines and scores over the pairs whose words both have a vector; how many have."""
    known = [pair for pair in judged if pair.first in vectors.ids and pair.second in vectors.ids]
    if len(known) < 2:
        raise DataError(f"of {len(judged)} pairs {len(known)} have vectors for both words; there is nothing to judge")
    first, second = (np.array([vectors.ids[word] for word in column]) for column in list(zip(*known, strict=True))[:2])
    cosines = np.sum(vectors.unit_VD[first] * vectors.unit_VD[second], axis=1)
    scores = np.array([pair.score for pair in known])
    return {"spearman": spearman(cosines, scores), "covered": len(known), "pairs": len(judged)}


def answered(vectors: Table, asked: Sequence[Analogy]) -> dict[str, dict[str, float]]:
    """Accuracy of argmax over d of cos(d, b - a + c) by section, and under "total"; d is none of a, b, c (3CosAdd).

    Only analogies whose four words all have a vector are asked: "asked" says how many of "questions". A word that
    shares the highest score is no answer. (Mikolov et al., arXiv 1301.3781; Levy and Goldberg 2014.)
    """
    known = [q for q in asked if all(word in vectors.ids for word in q.words)]
    right = _right(vectors, np.array([[vectors.ids[word] for word in q.words] for q in known], np.int64).reshape(-1, 4))
    sections = dict.fromkeys(q.section for q in asked)
    of_known = np.array([q.section for q in known])

    def row(mine: np.ndarray, questions: int) -> dict[str, float]:
        accuracy = float(np.mean(mine)) if len(mine) else 0.0
        return {"accuracy": accuracy, "asked": len(mine), "questions": questions}

    found = {s: row(right[of_known == s], sum(q.section == s for q in asked)) for s in sections}
    return found | {"total": row(right, len(asked))}


def _right(vectors: Table, ids_Q4: np.ndarray) -> np.ndarray:
    unit_VD, right = vectors.unit_VD, [np.zeros(0, bool)]
    for first in range(0, len(ids_Q4), TILE):
        a, b, c, d = ids_Q4[first : first + TILE].T
        scores_QV = (unit_VD[b] - unit_VD[a] + unit_VD[c]) @ unit_VD.T
        here = np.arange(len(a))
        for given in (a, b, c):
            scores_QV[here, given] = -np.inf
        answer_Q = scores_QV[here, d]
        right.append((np.sum(scores_QV >= answer_Q[:, None], axis=1) == 1) & np.isfinite(answer_Q))
    return np.concatenate(right)


def nearest(vectors: Table, word: str, count: int) -> list[tuple[str, float]]:
    """The `count` words with the highest cosines to a word, itself left out; raises `DataError` for one without."""
    if word not in vectors.ids:
        raise DataError(f"{word!r} has no vector; the vocabulary is {len(vectors.words):,} words of the training text")
    return [(vectors.words[row], cosine) for row, cosine in neighbours(vectors.unit_VD, vectors.ids[word], count)]


def neighbours(unit_VD: np.ndarray, row: int, count: int) -> list[tuple[int, float]]:
    """The `count` rows with the highest cosines to a row of unit vectors, itself left out, the nearest first."""
    cosines_V = unit_VD @ unit_VD[row]
    cosines_V[row] = -np.inf
    best = np.argsort(-cosines_V, kind="stable")[:count]
    return [(int(i), float(cosines_V[i])) for i in best if np.isfinite(cosines_V[i])]


def plane(vectors: Table, words: Sequence[str]) -> np.ndarray:
    """The words' vectors on their first two principal axes, [words, 2]: the flat map that keeps most of the variance.

    The sign of an axis, which is arbitrary, is such that its largest weight is positive.
    """
    if len(words) < 2:
        raise DataError(f"a map has two words at least; {len(words)} was given")
    chosen = vectors.unit_VD[[vectors.ids[word] for word in words]].astype(np.float64)
    _, _, axes = np.linalg.svd(chosen - chosen.mean(0), full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2][np.arange(2), np.argmax(np.abs(axes[:2]), axis=1)])[:, None]
    return (chosen - chosen.mean(0)) @ axes.T
