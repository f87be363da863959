"""What a model writes behind a prompt, against what it should: exact match, BLEU, chrF, ROUGE-L."""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from gptjax.config import SEEDS, ConfigError
from gptjax.data.errors import DataError
from gptjax.data.records import Record
from gptjax.evals import statistics, wording
from gptjax.evals.choosing import over_seeds
from gptjax.evals.shots import Shots
from gptjax.evals.statistics import Statistic
from gptjax.evals.sweep import Between
from gptjax.evals.task import Judge, Judged, Subject, Task
from gptjax.infer.sample import Decoding, generate
from gptjax.types import Params

Measure = Literal["exact_match", "bleu", "chrf", "rouge_l"]
WORDS: dict[Measure, str] = {
    "exact_match": "share of the texts that equal a reference, the spaces around both left out",
    "bleu": "BLEU of all texts together, 0 to 100 (sacrebleu's defaults)",
    "chrf": "chrF of all texts together, 0 to 100 (sacrebleu's defaults)",
    "rouge_l": "mean over texts of the F-measure of the longest common subsequence of words (ROUGE-L, no stemming)",
}
GREEDY = Decoding(temperature=0.0)


class Written(NamedTuple):
    """A text that was made, and what it should be."""

    found: str
    references: tuple[str, ...]
    """Any of them is right."""


@dataclass(frozen=True, kw_only=True)
class Writing(Task):
    """Texts continued, and compared with references."""

    prompt: str
    """Template of what stands before the text."""
    references: tuple[str, ...]
    """Template of each right text, the space before it included; shots show the first."""
    measures: tuple[Measure, ...] = ("exact_match", "bleu", "chrf", "rouge_l")
    """What is measured; BLEU and chrF need sacrebleu, ROUGE-L needs rouge-score."""
    max_tokens: int = 64
    """Longest text, in tokens."""
    stop: tuple[str, ...] = ("\n",)
    """The text ends before the first of these."""
    decoding: Decoding = GREEDY
    """How a token is chosen; greedy unless set."""
    seed: int = 0
    """Of what is drawn where decoding is not greedy."""
    shots: Shots | None = None
    """Solved examples in front of every prompt; None asks without."""

    def check(self) -> None:
        super().check()
        wording.check("prompt", self.prompt)
        wording.check("references", *self.references)
        self.require(len(self.references) > 0, "references is empty; name a template")
        self.require(len(self.measures) > 0, "measures is empty; name one")
        self.require(self.max_tokens > 0, f"max_tokens={self.max_tokens} must be positive")
        self.require("" not in self.stop, "stop has an empty text, which would end every answer before it begins")
        self.require(0 <= self.seed < SEEDS, f"seed={self.seed} is not in [0, 2**32)")

    def build(self, subject: Subject) -> Judge:
        """Reads and tokenizes the prompts; raises `ConfigError` where a measure's library is not installed."""
        require_installed(self.measures)
        if self.max_tokens >= subject.model.context:
            raise ConfigError(f"max_tokens={self.max_tokens} leaves no room in a context of {subject.model.context}")
        records = self.judged()
        references = [self._references(record) for record in records]
        fronts = self.fronts()
        prompts = subject.tokenizer.encode_batch([front + self._prompt(one) for front in fronts for one in records])
        begin = [id for id in (subject.tokenizer.bos_id,) if id is not None]
        room = subject.model.context - self.max_tokens
        read = [np.concatenate([begin, prompt]).astype(np.int32)[-room:] for prompt in prompts]
        for number, ids in enumerate(read):
            if not len(ids):
                origin = records[number % len(records)][0]
                raise DataError(
                    f"{origin}: prompt={self.prompt!r} gives no text to continue; write something before it"
                )
        cut = sum(len(prompt) + len(begin) > room for prompt in prompts)
        notes = (f"{self.name}: {cut:,} of {len(prompts):,} prompts lost their oldest tokens",) if cut else ()

        def judge(params: Params, between: Between) -> Judged:
            texts = [self._ended(text) for text in self._continued(subject, params, read, between)]
            by_seed = [texts[first : first + len(records)] for first in range(0, len(texts), len(records))]
            written = [[Written(*pair) for pair in zip(part, references, strict=True)] for part in by_seed]
            measures = over_seeds([self._statistics(part) for part in written], len(records))
            results = [
                {"origin": record[0], "found": list(found), "references": list(right)}
                for record, right, found in zip(records, references, zip(*by_seed, strict=True), strict=True)
            ]
            return Judged(measures, results, notes)

        return judge

    def fronts(self) -> list[str]:
        """What stands before every prompt, for each seed of the shots."""
        if self.shots is None:
            return [""]
        shown = self.to_learn_from(self.shots.data)
        return self.shots.fronts([self._prompt(one) + self._references(one)[0] for one in shown])

    def _prompt(self, record: Record) -> str:
        return wording.worded(self.prompt, record)

    def _references(self, record: Record) -> tuple[str, ...]:
        return tuple(wording.worded(template, record) for template in self.references)

    def _continued(
        self, subject: Subject, params: Params, prompts: Sequence[np.ndarray], between: Between
    ) -> list[str]:
        """The text behind each prompt, as long as it may be."""
        found, key = [""] * len(prompts), jax.random.key(self.seed)
        for number, chosen in enumerate(_alike(prompts, subject.rows)):
            rows = [prompts[i] for i in chosen]
            rows += [rows[0]] * (subject.rows - len(rows))  # always as many: one shape is compiled
            drawn = jax.random.fold_in(key, number)
            made = generate(
                subject.model, params, rows, self.max_tokens, self.decoding, drawn, subject.tokenizer.eos_id
            )
            for i, ids in zip(chosen, made, strict=False):
                found[i] = subject.tokenizer.decode(ids)
            between()
        return found

    def _ended(self, text: str) -> str:
        ends = [at for at in map(text.find, self.stop) if at >= 0]
        return text[: min(ends, default=len(text))].strip()

    def _statistics(self, written: Sequence[Written]) -> dict[str, Statistic]:
        measures = {"exact_match": exact_match, "bleu": bleu, "chrf": chrf, "rouge_l": rouge_l}
        return {name: measures[name](written) for name in self.measures}

    def definitions(self) -> dict[str, str]:
        """What is measured, in words."""
        return {name: WORDS[name] for name in self.measures}


