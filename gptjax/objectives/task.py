"""What GPT-1's fine-tuning tasks share: from records of a file to rows, an objective and predictions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from gptjax.config import ConfigError, Data, ObjectiveConfig, Sources, Widest
from gptjax.objectives import examples, task_loss, task_text
from gptjax.objectives.causal import require_language_model
from gptjax.objectives.examples import Record
from gptjax.objectives.task_loss import Pool, Question
from gptjax.objectives.task_text import Ids, Specials, TaskBatch
from gptjax.types import Model, Objective, Params


class Example(NamedTuple):
    """One example of a task, before tokenization."""

    texts: tuple[tuple[str, ...], ...]
    """The texts that a transformation takes; each is one or several parts, tokenized apart."""
    target: int | float


@dataclass(frozen=True)
class Task(ObjectiveConfig):
    """What GPT-1's tasks share; a subclass says how a record is read and what is asked."""

    TEXTS: ClassVar[int] = 2
    """Texts in a row."""

    lm_weight: float = 0.5
    """Weight of the language-model loss on the task's own text, L3 = L2 + lm_weight * L1."""
    classifier_dropout: float = 0.1
    """Share dropped of the hidden state that the task head reads."""
    pool: Pool = "last"
    """What the head reads: the extract token (GPT-1), the first token (BERT's [CLS]), all tokens' mean or maximum."""
    segment_tokens: int | None = None
    """Longest text in tokens, longer ones are cut and counted; None is context // 2 - 2, as GPT-1. A row must fit."""
    columns: tuple[str, ...] = ()
    """Column names of a table without a header (CoLA: source label mark sentence); none where the file has one."""

    def check(self) -> None:
        self.require(self.lm_weight >= 0, f"lm_weight={self.lm_weight} must not be negative")
        self.require(0 <= self.classifier_dropout < 1, f"classifier_dropout={self.classifier_dropout} is not in [0, 1)")
        cut = self.segment_tokens
        self.require(cut is None or cut > 0, f"segment_tokens={cut} must be positive")

    def example(self, record: Record, origin: str) -> Example:
        """A record as an example; raises `DataError` naming `origin` where it is not one."""
        raise NotImplementedError

    def ways(self, texts: Sequence[Ids], marks: Specials) -> list[Ids]:
        """The transformation of `task_text` that makes token sequences of the texts."""
        raise NotImplementedError

    def question(self) -> Question:
        """What is asked of the hidden states."""
        raise NotImplementedError

    def specials(self) -> tuple[str, ...]:
        """start, delimiter and extract: three new ids behind the tokenizer's, with embeddings of their own."""
        return Specials._fields

    def texts(self, data: Data, splits: tuple[str, ...]) -> Iterator[str]:
        """The texts of the examples of these splits."""
        for example in self._read(data).of(splits):
            yield from ("".join(parts) for parts in example.texts)

    def build(self, model: Model, tokenizer: Any) -> Objective:
        """The objective; `model.vocab_size` must have room for the three specials."""
        require_language_model(self, model)
        needed = tokenizer.vocab_size + len(self.specials())
        if model.vocab_size != needed:
            raise ConfigError(
                f"the model's vocabulary is {model.vocab_size}; this task's, specials included, is {needed}"
            )
        if self.lm_weight and not model.causal:
            raise ConfigError(
                f"lm_weight={self.lm_weight} needs a model that predicts the next token, and this one reads both sides "
                "of a token; set objective.lm_weight to 0"
            )
        if self.pool == "first" and model.causal:
            raise ConfigError("pool='first' reads the first token, which has seen no other in this model; take last")
        return task_loss.objective(model, self.question(), self.lm_weight, self.classifier_dropout, self.pool)

    def predictor(self, model: Model) -> Callable[[Params, TaskBatch], jax.Array]:
        """`predict(params, batch) -> scores_BC`, for evaluation: of each class, of each choice, or the number."""
        return task_loss.predictor(model, self.question(), self.pool)

    def sources(self, data: Data, tokenizer: Any, context: int, seed: int, cache: Path) -> Sources:
        """One row an example, `TaskBatch`; rows are as long as the longest example, at most `context`."""
        limit = self.longest(context)
        found = self._read(data)
        names = [corpus.source for corpus in data.corpora] + [data.validation or "held out"]
        parts = [part for part in (*found.train, found.validation) if part]
        notes: list[str] = []
        ways = [self._tokenized(p, tokenizer, limit, f, notes) for p, f in zip(parts, names, strict=False)]
        everything = [example for part in ways for example in part]
        shape = max(map(len, everything)), task_text.padded_width(everything, context)
        rows = [
            task_text.row_source(w, np.array([e.target for e in p], self.question().dtype), *shape)
            for w, p in zip(ways, parts, strict=True)
        ]
        count = len(data.corpora)
        weights = tuple(corpus.weight for corpus in data.corpora)
        held_out = rows[count] if len(rows) > count else None
        return Sources(tuple(rows[:count]), weights, held_out, None, found.identity, tuple(notes))

    def longest(self, context: int) -> int:
        """Tokens that a text is cut to; raises `ConfigError` where the context has no room for one."""
        # Texts, and a special before, between and after them.
        room = (context - 1) // self.TEXTS - 1
        limit = context // 2 - 2 if self.segment_tokens is None else min(room, self.segment_tokens)
        self.require(limit > 0, f"context={context} leaves no room for a text beside a task's special tokens; raise it")
        return limit

    def widest(self, data: Data, tokenizer: Any, context: int) -> Widest:
        """An example whose every text is as long as texts are cut to."""
        limit = self.longest(context)
        ways = self.ways([np.zeros(limit, np.int32)] * self.texts_of_example(), task_text.specials(tokenizer))
        shape = len(ways), task_text.padded_width([ways], context)
        rows = task_text.row_source([ways], np.zeros(1, self.question().dtype), *shape)
        note = f"rows of {' x '.join(map(str, shape))} tokens: every text as long as texts are cut to, {limit}"
        return Widest(rows.take(np.arange(1), 0), (f"{note}; the data's may be shorter",))

    def texts_of_example(self) -> int:
        """Texts of an example, as far as they are known without it."""
        return self.TEXTS

    def _read(self, data: Data) -> examples.Split[Example]:
        return examples.read(data, lambda record, origin: [self.example(record, origin)], self.columns)

    def _tokenized(
        self, part: list[Example], tokenizer: Any, limit: int, name: str, notes: list[str]
    ) -> list[list[Ids]]:
        encoded = iter(tokenizer.encode_batch([p for example in part for words in example.texts for p in words]))
        marks, cut, dropped = task_text.specials(tokenizer), 0, 0
        ways = []
        for example in part:
            fitted = [task_text.fit([next(encoded) for _ in words], limit) for words in example.texts]
            ways.append(self.ways([ids for ids, _ in fitted], marks))
            lost = sum(lost for _, lost in fitted)
            cut, dropped = cut + (lost > 0), dropped + lost
        if cut:
            notes.append(f"{name}: {cut:,} of {len(part):,} examples cut to {limit} tokens a text, {dropped:,} dropped")
        return ways
