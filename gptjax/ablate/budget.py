"""Equal budgets: how many updates each row of an experiment may make, by a measure that is stated."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from gptjax import launch
from gptjax.config import Config, ConfigError, Run
from gptjax.objectives.causal import Causal
from gptjax.train import log
from gptjax.train.schedules import Constant

Say = Callable[[str], None]

PROBE_STEPS = 30
"""Updates that are timed for a budget of seconds; the first third is left out."""


@dataclass(frozen=True)
class Budget(Config):
    """What every row may spend; subclasses say in which measure."""

    def steps(self, run: Run, folder: Path, cache: Path, say: Say) -> int:
        """Updates of this run that the budget pays for, one at least; `folder` is for what must be tried out."""
        raise NotImplementedError


@dataclass(frozen=True)
class Tokens(Budget):
    """Every row reads so many tokens."""

    tokens: int
    """Positions of the rows that are read, padding included."""

    def check(self) -> None:
        self.require(self.tokens > 0, f"tokens={self.tokens} must be positive")

    def steps(self, run: Run, folder: Path, cache: Path, say: Say) -> int:
        """The nearest whole number of updates of batch_rows x context tokens."""
        return max(1, round(self.tokens / (run.batch_rows * _row_tokens(run))))


@dataclass(frozen=True)
class Flops(Budget):
    """Every row computes so many training FLOPs, by the whole-square convention (6 N + 12 L T D a token)."""

    flops: float
    """Floating-point operations of all updates."""

    def check(self) -> None:
        self.require(self.flops > 0, f"flops={self.flops} must be positive")

    def steps(self, run: Run, folder: Path, cache: Path, say: Say) -> int:
        """The nearest whole number of updates; learns the tokenizer, for the vocabulary is part of the model."""
        tokenizer = run.tokenizer.build(lambda: run.objective.texts(run.data, run.tokenizer.LEARNS_FROM))
        vocab_size = tokenizer.padded(tokenizer.vocab_size + len(run.objective.specials()))
        tokens = _row_tokens(run)
        each, _ = run.model.flops_per_token(vocab_size, tokens)
        return max(1, round(self.flops / (each * run.batch_rows * tokens)))


@dataclass(frozen=True)
class Seconds(Budget):
    """Every row trains for so many seconds on this machine, judging and compiling not counted.

    A trial run is timed first, so the numbers of updates differ from machine to machine; they are remembered in the
    experiment's folder and a sweep that goes on keeps them.
    """

    seconds: float
    """Time in updates."""

    def check(self) -> None:
        self.require(self.seconds > 0, f"seconds={self.seconds} must be positive")

    def steps(self, run: Run, folder: Path, cache: Path, say: Say) -> int:
        """The nearest whole number of updates, by the median time of an update in a trial run in `folder`."""
        judging = replace(run.evaluation, every_steps=PROBE_STEPS, max_tokens=1000)
        once = replace(run.checkpoints, every_steps=PROBE_STEPS, keep_best=None)
        constant = Constant()  # the run's own may be longer than the trial
        probe = replace(
            run, steps=PROBE_STEPS, log_every_steps=1, schedule=constant, evaluation=judging, checkpoints=once
        )
        launch.launch(probe, folder, cache, say)
        rows = [row for row in log.rows(folder / "metrics.jsonl") if "step_seconds" in row]
        each = median(row["step_seconds"] for row in rows if row["step"] > PROBE_STEPS // 3)
        return max(1, round(self.seconds / each))


def _row_tokens(run: Run) -> int:
    """Tokens of a row of running text."""
    context = getattr(run.model, "context", None)
    if not isinstance(run.objective.plain(), Causal) or context is None:
        kind = f"{type(run.objective).__name__} over {type(run.model).__name__}"
        raise ConfigError(f"a budget of tokens or FLOPs needs rows of running text, and this is {kind}; use Seconds")
    return int(context)
