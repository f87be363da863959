"""What a run chooses: the bases of every tokenizer, model, objective, schedule, optimizer and task.

A choice is a subclass of one of them. It lives in the file of what it builds, so that a new idea is one new file; JSON
names it by its qualified name.
"""

import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gptjax.fields import Config, ConfigError

if TYPE_CHECKING:
    import jax
    import optax

    from gptjax.config import Data
    from gptjax.types import Array, Inside, Model, Objective, Params, Place, RowSource, TokenSplit


@dataclass(frozen=True)
class TokenizerConfig(Config):
    """What every tokenizer has: its document policy and the padding of its vocabulary. Subclasses build it."""

    LEARNS_FROM: ClassVar[tuple[str, ...]] = ("train",)
    """Splits whose text `build` is given."""

    bos: bool = False
    """Put a beginning-of-text token before every document."""
    eos: bool = True
    """Put an end-of-text token after every document."""
    pad_vocab_multiple: int = 1
    """Round the model's vocabulary up to a multiple of this (128 suits GPU and TPU); padding is never predicted."""

    def check(self) -> None:
        self.require(self.pad_vocab_multiple > 0, f"pad_vocab_multiple={self.pad_vocab_multiple} must be positive")

    def build(self, documents: Any) -> Any:
        """The `gptjax.data.tokenizers.Tokenizer`; `documents()` iterates over training text, for those that learn."""
        raise NotImplementedError


@dataclass(frozen=True)
class ModelConfig(Config):
    """A model family; subclasses have the fields and build the pure functions."""

    def build(self, vocab_size: int, padded_vocab_size: int, place: "Place | None" = None) -> "Model":
        """The pure functions for ids in [0, vocab_size); the arrays have padded_vocab_size rows.

        Without a place they are for one device of JAX's default backend, or for any that needs no kernel of its own.
        """
        raise NotImplementedError

    def states(
        self,
        params: "Params",
        inputs_BT: "Array",
        segments_BT: "Array | None" = None,
        positions_BT: "Array | None" = None,
    ) -> "jax.Array":
        """For those who look inside: every token's vector before the first layer and after each, states_LBTD."""
        raise ConfigError(f"{type(self).__name__} does not show the states of its layers")

    def inside(self, params: "Params", inputs_BT: "Array") -> "Inside":
        """For those who look inside: what the head reads of every layer, and where attention looks; one text a row."""
        raise ConfigError(f"{type(self).__name__} has no attention to show")

    def notes(self, tokens: int, packed: bool, dtype: str, place: "Place") -> tuple[str, ...]:
        """What the user must know of how training computes rows of `tokens`, packed with several documents or not."""
        return ()

    def parameter_count(self, vocab_size: int) -> int:
        """Number of trained scalars for a vocabulary of this size, padding included if counted in vocab_size."""
        raise NotImplementedError

    def flops_per_token(self, vocab_size: int, tokens: int) -> tuple[float, float]:
        """Training FLOPs per token at rows of `tokens`: (whole attention square, causal half only)."""
        raise NotImplementedError


class Sources(typing.NamedTuple):
    """What an objective trains on and is judged by."""

    train: "tuple[RowSource, ...]"
    weights: tuple[float, ...]
    """Share of the training rows for each training source."""
    validation: "RowSource | None"
    """Rows of the held-out split, each once."""
    split: "TokenSplit | None"
    """The held-out split as running tokens, where the objective judges it so."""
    identity: str
    """SHA-256 of all that was read: a run continues only on the same data."""
    notes: tuple[str, ...]
    """What the user must know: rows left out, tokens dropped, with counts."""


class Widest(typing.NamedTuple):
    """The widest row that a run can have, made without its data: what the run is planned for."""

    rows: Any
    """One row as `Sources.train` gives it; which tokens it has means nothing."""
    notes: tuple[str, ...] = ()
    """What the user must know: how wide it is, where the data's own rows may be narrower."""