def require_installed(measures: Sequence[Measure]) -> None:
    """Raise `ConfigError` where the library of a measure is missing."""
    wanted = {"sacrebleu": {"bleu", "chrf"} & {*measures}, "rouge_score": {"rouge_l"} & {*measures}}
    for library, needed in wanted.items():
        if needed and importlib.util.find_spec(library) is None:
            raise ConfigError(f"{', '.join(sorted(needed))}: needs {library}; pip install 'gptjax[judge]'")


def _alike(prompts: Sequence[np.ndarray], rows: int) -> Iterator[list[int]]:
    """Indices of prompts, those of like length together, the longest first."""
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    yield from (order[first : first + rows] for first in range(0, len(order), rows))


def exact_match(written: Sequence[Written]) -> Statistic:
    """Share of the texts that equal one of their references."""
    return statistics.mean(np.array([w.found.strip() in {r.strip() for r in w.references} for w in written]))


def rouge_l(written: Sequence[Written]) -> Statistic:
    """ROUGE-L against the reference that fits best."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    best = [max(scorer.score(r, w.found)["rougeL"].fmeasure for r in w.references) for w in written]
    return statistics.mean(np.array(best))


def bleu(written: Sequence[Written]) -> Statistic:
    """BLEU of the corpus."""
    from sacrebleu.metrics import BLEU

    return _sacre(written, BLEU())


def chrf(written: Sequence[Written]) -> Statistic:
    """chrF of the corpus."""
    from sacrebleu.metrics import CHRF

    return _sacre(written, CHRF())


def _sacre(written: Sequence[Written], metric: Any) -> Statistic:
    from gptjax.evals.translation import Translated, statistic

    return statistic([Translated("", w.found, w.references) for w in written], metric)
