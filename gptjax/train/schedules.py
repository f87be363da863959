"""Learning rate over the run, as a fraction of its peak; update 0 is the first.

Warm-up over W updates rises as 1/(W+1), 2/(W+1), ... and reaches the peak at update W, so that the first update already
learns; a decay reaches its final fraction at `steps`, one past the last update, so that the last one still learns.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from gptjax.config import ScheduleConfig


@dataclass(frozen=True)
class Schedule(ScheduleConfig):
    """What every schedule has: a linear warm-up."""

    warmup_steps: int = 0
    """Updates over which the learning rate rises linearly to its peak."""

    def check(self) -> None:
        self.require(self.warmup_steps >= 0, f"warmup_steps={self.warmup_steps} must not be negative")

    def warmup(self, step: jax.Array) -> jax.Array:
        """The warm-up's own fraction: 1 from update `warmup_steps` on."""
        return jnp.minimum(1.0, (step + 1.0) / (self.warmup_steps + 1.0))

    def bounded(self) -> bool:
        return type(self) in (Constant, Cosine, Linear)  # of a subclass nothing is known

    def require_room(self, steps: int) -> None:
        """Raise `ConfigError` where the warm-up would never end."""
        message = f"warmup_steps={self.warmup_steps} is not below steps={steps}; shorten the warm-up or run longer"
        self.require(self.warmup_steps < steps, message)


@dataclass(frozen=True)
class Constant(Schedule):
    """The peak, after a linear warm-up."""

    def build(self, steps: int) -> optax.Schedule:
        """`schedule(step) -> fraction`; raises `ConfigError` where the warm-up is not shorter than the run."""
        self.require_room(steps)
        return self.warmup


@dataclass(frozen=True)
class Cosine(Schedule):
    """Linear warm-up, then half a cosine down; with final_fraction 0 it is GPT-1's."""

    final_fraction: float = 0.0
    """Share of the peak that is left at the end."""

    def check(self) -> None:
        super().check()
        _require_fraction(self, "final_fraction", self.final_fraction)

    def build(self, steps: int) -> optax.Schedule:
        """`schedule(step) -> fraction`; raises `ConfigError` where the warm-up is not shorter than the run."""
        self.require_room(steps)

        def schedule(step: jax.Array) -> jax.Array:
            progress = jnp.clip((step - self.warmup_steps) / (steps - self.warmup_steps), 0.0, 1.0)
            cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
            return self.warmup(step) * (self.final_fraction + (1.0 - self.final_fraction) * cosine)

        return schedule


@dataclass(frozen=True)
class Linear(Schedule):
    """Linear warm-up, the peak held, then a straight line down: warmup-stable-decay (WSD) where decay_fraction < 1."""

    decay_fraction: float = 1.0
    """Last share of the run's updates over which the rate falls; 1 falls from the end of the warm-up on."""
    final_fraction: float = 0.0
    """Share of the peak that is left at the end."""

    def check(self) -> None:
        super().check()
        _require_fraction(self, "final_fraction", self.final_fraction)
        _require_fraction(self, "decay_fraction", self.decay_fraction)

    def build(self, steps: int) -> optax.Schedule:
        """`schedule(step) -> fraction`; raises `ConfigError` where the warm-up is not shorter than the run."""
        self.require_room(steps)
        start = max(self.warmup_steps, steps - round(self.decay_fraction * steps))

        def schedule(step: jax.Array) -> jax.Array:
            progress = jnp.clip((step - start) / max(steps - start, 1), 0.0, 1.0)
            return self.warmup(step) * (1.0 - (1.0 - self.final_fraction) * progress)

        return schedule


def _require_fraction(config: Schedule, name: str, value: float) -> None:
    config.require(0.0 <= value <= 1.0, f"{name}={value} is not in [0, 1]")
