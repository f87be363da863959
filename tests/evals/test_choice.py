"""Multiple choice: the right continuation must be likelier than every other one, however likelihood is scaled."""

import math

import numpy as np
import pytest

from gptjax.data.errors import DataError
from gptjax.evals.choice import Question, continuation_nats, cut_prompts, summary

V = 7


def ids(*tokens):
    return np.array(tokens, np.int32)


def question(prompt, *continuations, answer=0):
    return Question(ids(*prompt), tuple(ids(*c) for c in continuations), tuple(len(c) for c in continuations), answer)


QUESTIONS = [
    question((1, 2), (3,), (4, 5), (6, 0, 1), answer=1),
    question((), (3,), (4, 5), answer=1),
    question((1,), (0, 1, 2, 3, 4, 5, 6, 0), (2,)),
    question((1, 2, 3, 4, 5, 6, 1), (2, 2), (3,)),
]


def test_continuations_are_scored_as_by_hand(bag, params, by_hand):
    found = continuation_nats(bag, params, QUESTIONS, rows=3)
    for q, nats in zip(QUESTIONS, found, strict=True):
        for continuation, total in zip(q.continuations, nats, strict=True):
            text = np.concatenate([q.prompt, continuation])
            by_token = [by_hand(params, text[:i], text[i]) if i else math.log(V) for i in range(len(text))]
            assert total == pytest.approx(sum(by_token[len(q.prompt) :]), rel=1e-5)


def test_the_number_of_rows_judged_at_once_does_not_matter(bag, params):
    one, many = (continuation_nats(bag, params, QUESTIONS, rows) for rows in (1, 32))
    np.testing.assert_allclose(np.concatenate(one), np.concatenate(many), rtol=1e-6)


def test_a_long_prompt_loses_its_oldest_tokens_and_is_counted(bag, params, by_hand):
    long = question((1, 2, 3, 4, 5, 6, 0, 1, 2), (3, 4), (5,))
    (found,) = continuation_nats(bag, params, [long], rows=2)
    text = np.concatenate([long.prompt, long.continuations[0]])
    read = text[-9:]
    expected = by_hand(params, read[:7], read[7]) + by_hand(params, read[:8], read[8])
    assert found[0] == pytest.approx(expected, rel=1e-5)
    assert cut_prompts([*QUESTIONS, long], bag.context) == 1


@pytest.mark.parametrize("constant", [0.0, 1.3])
def test_a_model_of_constants_is_never_right(bag, constant):
    """Where every choice is equally likely by the scale, there is no accuracy, wherever the answer stands."""
    alike = [question((1, 2), (3, 4), (5, 6), (0, 0), answer=a) for a in range(3)]
    nats = continuation_nats(bag, {"matrix": np.full((V, V), constant, np.float32)}, alike, rows=4)
    found = summary(alike, nats, bag.context)
    assert [found[f"accuracy_{by}"] for by in ("sum", "mean", "byte")] == [0.0, 0.0, 0.0]
    assert [found[f"ties_{by}"] for by in ("sum", "mean", "byte")] == [3, 3, 3]
    unlike = [question((1, 2), (3,), tuple(range(7)), answer=a) for a in range(2)]
    nats = continuation_nats(bag, {"matrix": np.full((V, V), constant, np.float32)}, unlike, rows=4)
    found = summary(unlike, nats, bag.context)
    assert (found["accuracy_mean"], found["accuracy_sum"]) == (0.0, 0.5)


def test_each_scale_can_choose_differently():
    q = Question(ids(1), (ids(1, 2), ids(3, 4, 5), ids(6)), (20, 3, 5), 0)
    nats = [np.array([4.0, 5.0, 2.5])]  # a sum favours the last, a mean the second, bytes the first
    for answer, by in ((2, "sum"), (1, "mean"), (0, "byte")):
        assert summary([q._replace(answer=answer)], nats, 8)[f"accuracy_{by}"] == 1.0
    assert summary([q], nats, 8) == {
        "questions": 1,
        "chance": pytest.approx(1 / 3),
        "accuracy_sum": 0.0,
        "ties_sum": 0,
        "accuracy_mean": 0.0,
        "ties_mean": 0,
        "accuracy_byte": 1.0,
        "ties_byte": 0,
        "cut_prompts": 0,
    }


def test_a_model_of_nan_is_refused_and_not_scored(bag):
    with pytest.raises(FloatingPointError, match="question 0: score of choice 0 is nan"):
        continuation_nats(bag, {"matrix": np.full((V, V), np.nan, np.float32)}, QUESTIONS, rows=4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (question((1,), (2,)), "question 0 needs two continuations or more"),
        (question((1,), (2,), (3,), answer=2), "question 0: answer 2 is not one of 2"),
        (question((1,), (2,), ()), "continuation 1 has 0 tokens; 1 to 8 fit"),
        (question((1,), (2,), (1,) * 9), "continuation 1 has 9 tokens; 1 to 8 fit"),
        (question((7,), (2,), (3,)), "id 7 is not below the model's vocabulary of 7"),
    ],
)
def test_a_question_that_cannot_be_scored_is_refused(bag, params, wrong, message):
    with pytest.raises(DataError, match=message):
        continuation_nats(bag, params, [wrong], rows=4)


def test_no_questions_are_no_accuracy(bag):
    with pytest.raises(DataError, match="no questions"):
        summary([], [], bag.context)