@dataclass(frozen=True)
class ObjectiveConfig(Config):
    """What is learnt; subclasses build the loss and find the rows."""

    FITTED: ClassVar[bool] = False
    """Whether held-out rows are made with statistics of the training text (thinning, document frequencies)."""
    PARALLEL_ON_CPU: ClassVar[bool] = False
    """Whether updates are so many small operations that a CPU is better used as two devices; see `train.virtual`."""

    def texts(self, data: "Data", splits: tuple[str, ...]) -> Iterator[str]:
        """The text of these splits, for a tokenizer to learn from."""
        raise NotImplementedError

    def plain(self) -> "ObjectiveConfig":
        """What a model that learnt this is judged by and continued with: this, or what it wraps."""
        return self

    def merged(self, params: "Params") -> "Params":
        """Parameters of this as those of `plain()`: what it added to the model's own, put into them."""
        return params

    def specials(self) -> tuple[str, ...]:
        """Names of tokens beyond the tokenizer's own, that this objective adds behind the vocabulary."""
        return ()

    def build(self, model: "Model", tokenizer: Any) -> "Objective":
        """The objective over this model."""
        raise NotImplementedError

    def sources(self, data: "Data", tokenizer: Any, context: int, seed: int, cache: Path) -> Sources:
        """Training and validation rows of `context` + 1 tokens; `cache` is a folder for what is worth keeping."""
        raise NotImplementedError

    def widest(self, data: "Data", tokenizer: Any, context: int) -> Widest:
        """The widest row that `sources` can find in any text, without reading one; of a tokenizer the size will do.

        Where only the text tells, a row of a usual width, and a note that says so. Raises `ConfigError` where there is
        none, as an objective has it that says nothing of its own.
        """
        name = type(self).__name__
        raise ConfigError(
            f"objective {name}: only data tell how wide its rows are, and plan reads none; write its `widest`"
        )

    def predictor(self, model: "Model") -> Callable[[Any, Any], Any] | None:
        """`predict(params, batch) -> scores_BC` of classes, choices or a number; None where the loss alone judges."""
        return None


@dataclass(frozen=True)
class ScheduleConfig(Config):
    """Learning rate over the run, as a fraction of its peak; subclasses build it."""

    def build(self, steps: int) -> "optax.Schedule":
        """`schedule(step) -> fraction of the peak` over `steps` updates."""
        raise NotImplementedError

    def bounded(self) -> bool:
        """Whether the fraction is known to be at most 1."""
        return False


@dataclass(frozen=True)
class OptimizerConfig(Config):
    """An update rule and its peak learning rate; subclasses build it."""

    learning_rate: float = 1e-3
    """Peak learning rate, which the schedule scales."""

    def build(self, schedule: "optax.Schedule") -> "optax.GradientTransformation":
        """The Optax transformation; `schedule` scales the peak learning rate."""
        raise NotImplementedError

    def bounded(self) -> bool:
        """Whether a gradient whose norm has a finite square is known to make finite parameters, under such a schedule.

        Where not, every update reads again what it made.
        """
        return False


@dataclass(frozen=True, kw_only=True)
class TaskConfig(Config):
    """Something that a language model is asked; subclasses read the records and say what is measured."""

    name: str
    """What its numbers are called by: NAME/accuracy in the rows of a run."""
    data: str
    """Its records: a file, or a folder with a file named dev or validation."""
    limit: int | None = None
    """Only this many records, from the start; None judges all."""

    def check(self) -> None:
        plain = self.name != "" and not set(self.name) & set("/ \t\n")
        self.require(plain, f"name={self.name!r} must be a word without slashes; it names the task's numbers")
        self.require(self.limit is None or self.limit > 0, f"limit={self.limit} must be positive")

    def definitions(self) -> dict[str, str]:
        """What is measured: its name, and in words what it is."""
        raise NotImplementedError

    def build(self, subject: Any) -> Callable[..., Any]:
        """`judge(params, between) -> gptjax.evals.task.Judged` of a `gptjax.evals.task.Subject`; reads the records."""
        raise NotImplementedError
