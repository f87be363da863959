"""Tasks in which several texts are compared: the right one must be strictly likelier than each other one.

A tie is a failure: a model of constants would otherwise pass wherever the right text stands first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gptjax.data.records import Record
from gptjax.evals import bootstrap, spelling, statistics, task
from gptjax.evals.bootstrap import Measured
from gptjax.evals.choice import TIE
from gptjax.evals.shots import Shots
from gptjax.evals.statistics import Statistic
from gptjax.evals.sweep import Between
from gptjax.evals.task import Judge, Judged, Subject, Task
from gptjax.types import Params


class Asked(NamedTuple):
    """A question: which of these continuations follows its context?"""

    origin: str
    texts: tuple[tuple[str, str], ...]
    """(context, continuation) of each choice."""
    answer: int
    """Which of them is right."""

    @property
    def solved(self) -> str:
        """The right text, as a shot shows it."""
        return "".join(self.texts[self.answer])


class Answered(NamedTuple):
    """A question with what its choices cost."""

    asked: Asked
    nats_C: np.ndarray
    tokens_C: np.ndarray

    def chosen(self, per_C: np.ndarray | float = 1.0) -> int:
        """The choice of fewest nats for each of `per` (1, or its tokens or bytes); -1, never right, for a tie."""
        scaled_C = self.nats_C / per_C
        first, second = np.argsort(scaled_C, kind="stable")[:2]
        tied = scaled_C[second] - scaled_C[first] <= TIE * max(abs(scaled_C[second]), 1e-30)
        return -1 if tied else int(first)


@dataclass(frozen=True, kw_only=True)
class Choosing(Task):
    """What such tasks share; a subclass makes a question of a record and says what is measured of the answers."""

    shots: Shots | None = None
    """Solved examples in front of every question; None asks without."""

    def asked(self, record: Record) -> Asked:
        """The question in a record."""
        raise NotImplementedError

    def chosen(self, answered: Answered) -> int:
        """The answer that a record's result shows; -1 for a tie."""
        return answered.chosen()

    def statistics(self, answered: Sequence[Answered]) -> dict[str, Statistic]:
        """What is measured of the answers."""
        raise NotImplementedError

    def build(self, subject: Subject) -> Judge:
        """Reads and tokenizes the records; every question once for each seed of the shots."""
        asked = [self.asked(record) for record in self.judged()]
        fronts, notes = [""], list[str]()
        if self.shots is not None:
            solved = [self.asked(record).solved for record in self.to_learn_from(self.shots.data)]
            fronts = self.shots.fronts(solved)
            seeds = ", ".join(map(str, self.shots.seeds))
            notes.append(
                f"{self.name}: {self.shots.count} solved examples before each question, means of seeds {seeds}"
            )
        pairs = [(front + before, after) for front in fronts for one in asked for before, after in one.texts]
        spelled = spelling.spelled(subject.tokenizer, pairs)
        ends = np.cumsum([len(one.texts) for _ in fronts for one in asked])[:-1]

        def judge(params: Params, between: Between) -> Judged:
            found = task.scored(subject, params, spelled, between)
            parts = zip(np.split(found.nats_R, ends), np.split(found.tokens_R, ends), strict=True)
            answered = [Answered(one, *part) for one, part in zip(asked * len(fronts), parts, strict=True)]
            by_seed = [answered[i * len(asked) : (i + 1) * len(asked)] for i in range(len(fronts))]
            measures = over_seeds([self.statistics(part) for part in by_seed], len(asked))
            results = [self._result(part) for part in zip(*by_seed, strict=True)]
            return Judged(measures, results, (*notes, *found.notes))

        return judge

    def _result(self, seeds: Sequence[Answered]) -> dict[str, Any]:
        asked = seeds[0].asked
        found = {"origin": asked.origin, "answer": asked.answer}
        some = {"chosen": [self.chosen(one) for one in seeds], "nats": [one.nats_C.tolist() for one in seeds]}
        return found | (some if self.shots is not None else {name: value[0] for name, value in some.items()})


def over_seeds(found: Sequence[dict[str, Statistic]], examples: int) -> dict[str, Measured]:
    """Measures of the same examples under several seeds: their mean, its interval, and each seed's own value."""
    means = {name: statistics.average([one[name] for one in found]) for name in found[0]}
    measured = bootstrap.measured(means, examples)
    if len(found) == 1:
        return measured
    alone = {name: tuple(statistics.once(one[name], examples) for one in found) for name in means}
    return {name: one._replace(by_seed=alone[name]) for name, one in measured.items()}
