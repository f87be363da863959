"""How often a decoder in training reads the true previous token, and not its own: a function of the update."""

import math
from dataclasses import dataclass

from gptjax.config import Config


@dataclass(frozen=True)
class Forcing(Config):
    """A probability over training; subclasses say which."""

    def probability(self, step: int) -> float:
        """That the token read is the true one, at update `step` (from 0)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Teacher(Forcing):
    """Always the true token (teacher forcing): whole rows at once, the fast way."""

    def probability(self, step: int) -> float:
        """1."""
        return 1.0


@dataclass(frozen=True)
class Free(Forcing):
    """Never the true token (free running): the decoder reads what it wrote, as when it translates."""

    def probability(self, step: int) -> float:
        """0."""
        return 0.0


@dataclass(frozen=True)
class LinearDecay(Forcing):
    """Less and less often by a straight line, down to a floor. (Bengio et al. 2015, "Scheduled sampling".)"""

    steps: int = 1000
    """Updates until the floor."""
    floor: float = 0.0
    """Probability from then on."""

    def check(self) -> None:
        self.require(self.steps > 0, f"steps={self.steps} must be positive")
        self.require(0 <= self.floor <= 1, f"floor={self.floor} is not in [0, 1]")

    def probability(self, step: int) -> float:
        """max(floor, 1 - (1 - floor) step / steps)."""
        return max(self.floor, 1 - (1 - self.floor) * step / self.steps)


@dataclass(frozen=True)
class InverseSigmoid(Forcing):
    """Less and less often, slowly at first and at last. (Bengio et al. 2015, "Scheduled sampling".)"""

    k: float = 100.0
    """Pace, in updates: it is k ln k updates until half."""

    def check(self) -> None:
        self.require(self.k >= 1, f"k={self.k} must be at least 1")

    def probability(self, step: int) -> float:
        """k / (k + exp(step / k))."""
        return self.k / (self.k + math.exp(min(step / self.k, 700.0)))
