"""The last word of a passage, which only the whole of it tells (LAMBADA: Paperno et al., arXiv 1606.06031)."""

import re
from dataclasses import dataclass

from gptjax.data.errors import DataError
from gptjax.data.records import Record
from gptjax.evals import bootstrap, spelling, statistics, task, wording
from gptjax.evals.sweep import Between
from gptjax.evals.task import Judge, Judged, Subject, Task
from gptjax.types import Params


@dataclass(frozen=True, kw_only=True)
class LastWord(Task):
    """Does the model write the last word of each passage?"""

    text: str = "{text}"
    """Template of the passage, last word included."""

    def check(self) -> None:
        super().check()
        wording.check("text", self.text)

    def divided(self, record: Record) -> tuple[str, str]:
        """The passage, and its last word with the space before it; raises `DataError` for less than two words."""
        text = wording.worded(self.text, record)
        found = re.search(r"(?<=\S)\s+\S+$", text)
        if found is None:
            raise DataError(f"{record[0]}: {text[:40]!r} has no word before its last")
        return text[: found.start()], found[0]

    def build(self, subject: Subject) -> Judge:
        """Reads and tokenizes the passages."""
        passages = self.judged()
        pairs = [self.divided(record) for record in passages]
        spelled = spelling.spelled(subject.tokenizer, pairs)

        def judge(params: Params, between: Between) -> Judged:
            found = task.scored(subject, params, spelled, between)
            nats, tokens = statistics.mean(found.nats_R), statistics.ratio(found.nats_R, found.tokens_R)
            measures = bootstrap.measured(
                {
                    "accuracy": statistics.mean(found.greedy_R),
                    "perplexity": statistics.exponential(nats),
                    "nats_per_token": tokens,
                },
                len(pairs),
            )
            columns = zip(passages, pairs, found.nats_R.tolist(), found.greedy_R.tolist(), strict=True)
            results = [{"origin": r[0], "word": w.strip(), "nats": n, "greedy": g} for r, (_, w), n, g in columns]
            return Judged(measures, results, found.notes)

        return judge

    def definitions(self) -> dict[str, str]:
        """What is measured, in words."""
        return {
            "accuracy": "share of the passages of whose last word every token is the model's likeliest one",
            "perplexity": "e to the mean over passages of -log p of the whole last word",
            "nats_per_token": "-log p of all last words together, for each of their tokens",
        }
