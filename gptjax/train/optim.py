"""Update rules over Optax, and which parameters each part of a rule is for.

A parameter's role is read from its path, so every model family that keeps the names gets it right: anything under
`embed` is an embedding, anything under `head` a head, any other `kernel` a matrix whose last two axes are (in, out) and
whose axes before them are stacked layers, and the rest (scales, biases) are gains.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import optax
from optax import contrib

from gptjax.config import OptimizerConfig
from gptjax.train.muon import orthogonalised
from gptjax.train.state import path_of
from gptjax.train.step import ANYWHERE, LaidOut, Layout
from gptjax.types import Params

Role = Literal["matrix", "head", "embedding", "gain"]
Decay = Literal["matrices", "all_but_gains", "everything"]
_DECAYED: dict[Decay, tuple[Role, ...]] = {
    "matrices": ("matrix", "head"),
    "all_but_gains": ("matrix", "head", "embedding"),
    "everything": ("matrix", "head", "embedding", "gain"),
}
LARGEST_RATE, LARGEST_DECAY, SMALLEST_EPS, LARGEST_BETA = 1e3, 1e3, 1e-10, 1 - 1e-6
"""Within these no update of Adam's is larger than 2e32, for no gradient is larger than 1.9e19 whose square is finite in
float32, and a million of the largest are still finite."""


def roles(params: Params) -> Any:
    """A tree like `params` whose leaves are roles."""
    return jax.tree_util.tree_map_with_path(lambda path, _: _role(path_of(path).split("/")), params)


def _role(names: list[str]) -> Role:
    if "embed" in names:
        return "embedding"
    if names[-1] != "kernel":
        return "gain"
    return "head" if "head" in names else "matrix"


def decayed(decay: Decay) -> Callable[[Params], Any]:
    """The mask function that Optax's weight decay takes; an untied head counts among the matrices."""
    return lambda params: jax.tree.map(lambda role: role in _DECAYED[decay], roles(params))


