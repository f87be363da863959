"""Tasks in which texts are compared: minimal pairs, multiple choice, two referents, prompts with words for labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gptjax.data.errors import DataError
from gptjax.data.records import Record
from gptjax.evals import classify, statistics, wording
from gptjax.evals.choosing import Answered, Asked, Choosing
from gptjax.evals.statistics import Statistic
from gptjax.objectives.tasks import class_of, labelled_choices

TIES = "share of the questions whose two likeliest answers are equal as far as float32 can tell; none of them is right"


def _right(answered: Sequence[Answered], chosen: Callable[[Answered], int]) -> dict[str, Statistic]:
    """accuracy and ties of one way to choose."""
    chosen_E = np.array([chosen(one) for one in answered])
    answers_E = np.array([one.asked.answer for one in answered])
    return {"accuracy": statistics.mean(chosen_E == answers_E), "ties": statistics.mean(chosen_E == -1)}


@dataclass(frozen=True, kw_only=True)
class MinimalPairs(Choosing):
    """Two sentences that differ in one thing, and only one is right (BLiMP: Warstadt et al., arXiv 1912.00582)."""

    good: str = "{sentence_good}"
    """Template of the right sentence."""
    bad: str = "{sentence_bad}"
    """Template of the wrong one."""

    def check(self) -> None:
        super().check()
        wording.check("good", self.good)
        wording.check("bad", self.bad)

    def asked(self, record: Record) -> Asked:
        """Both sentences, with nothing before them."""
        good, bad = (wording.worded(template, record) for template in (self.good, self.bad))
        if good == bad:
            raise DataError(f"{record[0]}: both sentences are {good[:40]!r}; a pair has two")
        return Asked(record[0], (("", good), ("", bad)), 0)

    def statistics(self, answered: Sequence[Answered]) -> dict[str, Statistic]:
        """accuracy, ties."""
        return _right(answered, Answered.chosen)

    def definitions(self) -> dict[str, str]:
        """What is measured, in words."""
        right = "share of the pairs whose right sentence has the higher probability, the sum over its tokens"
        return {"accuracy": right, "ties": TIES}


@dataclass(frozen=True, kw_only=True)
class MultipleChoice(Choosing):
    """One of several answers, by their likelihood behind the question (ARC: Clark et al., arXiv 1803.05457)."""

    question: str = "Question: {question[stem]}\nAnswer:"
    """Template of what stands before an answer."""
    choices: tuple[str, ...] = ("question.choices",)
    """One column that holds the list of choices (texts, or objects with text and label), or a column for each."""
    answer: str = "answerKey"
    """Column of the label of the right choice."""
    answers: tuple[str, ...] = ("A", "B", "C", "D", "E", "F", "G", "H")
    """Labels of the choices, in their order, where the file gives them none."""

    def check(self) -> None:
        super().check()
        wording.check("question", self.question)
        self.require(len(self.choices) > 0, "choices is empty; name a column")

    def asked(self, record: Record) -> Asked:
        """The question, and a space and a choice behind it."""
        origin, fields = record
        labels, texts = labelled_choices(fields, origin, self.choices, self.answers)
        question = wording.worded(self.question, record)
        answer = class_of(fields, origin, self.answer, tuple(labels))
        if not all(text.strip() for text in texts):
            raise DataError(f"{origin}: a choice is blank, and no text is likelier than another behind nothing")
        return Asked(origin, tuple((question, f" {text.strip()}") for text in texts), answer)

    def chosen(self, answered: Answered) -> int:
        """By the mean over tokens, as GPT-1 chose."""
        return answered.chosen(answered.tokens_C)

    def statistics(self, answered: Sequence[Answered]) -> dict[str, Statistic]:
        """accuracy_sum, accuracy_mean, accuracy_byte, ties, chance."""
        ways: dict[str, Callable[[Answered], int]] = {
            "sum": Answered.chosen,
            "mean": self.chosen,
            "byte": lambda one: one.chosen(_bytes(one.asked)),
        }
        found = {f"accuracy_{by}": _right(answered, way)["accuracy"] for by, way in ways.items()}
        chance = statistics.mean(np.array([1 / len(one.asked.texts) for one in answered]))
        return found | {"ties": _right(answered, Answered.chosen)["ties"], "chance": chance}

    def definitions(self) -> dict[str, str]:
        """What is measured, in words."""
        most = "share of the questions whose right answer has the highest log-probability"
        return {
            "accuracy_sum": f"{most}, the sum over its tokens",
            "accuracy_mean": f"{most}, the mean over its tokens (GPT-1's rule)",
            "accuracy_byte": f"{most} for each byte of its text in UTF-8, the space before it left out",
            "ties": TIES + " (by the sum)",
            "chance": "the accuracy of guessing",
        }


def _bytes(asked: Asked) -> np.ndarray:
    return np.array([len(text.strip().encode()) for _, text in asked.texts])


@dataclass(frozen=True, kw_only=True)
class Referents(Choosing):
    """Whom a pronoun means: each referent takes its place, and the rest of the sentence is judged behind it.

    GPT-1's rule for the Winograd schemas (Radford et al. 2018, section 5; Trinh and Le, arXiv 1806.02847).
    """

    sentence: str = "{sentence}"
    """Template of the sentence."""
    blank: str = "_"
    """What stands for the pronoun in it, once."""
    referents: tuple[str, ...] = ("{option1}", "{option2}")
    """Template of each referent."""
    answer: str = "answer"
    """Column of the right one's label."""
    labels: tuple[str, ...] = ("1", "2")
    """Labels of the referents, in their order."""

    def check(self) -> None:
        super().check()
        wording.check("sentence", self.sentence)
        wording.check("referents", *self.referents)
        same = len(self.labels) == len(self.referents) >= 2
        self.require(same, f"labels={self.labels} and referents={self.referents} must be as many, two at least")

    def asked(self, record: Record) -> Asked:
        """The sentence up to each referent, and what follows it."""
        sentence = wording.worded(self.sentence, record)
        if sentence.count(self.blank) != 1 or sentence.endswith(self.blank):
            raise DataError(f"{record[0]}: {sentence[:60]!r} must have {self.blank!r} once, and text behind it")
        before, rest = sentence.split(self.blank)
        texts = tuple((before + wording.worded(referent, record), rest) for referent in self.referents)
        return Asked(record[0], texts, class_of(record[1], record[0], self.answer, self.labels))

    def chosen(self, answered: Answered) -> int:
        """By the mean over tokens."""
        return answered.chosen(answered.tokens_C)

    def statistics(self, answered: Sequence[Answered]) -> dict[str, Statistic]:
        """accuracy, ties."""
        return _right(answered, self.chosen)

    def definitions(self) -> dict[str, str]:
        """What is measured, in words."""
        mean = "mean log-probability of the tokens behind it"
        return {"accuracy": f"share of the sentences whose right referent gives the highest {mean}", "ties": TIES}


