"""What tasks share: records to ask about, a model to ask, and what is found: measures with their intervals."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from gptjax.config import TaskConfig
from gptjax.data.errors import DataError
from gptjax.data.records import Record, records
from gptjax.data.tokenizer import Tokenizer
from gptjax.evals import continuations
from gptjax.evals.bootstrap import Measured
from gptjax.evals.spelling import Spelled
from gptjax.evals.sweep import Between, Fetch, Place
from gptjax.objectives import examples
from gptjax.types import Model, Params


class Subject(NamedTuple):
    """Whom tasks ask: a model that reads text from left to right, and how it is run."""

    model: Model
    tokenizer: Tokenizer
    rows: int
    """Rows judged at once."""
    parts: int = 1
    """The rows of a batch are split into so many."""
    place: Place = jax.device_put
    fetch: Fetch = np.asarray


class Judged(NamedTuple):
    """What a task found."""

    measures: dict[str, Measured]
    results: list[dict[str, Any]]
    """What each example gave, in the order of the records."""
    notes: tuple[str, ...]
    """What a reader must know of the numbers: contexts cut, shots drawn."""


Judge = Callable[[Params, Between], Judged]
"""`judge(params, between)` of the model's own parameters; `between()` is called now and then, and may raise."""


@dataclass(frozen=True, kw_only=True)
class Task(TaskConfig):
    """A task over records: named fields of the lines of a file."""

    columns: tuple[str, ...] = ()
    """Column names of a table without a header; none where the file has one."""

    def judged(self) -> list[Record]:
        """The records to ask about; raises `DataError` where there are none."""
        return self._read(examples.held_out(self.data), self.limit)

    def to_learn_from(self, data: str = "") -> list[Record]:
        """The records of `data`, or of the file named train beside those to ask about; never those themselves."""
        source = examples.to_learn_from(data or self.data)
        if _place(source) == _place(examples.held_out(self.data)):
            raise DataError(f"{source}: is what is judged; name a folder with train and dev files, or another file")
        return self._read(source, None)

    def _read(self, source: str, limit: int | None) -> list[Record]:
        found = list(islice(records(source, self.columns or None), limit))
        if not found:
            raise DataError(f"{source}: holds no records to ask about")
        return found


def _place(source: str) -> str:
    """One spelling of a source: another spelling of a path is the same file."""
    return str(Path(source).resolve()) if Path(source).exists() else source


class Scores(NamedTuple):
    """What scored texts gave, one entry a text."""

    nats_R: np.ndarray
    """-log p of each continuation, float64."""
    tokens_R: np.ndarray
    """How many tokens each of them has."""
    greedy_R: np.ndarray
    """Whether each of its tokens was the likeliest one."""
    notes: tuple[str, ...]


def scored(subject: Subject, params: Params, asked: Sequence[Spelled], between: Between) -> Scores:
    """The nats of every continuation behind its context; raises `FloatingPointError` where one is not finite.

    A token that nothing is known of is charged ln V, what a uniform guess costs.
    """
    requests = [(one.context, one.continuation) for one in asked]
    model, place, fetch = subject.model, subject.place, subject.fetch
    found = continuations.scored(
        model, params, requests, place=place, fetch=fetch, between=between, shards=subject.parts
    )
    uniform_R = np.array([one.uniform for one in asked])
    nats_R = found.nats_R + uniform_R * math.log(model.vocab_size)
    cut = int(found.cut_R.sum())
    note = f"{cut:,} of {len(asked):,} texts are longer than the model's context, and lost their oldest tokens"
    return Scores(nats_R, found.tokens_R + uniform_R, found.greedy_R, (note,) if cut else ())