@dataclass(frozen=True)
class Optimizer(OptimizerConfig):
    """What every update rule has: a peak learning rate."""

    learning_rate: float = 1e-3
    """Peak learning rate, which the schedule scales."""

    def check(self) -> None:
        self.require(self.learning_rate > 0, f"learning_rate={self.learning_rate} must be positive")

    def require_share(self, *names: str) -> None:
        """Raise `ConfigError` where one of these fields is not in [0, 1)."""
        for name in names:
            self.require(0.0 <= getattr(self, name) < 1.0, f"{name}={getattr(self, name)} is not in [0, 1)")


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015), no weight decay."""

    beta1: float = 0.9
    """Decay per update of the mean of gradients."""
    beta2: float = 0.999
    """Decay per update of the mean of squared gradients."""
    eps: float = 1e-8
    """Added to the root of the second moment."""

    def check(self) -> None:
        super().check()
        self.require_share("beta1", "beta2")
        self.require(self.eps > 0, f"eps={self.eps} must be positive")

    def build(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        return optax.adam(_scaled(self.learning_rate, schedule), self.beta1, self.beta2, self.eps)

    def bounded(self) -> bool:
        return type(self) is Adam and self.within_limits()

    def within_limits(self) -> bool:
        """Whether Adam's own numbers are such that it is bounded; it says nothing of what a subclass adds."""
        betas = self.beta1 <= LARGEST_BETA and 0 < self.beta2 <= LARGEST_BETA
        return betas and self.learning_rate <= LARGEST_RATE and self.eps >= SMALLEST_EPS


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), multiplied by the learning rate."""

    weight_decay: float = 0.1
    """Share of a parameter that is taken off per update, times the learning rate."""
    decay: Decay = "matrices"
    """What decays: matrices with the untied head; all but gains and biases (embeddings too, as GPT-1); everything."""

    def check(self) -> None:
        super().check()
        self.require(self.weight_decay >= 0, f"weight_decay={self.weight_decay} must not be negative")

    def build(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        rate, mask = _scaled(self.learning_rate, schedule), decayed(self.decay)
        return optax.adamw(rate, self.beta1, self.beta2, self.eps, weight_decay=self.weight_decay, mask=mask)

    def bounded(self) -> bool:
        decays = self.weight_decay <= LARGEST_DECAY and self.learning_rate * self.weight_decay <= 1
        return type(self) is AdamW and self.within_limits() and decays


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    momentum: float = 0.9
    """Decay per update of the sum of gradients; 0 keeps none."""
    nesterov: bool = False
    """Look ahead along the momentum."""

    def check(self) -> None:
        super().check()
        self.require_share("momentum")
        self.require(self.momentum > 0 or not self.nesterov, "nesterov=True looks ahead along a momentum, which is 0")

    def build(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        return optax.sgd(_scaled(self.learning_rate, schedule), self.momentum or None, self.nesterov)


@dataclass(frozen=True)
class Lion(Optimizer):
    """The sign of an interpolated momentum (Chen et al. 2023), with decoupled weight decay."""

    learning_rate: float = 1e-4
    """Peak learning rate, which the schedule scales; a third to a tenth of AdamW's."""
    beta1: float = 0.9
    """Weight of the momentum against the gradient in the sign."""
    beta2: float = 0.99
    """Decay per update of the momentum."""
    weight_decay: float = 0.1
    """Share of a parameter that is taken off per update, times the learning rate."""
    decay: Decay = "matrices"
    """What decays: matrices with the untied head; all but gains and biases (embeddings too); everything."""

    def check(self) -> None:
        super().check()
        self.require_share("beta1", "beta2")
        self.require(self.weight_decay >= 0, f"weight_decay={self.weight_decay} must not be negative")

    def build(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        rate, mask = _scaled(self.learning_rate, schedule), decayed(self.decay)
        return optax.lion(rate, self.beta1, self.beta2, weight_decay=self.weight_decay, mask=mask)


@dataclass(frozen=True)
class Muon(Optimizer):
    """Muon (Jordan 2024) for the matrices, each layer of a stack orthogonalised by itself; Adam for all else.

    A matrix's update is its momentum with all singular values brought near 1, times sqrt(max(1, out / in)).
    """

    learning_rate: float = 0.02
    """Peak learning rate of the matrices, which the schedule scales."""
    momentum: float = 0.95
    """Decay per update of the mean of the matrices' gradients; its look-ahead (Nesterov) form is used."""
    newton_schulz_steps: int = 5
    """Iterations that bring the singular values near 1."""
    adam_learning_rate: float = 3e-3
    """Peak learning rate of gains and biases, and of embeddings and head unless they have their own."""
    embedding_learning_rate: float | None = None
    """Peak learning rate of the embeddings; None is adam_learning_rate."""
    head_learning_rate: float | None = None
    """Peak learning rate of heads; None is adam_learning_rate."""
    beta1: float = 0.9
    """Adam's decay per update of the mean of gradients."""
    beta2: float = 0.95
    """Adam's decay per update of the mean of squared gradients."""
    eps: float = 1e-8
    """Adam's addition to the root of the second moment."""
    weight_decay: float = 0.0
    """Share of a parameter that is taken off per update, times its learning rate."""
    decay: Decay = "matrices"
    """What decays: matrices with the untied head; all but gains and biases (embeddings too); everything."""

    def check(self) -> None:
        super().check()
        self.require_share("momentum", "beta1", "beta2")
        for name in ("newton_schulz_steps", "adam_learning_rate", "eps"):
            self.require(getattr(self, name) > 0, f"{name}={getattr(self, name)} must be positive")
        for name in ("embedding_learning_rate", "head_learning_rate"):
            value = getattr(self, name)
            self.require(value is None or value > 0, f"{name}={value} must be positive")
        self.require(self.weight_decay >= 0, f"weight_decay={self.weight_decay} must not be negative")

    def build(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        mask = decayed(self.decay)

        def adam(peak: float | None) -> optax.GradientTransformation:
            rate = _scaled(self.adam_learning_rate if peak is None else peak, schedule)
            return optax.adamw(rate, self.beta1, self.beta2, self.eps, weight_decay=self.weight_decay, mask=mask)

        def directions(
            momenta: Params, state: Any, _: Any = None, *, layout: Layout = ANYWHERE, **others: Any
        ) -> tuple[Params, Any]:
            return jax.tree.map(_widen, orthogonalised(momenta, self.newton_schulz_steps, layout)), state

        matrices = optax.chain(
            # Without steps of its own: the momentum's direction, of Frobenius norm 1.
            contrib.scale_by_muon(ns_steps=0, beta=self.momentum, weight_dimension_numbers=_layers),
            optax.GradientTransformationExtraArgs(optax.init_empty_state, directions),
            optax.add_decayed_weights(self.weight_decay, mask),
            optax.scale_by_learning_rate(_scaled(self.learning_rate, schedule)),
        )
        rules = {
            "matrix": matrices,
            "embedding": adam(self.embedding_learning_rate),
            "head": adam(self.head_learning_rate),
            "gain": adam(None),
        }
        return LaidOut(*optax.partition(rules, roles))


def _layers(updates: Params) -> Any:
    """The last two axes of every matrix are (in, out); those before are layers, orthogonalised independently."""
    return jax.tree.map(lambda _: contrib.MuonDimensionNumbers(reduction_axis=-2, output_axis=-1), updates)


def _widen(update: jax.Array) -> jax.Array:
    """Keeps the change of a layer's output alike where a matrix widens."""
    return update * max(1.0, update.shape[-1] / update.shape[-2]) ** 0.5


def _scaled(peak: float, schedule: optax.Schedule) -> optax.Schedule:
    return lambda updates: peak * schedule(updates)
