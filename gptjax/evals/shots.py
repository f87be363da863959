"""Solved examples in front of a question, as few-shot prompting has them (Brown et al., arXiv 2005.14165)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gptjax.config import Config
from gptjax.data.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Shots(Config):
    """How many examples stand before each question, and which."""

    count: int
    """Solved examples in front of every question."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each draws its own examples; measures are means over the seeds."""
    data: str = ""
    """A file of records to draw from; empty for the file named train beside those that are judged."""
    separator: str = "\n\n"
    """What stands between examples."""

    def check(self) -> None:
        self.require(self.count > 0, f"count={self.count} must be positive; without shots there is no Shots")
        distinct = len(self.seeds) > 0 and len(set(self.seeds)) == len(self.seeds) and min(self.seeds) >= 0
        self.require(distinct, f"seeds={self.seeds} must be different numbers, 0 or more, and one of them at least")

    def fronts(self, solved: Sequence[str]) -> list[str]:
        """What stands before every question, for each seed: some of the solved examples, drawn without replacement."""
        if len(solved) < self.count:
            raise DataError(f"shots.count={self.count}: there are {len(solved)} examples to draw from")
        found = []
        for seed in self.seeds:
            chosen = np.random.default_rng(seed).choice(len(solved), self.count, replace=False)
            found.append("".join(solved[i] + self.separator for i in chosen))
        return found
