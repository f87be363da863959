"""GPT-1's four kinds of tasks as configurations: which columns of a file are the texts, and which the answer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gptjax.config import Data, Widest
from gptjax.data.errors import DataError
from gptjax.objectives import task_loss, task_text
from gptjax.objectives.examples import Record, at, shown, text_at
from gptjax.objectives.task import Example, Task
from gptjax.objectives.task_loss import Question
from gptjax.objectives.task_text import Ids, Specials


def class_of(record: Record, origin: str, column: str, labels: tuple[str, ...]) -> int:
    """Which of the labels a record has, from 0; raises `DataError` where it has none of them."""
    value = str(at(record, origin, column))
    if value not in labels:
        known = ", ".join(labels)
        raise DataError(f'{origin}: field "{column}" is {shown(value)}, which is none of the labels {known}')
    return labels.index(value)


def _require_labels(config: Task, labels: tuple[str, ...]) -> None:
    config.require(len(set(labels)) == len(labels) >= 2, f"labels={labels} must be two different ones at least")


@dataclass(frozen=True)
class Classification(Task):
    """One text, one of several labels: start text extract (SST-2, CoLA)."""

    TEXTS = 1

    text: str = "sentence"
    """Column of the text; a dot reaches into a nested field."""
    label: str = "label"
    """Column of the label."""
    labels: tuple[str, ...] = ("0", "1")
    """The labels as the file writes them, in the order of the classes."""

    def check(self) -> None:
        super().check()
        _require_labels(self, self.labels)

    def example(self, record: Record, origin: str) -> Example:
        """The text and its class."""
        return Example(((text_at(record, origin, self.text),),), class_of(record, origin, self.label, self.labels))

    def ways(self, texts: Sequence[Ids], marks: Specials) -> list[Ids]:
        """start text extract."""
        return task_text.classification(texts, marks)

    def question(self) -> Question:
        """Which class."""
        return task_loss.classes(len(self.labels))


@dataclass(frozen=True)
class Entailment(Task):
    """Does the premise entail the hypothesis: start premise delimiter hypothesis extract (RTE, MNLI)."""

    premise: str = "sentence1"
    """Column of the premise."""
    hypothesis: str = "sentence2"
    """Column of the hypothesis."""
    label: str = "label"
    """Column of the label."""
    labels: tuple[str, ...] = ("entailment", "not_entailment")
    """The labels as the file writes them, in the order of the classes."""

    def check(self) -> None:
        super().check()
        _require_labels(self, self.labels)

    def example(self, record: Record, origin: str) -> Example:
        """The two texts and their class."""
        texts = (text_at(record, origin, self.premise),), (text_at(record, origin, self.hypothesis),)
        return Example(texts, class_of(record, origin, self.label, self.labels))

    def ways(self, texts: Sequence[Ids], marks: Specials) -> list[Ids]:
        """start premise delimiter hypothesis extract."""
        return task_text.entailment(texts, marks)

    def question(self) -> Question:
        """Which class."""
        return task_loss.classes(len(self.labels))


@dataclass(frozen=True)
class Similarity(Task):
    """Two texts without an order: both orders are read and their hidden states added (STS-B, MRPC, QQP)."""

    first: str = "sentence1"
    """Column of one text."""
    second: str = "sentence2"
    """Column of the other."""
    label: str = "score"
    """Column of the score, or of the label."""
    labels: tuple[str, ...] = ()
    """The labels as the file writes them; none where a number is asked for (squared error)."""
    lowest: float = 0.0
    """Lowest score there is."""
    highest: float = 5.0
    """Highest score there is."""

    def check(self) -> None:
        super().check()
        if self.labels:
            _require_labels(self, self.labels)
        self.require(self.lowest < self.highest, f"lowest={self.lowest} is not below highest={self.highest}")

    def example(self, record: Record, origin: str) -> Example:
        """The two texts, and their class or score."""
        texts = (text_at(record, origin, self.first),), (text_at(record, origin, self.second),)
        if self.labels:
            return Example(texts, class_of(record, origin, self.label, self.labels))
        return Example(texts, self._score(record, origin))

    def _score(self, record: Record, origin: str) -> float:
        value = at(record, origin, self.label)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not self.lowest <= number <= self.highest:
            wanted = f"a number from {self.lowest} to {self.highest}"
            raise DataError(f'{origin}: field "{self.label}" is {shown(value)}, not {wanted}')
        return number

    def ways(self, texts: Sequence[Ids], marks: Specials) -> list[Ids]:
        """Both orders."""
        return task_text.similarity(texts, marks)

    def question(self) -> Question:
        """Which class, or which score."""
        return task_loss.classes(len(self.labels)) if self.labels else task_loss.score(self.lowest, self.highest)


@dataclass(frozen=True)
class MultipleChoice(Task):
    """Which of several choices follows a context: start context delimiter choice extract for each (RACE, ARC)."""

    context: tuple[str, ...] = ("question.stem",)
    """Columns of the context, joined by a space: an article and its question. Too long, the first loses its end."""
    choices: tuple[str, ...] = ("question.choices",)
    """One column that holds the list of choices (texts, or objects with text and label), or a column for each."""
    answer: str = "answerKey"
    """Column of the label of the right choice."""
    answers: tuple[str, ...] = ("A", "B", "C", "D", "E", "F", "G", "H")
    """Labels of the choices, in their order, where the file gives them none (numbered from 0: 0 1 2 3)."""

    def check(self) -> None:
        super().check()
        self.require(len(self.context) > 0, "context is empty; name a column")
        self.require(len(self.choices) > 0, "choices is empty; name a column")

    def example(self, record: Record, origin: str) -> Example:
        """The context and the choices; the target is the place of the right one."""
        context = [text_at(record, origin, column) for column in self.context]
        labels, texts = labelled_choices(record, origin, self.choices, self.answers)
        answer = str(at(record, origin, self.answer))
        if answer not in labels:
            found = f"which is none of the choices {', '.join(labels)}"
            raise DataError(f'{origin}: field "{self.answer}" is {shown(answer)}, {found}')
        parts = (context[0], *(" " + part for part in context[1:]))
        return Example((parts, *((choice,) for choice in texts)), labels.index(answer))

    def texts_of_example(self) -> int:
        """The context and its choices: one a column, or as many as `answers` has labels."""
        return 1 + (len(self.choices) if len(self.choices) > 1 else len(self.answers))

    def widest(self, data: Data, tokenizer: Any, context: int) -> Widest:
        """As of any task; where a column lists the choices, the data alone know how many there are."""
        found = super().widest(data, tokenizer, context)
        if len(self.choices) > 1:
            return found
        note = f"{len(self.answers)} choices, one for each label of objective.answers; the data may have fewer or more"
        return Widest(found.rows, (*found.notes, note))

    def ways(self, texts: Sequence[Ids], marks: Specials) -> list[Ids]:
        """start context delimiter choice extract, for each choice."""
        return task_text.multiple_choice(texts, marks)

    def question(self) -> Question:
        """Which choice."""
        return task_loss.choices()


def labelled_choices(
    record: Record, origin: str, columns: tuple[str, ...], answers: tuple[str, ...]
) -> tuple[list[str], list[str]]:
    """Labels and texts of a record's choices, from one column that lists them or a column for each.

    `answers` are the labels where the file gives none. Raises `DataError` for fewer than two choices.
    """
    value: Any = [at(record, origin, column) for column in columns]
    if len(columns) == 1:
        (value,) = value
    if isinstance(value, dict):  # columns of lists, as the Hugging Face hub stores lists of objects
        labels, texts = at(value, origin, "label"), at(value, origin, "text")
    elif isinstance(value, list) and all(isinstance(choice, dict) for choice in value):
        labels, texts = ([at(choice, origin, name) for choice in value] for name in ("label", "text"))
    else:
        texts = value
        labels = list(answers[: len(value)]) if isinstance(value, list) else []
    if not (isinstance(texts, list) and len(texts) == len(labels) >= 2 and all(isinstance(t, str) for t in texts)):
        raise DataError(f'{origin}: field "{columns[0]}" is {shown(value)}, not two labelled choices at least')
    return [str(label) for label in labels], texts
