"""Multiple choice without a head: which continuation of a prompt does the model find likeliest?"""

import functools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import jax
import numpy as np

from gptjax.data.errors import DataError
from gptjax.evals.likelihood import refuse_non_finite, row_nats
from gptjax.evals.sweep import Between, Fetch, Place, nothing, sweep
from gptjax.evals.windows import WindowRows
from gptjax.types import Model, Params

By = Literal["sum", "mean", "byte"]
SHORTEST = 16
"""Columns of the narrowest rows; wider ones double, so that few shapes are compiled."""
TIE = 1e-6
"""Scores closer than this, relatively, are equal as far as float32 can tell."""


class Question(NamedTuple):
    """A prompt and its possible continuations, as token ids."""

    prompt: np.ndarray
    """[P] ids; may be empty (minimal pairs), and then a first token is charged ln V like any without context."""
    continuations: tuple[np.ndarray, ...]
    """Each of at least one id and at most as many as the model's context."""
    bytes: tuple[int, ...]
    """UTF-8 bytes of each continuation's text."""
    answer: int
    """Index of the right continuation."""


class _Sequence(NamedTuple):
    """One continuation behind its prompt: `tokens` [n + 1] are n inputs, and the last `scored` predictions count."""

    question: int
    choice: int
    tokens: np.ndarray
    scored: int


def continuation_nats(
    model: Model,
    params: Params,
    questions: Sequence[Question],
    rows: int,
    place: Place = jax.device_put,
    fetch: Fetch = np.asarray,
    between: Between = nothing,
) -> list[np.ndarray]:
    """-log p(continuation | prompt) of every choice of every question: float64 [choices] a question, in nats.

    Sequences of like length are judged together, `rows` at once. A prompt loses its oldest tokens where it does not fit
    before a continuation (`cut_prompts` counts them). Raises `FloatingPointError` for a score that is not finite.
    """
    sequences, first_nats = _sequences(questions, model), math.log(model.vocab_size)
    # A lone first token has nothing before it and needs no model.
    nats = [np.where([len(q.prompt) == 0] * len(q.continuations), first_nats, 0.0) for q in questions]
    score = functools.partial(row_nats, model)
    todo = _batches(sequences, rows, model.context)
    for chosen, nats_BT in sweep(score, params, todo, place, fetch, between):
        for nats_T, s in zip(nats_BT, chosen, strict=False):
            end = len(s.tokens) - 1
            nats[s.question][s.choice] += np.sum(nats_T[end - s.scored : end], dtype=np.float64)
    for number, values in enumerate(nats):
        refuse_non_finite(f"question {number}: score of choice", values)
    return nats


def summary(questions: Sequence[Question], nats: Sequence[np.ndarray], context: int) -> dict[str, float]:
    """accuracy_sum, accuracy_mean and accuracy_byte, how often each was a tie (ties_sum ...), and what they count.

    Right is an answer strictly likelier than each other one, by the sum of the log-probabilities, their mean over
    tokens, or their sum per byte of text (the last two do not favour short continuations). A tie is a failure, or a
    model of constants would pass wherever the answer is first.
    The rest: questions, chance (the accuracy of guessing) and `cut_prompts` at the model's `context`.
    """
    if not questions:
        raise DataError("there are no questions to judge")
    result: dict[str, float] = {"questions": len(questions)}
    result["chance"] = float(np.mean([1 / len(q.continuations) for q in questions]))
    for by in ("sum", "mean", "byte"):
        margins = np.array([_margin(q, _scaled(q, n, by)) for q, n in zip(questions, nats, strict=True)])
        result[f"accuracy_{by}"] = float(np.mean(margins > TIE))
        result[f"ties_{by}"] = int(np.sum(np.abs(margins) <= TIE))
    return result | {"cut_prompts": cut_prompts(questions, context)}


def cut_prompts(questions: Sequence[Question], context: int) -> int:
    """Questions whose prompt does not fit before the longest of its continuations, and loses its oldest tokens."""
    return sum(len(q.prompt) + max(map(len, q.continuations)) > context + 1 for q in questions)


def _scaled(question: Question, nats_C: np.ndarray, by: By) -> np.ndarray:
    lengths = {"sum": 1.0, "mean": [len(c) for c in question.continuations], "byte": question.bytes}
    return nats_C / np.array(lengths[by], np.float64)


def _margin(question: Question, nats_C: np.ndarray) -> float:
    """How much likelier the answer is than the likeliest other, as a share of the latter's nats."""
    best = np.min(np.delete(nats_C, question.answer))
    return float((best - nats_C[question.answer]) / max(abs(best), 1e-30))


def _sequences(questions: Sequence[Question], model: Model) -> list[_Sequence]:
    found = []
    for number, question in enumerate(questions):
        _check(number, question, model)
        for choice, continuation in enumerate(question.continuations):
            tokens = np.concatenate([question.prompt, continuation]).astype(np.int32)[-(model.context + 1) :]
            scored = min(len(continuation), len(tokens) - 1)
            if scored:
                found.append(_Sequence(number, choice, tokens, scored))
    return found


def _check(number: int, question: Question, model: Model) -> None:
    if len(question.continuations) < 2 or len(question.bytes) != len(question.continuations):
        raise DataError(f"question {number} needs two continuations or more, and the bytes of each")
    if not 0 <= question.answer < len(question.continuations):
        raise DataError(f"question {number}: answer {question.answer} is not one of {len(question.continuations)}")
    for choice, continuation in enumerate(question.continuations):
        if not 1 <= len(continuation) <= model.context:
            raise DataError(
                f"question {number}: continuation {choice} has {len(continuation)} tokens; 1 to {model.context} fit"
            )
        worst = max(np.max(continuation), np.max(question.prompt, initial=0))
        if worst >= model.vocab_size:
            raise DataError(f"question {number}: id {worst} is not below the model's vocabulary of {model.vocab_size}")


def _batches(
    sequences: Sequence[_Sequence], rows: int, context: int
) -> Iterator[tuple[Sequence[_Sequence], WindowRows]]:
    """Batches of like width, padded on the right (causal models never look there)."""
    by_width: dict[int, list[_Sequence]] = defaultdict(list)
    for s in sequences:
        width = max(SHORTEST, 1 << (len(s.tokens) - 2).bit_length())
        by_width[min(context, width)].append(s)
    for width, alike in sorted(by_width.items()):
        for first in range(0, len(alike), rows):
            chosen = alike[first : first + rows]
            both = np.zeros((2, rows, width), np.int32)
            for row, s in enumerate(chosen):
                both[0, row, : len(s.tokens) - 1], both[1, row, : len(s.tokens) - 1] = s.tokens[:-1], s.tokens[1:]
            yield chosen, (both[0], both[1], None, None)
