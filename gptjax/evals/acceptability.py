"""Acceptable sentences by their likelihood alone: GPT-1's zero-shot rule for CoLA (Radford et al. 2018, section 5)."""

from dataclasses import dataclass

import numpy as np

from gptjax.data.records import Record
from gptjax.evals import bootstrap, classify, spelling, statistics, task, wording
from gptjax.evals.sweep import Between
from gptjax.evals.task import Judge, Judged, Subject, Task
from gptjax.objectives.tasks import class_of
from gptjax.types import Params


@dataclass(frozen=True, kw_only=True)
class Acceptable(Task):
    """A sentence is acceptable where the mean log-probability of its tokens is above a threshold.

    The threshold is the one with the highest Matthews correlation on the training file, which is used for nothing else.
    """

    sentence: str = "{sentence}"
    """Template of the sentence."""
    label: str = "label"
    """Column of the label."""
    labels: tuple[str, ...] = ("0", "1")
    """The labels of unacceptable and acceptable sentences."""
    training: str = ""
    """The file that the threshold is chosen on; empty for the one named train beside the records."""

    def check(self) -> None:
        super().check()
        wording.check("sentence", self.sentence)
        self.require(len(set(self.labels)) == len(self.labels) == 2, f"labels={self.labels} must be two different ones")

    def build(self, subject: Subject) -> Judge:
        """Reads and tokenizes the sentences of both files."""
        judged, train = self.judged(), self.to_learn_from(self.training)
        texts = [("", wording.worded(self.sentence, record)) for record in (*judged, *train)]
        spelled = spelling.spelled(subject.tokenizer, texts)
        labels = np.array([self._label(record) for record in (*judged, *train)])
        labels_E, labels_L = labels[: len(judged)], labels[len(judged) :]

        def judge(params: Params, between: Between) -> Judged:
            found = task.scored(subject, params, spelled, between)
            scores = -found.nats_R / found.tokens_R
            scores_E, scores_L = scores[: len(judged)], scores[len(judged) :]
            threshold = best_threshold(scores_L, labels_L)
            found_E = (scores_E > threshold).astype(int)
            chance = statistics.mean(labels_E == (np.mean(labels_E) >= 0.5))
            measures = bootstrap.measured(classify.of_classes(found_E, labels_E, 2) | {"chance": chance}, len(judged))
            columns = zip(judged, labels_E.tolist(), scores_E.tolist(), strict=True)
            results = [{"origin": record[0], "answer": label, "score": score} for record, label, score in columns]
            note = f"{self.name}: threshold {threshold:.4f} nats, chosen on {len(train):,} sentences of training"
            return Judged(measures, results, (note, *found.notes))

        return judge

    def _label(self, record: Record) -> int:
        return class_of(record[1], record[0], self.label, self.labels)

    def definitions(self) -> dict[str, str]:
        """What is measured, in words."""
        how = "by a threshold on the mean log-probability of a sentence's tokens"
        found = {name: f"{words}; {how}" if name == "accuracy" else words for name, words in classify.WORDS.items()}
        return found | {"chance": "accuracy of always answering the commoner class"}


def best_threshold(scores_E: np.ndarray, labels_E: np.ndarray) -> float:
    """The threshold above which scores are taken for label 1 with the highest Matthews correlation.

    It lies half-way between two scores that follow one another; of equally good ones it is the lowest. Where all
    scores are one, it is that score, and nothing is above it.
    """
    order_E = np.argsort(scores_E, kind="stable")
    scores_E, labels_E = scores_E[order_E], labels_E[order_E]
    ends = np.flatnonzero(np.diff(scores_E) > 0)  # scores behind which a threshold fits
    if not len(ends):
        return float(scores_E[0])
    negatives_below = np.cumsum(1 - labels_E)[ends].astype(np.float64)
    below, positives, n = ends + 1.0, float(labels_E.sum()), len(labels_E)
    hits = positives - (below - negatives_below)
    covariance = hits * n - (n - below) * positives
    spread = np.sqrt((n - below) * below * positives * (n - positives))
    best = ends[np.argmax(np.divide(covariance, spread, out=np.zeros(len(ends)), where=spread > 0))]
    return float((scores_E[best] + scores_E[best + 1]) / 2)