@dataclass(frozen=True, kw_only=True)
class Verbalized(Choosing):
    """Classification by a prompt: each class has a word, and the likeliest word behind the prompt is the answer."""

    prompt: str
    """Template of what stands before the word."""
    words: tuple[str, ...]
    """What stands for each class, usually a space and a word."""
    label: str = "label"
    """Column of the label."""
    labels: tuple[str, ...] = ("0", "1")
    """The labels as the file writes them, in the order of the words."""

    def check(self) -> None:
        super().check()
        wording.check("prompt", self.prompt)
        same = len(set(self.words)) == len(set(self.labels)) == len(self.words) == len(self.labels) >= 2
        self.require(same, f"words={self.words} and labels={self.labels} must be as many, different, two at least")

    def asked(self, record: Record) -> Asked:
        """The prompt, and each word behind it."""
        prompt = wording.worded(self.prompt, record)
        answer = class_of(record[1], record[0], self.label, self.labels)
        return Asked(record[0], tuple((prompt, word) for word in self.words), answer)

    def statistics(self, answered: Sequence[Answered]) -> dict[str, Statistic]:
        """accuracy, matthews, f1 of two classes, ties."""
        found_E = np.array([one.chosen() for one in answered])
        labels_E = np.array([one.asked.answer for one in answered])
        measures = classify.of_classes(found_E, labels_E, len(self.words))
        return measures | {"ties": statistics.mean(found_E == -1)}

    def definitions(self) -> dict[str, str]:
        """What is measured, in words."""
        told = ", ".join(f"{word!r} for {label}" for word, label in zip(self.words, self.labels, strict=True))
        found = {
            "accuracy": f"share of the records whose class has the likeliest word ({told})",
            "matthews": classify.WORDS["matthews"],
        }
        return found | ({"f1": classify.WORDS["f1"]} if len(self.words) == 2 else {}) | {"ties": TIES}
