"""Translations against references: BLEU (Papineni et al. 2002) and chrF (Popović 2015), by sacrebleu."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

from gptjax.data.errors import DataError
from gptjax.evals.statistics import Statistic

BUCKETS = (("1-5 words", 1, 5), ("6-10 words", 6, 10), (">10 words", 11, 10**9))
"""Name, fewest and most words of the source."""


class Translated(NamedTuple):
    """A source, what was made of it, and what it may become."""

    source: str
    found: str
    references: tuple[str, ...]
    """One or more; any of them is right."""


def summary(translated: Sequence[Translated]) -> dict[str, Any]:
    """ "all" and each length of source in `BUCKETS`: {"sentences", "bleu", "chrf"} (0 to 100), and the signatures.

    A length that no source has is absent. Raises `DataError` where there is nothing to judge.
    """
    if not translated:
        raise DataError("there are no translations to judge")
    bleu, chrf = BLEU(), CHRF()
    scores: dict[str, Any] = {"all": _scores(translated, bleu, chrf)}
    signatures = {"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())}
    for name, least, most in BUCKETS:
        if part := [t for t in translated if least <= len(t.source.split()) <= most]:
            scores[name] = _scores(part, BLEU(), CHRF())
    return scores | {"signatures": signatures}


def statistic(translated: Sequence[Translated], metric: BLEU | CHRF) -> Statistic:
    """The metric (0 to 100) of a corpus in which every text counts so often: its counts of n-grams are added up.

    (sacrebleu's own functions for resampling, which begin with an underscore, as its significance tests call them.)
    """
    found, columns = _columns(translated)
    counts_ES = np.array(metric._extract_corpus_statistics(found, columns), np.float64)

    def values(counts_RE: np.ndarray) -> np.ndarray:
        return np.array([metric._compute_score_from_stats(row_S.tolist()).score for row_S in counts_RE @ counts_ES])

    return values


def _columns(translated: Sequence[Translated]) -> tuple[list[str], Any]:
    """What was found, and the references as sacrebleu takes them: columns; None fills those of a text with fewer."""
    most = max(len(t.references) for t in translated)
    columns = [[t.references[i] if i < len(t.references) else None for t in translated] for i in range(most)]
    return [t.found for t in translated], columns


def _scores(translated: Sequence[Translated], bleu: BLEU, chrf: CHRF) -> dict[str, float]:
    found, columns = _columns(translated)
    scores = {"bleu": bleu.corpus_score(found, columns).score, "chrf": chrf.corpus_score(found, columns).score}
    return {"sentences": len(translated), **scores}
