"""Comparisons of texts against explicit arithmetic; what is not strictly likelier is not right."""

import json
import math

import numpy as np
import pytest
from evals.judges import SUBJECT, judged, liking, nats, values

from gptjax.config import ConfigError
from gptjax.data.errors import DataError
from gptjax.data.tokenizers import Bytes
from gptjax.evals.choices import MinimalPairs, MultipleChoice, Referents, Verbalized
from gptjax.evals.choosing import Answered
from gptjax.evals.shots import Shots
from gptjax.evals.sweep import nothing

CONSTANT = {"logits": np.full(SUBJECT.model.vocab_size, 1.3, np.float32)}


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def pairs(tmp_path, *rows, **more):
    data = written(tmp_path / "pairs.jsonl", [{"sentence_good": good, "sentence_bad": bad} for good, bad in rows])
    return MinimalPairs(name="pairs", data=data, **more)


def arc(tmp_path, *rows, **more):
    """Questions of (choices, index of the answer)."""
    records = [
        {
            "question": {"stem": "Which?", "choices": [{"text": t, "label": "ABCD"[i]} for i, t in enumerate(texts)]},
            "answerKey": "ABCD"[answer],
        }
        for texts, answer in rows
    ]
    return MultipleChoice(name="arc", data=written(tmp_path / "arc.jsonl", records), **more)


def test_the_likelier_sentence_is_the_right_one(tmp_path):
    task = pairs(tmp_path, ("aaa", "bbb"), ("bbb", "aaa"), ("ab", "aab"))
    found = judged(task, liking("ab"))
    assert found.measures["accuracy"].value == pytest.approx(2 / 3)
    assert [result["chosen"] for result in found.results] == [0, 1, 0]
    expected = [[nats(liking("ab"), text) for text in pair] for pair in (("aaa", "bbb"), ("bbb", "aaa"), ("ab", "aab"))]
    np.testing.assert_allclose([result["nats"] for result in found.results], expected, rtol=1e-5)


def test_a_model_of_constants_is_never_right(tmp_path):
    alike = [("abc", "cba"), ("once", "twos")]
    assert values(pairs(tmp_path, *alike), CONSTANT) == {"accuracy": 0.0, "ties": 1.0}
    found = values(arc(tmp_path, *(((("ab", "cd", "ef", "gh")), answer) for answer in range(4))), CONSTANT)
    assert found == {"accuracy_sum": 0, "accuracy_mean": 0, "accuracy_byte": 0, "ties": 1.0, "chance": 0.25}
    # By the mean, texts of different lengths are as likely too: guessing the shortest is no knowledge.
    found = values(arc(tmp_path, (("ab", "cdefg"), 0)), CONSTANT)
    assert (found["accuracy_sum"], found["accuracy_mean"]) == (1.0, 0.0)


def test_a_model_of_nan_is_refused(tmp_path):
    with pytest.raises(FloatingPointError, match="score of request 0 is nan"):
        judged(pairs(tmp_path, ("ab", "cd")), {"logits": np.full(SUBJECT.model.vocab_size, np.nan, np.float32)})


def test_sum_mean_and_bytes_choose_as_arithmetic_does(tmp_path):
    """A choice is a space and its text; é is two bytes, and here two tokens."""
    rows = [(("b", "aaaa", "éé"), 0), (("b", "aaaa", "éé"), 1), (("b", "aaaa", "éé"), 2), (("cc", "b", "aaaaaaaa"), 1)]
    params = liking("ab é")
    expected = {"sum": [], "mean": [], "byte": []}
    for texts, answer in rows:
        totals = np.array([nats(params, " " + text) for text in texts])
        lengths = np.array([len(text.encode()) for text in texts])
        for by, scale in (("sum", 1), ("mean", lengths + 1), ("byte", lengths)):
            expected[by].append(np.argmin(totals / scale) == answer)
    found = values(arc(tmp_path, *rows), params)
    assert {by: found[f"accuracy_{by}"] for by in expected} == {by: np.mean(e) for by, e in expected.items()}
    assert len({found[f"accuracy_{by}"] for by in expected}) > 1


def test_bytes_choose_what_neither_sum_nor_mean_does(tmp_path):
    """As many nats for a byte, the space before a short text weighs more: 1 byte and 1 space against 4 and 1."""
    params = {"logits": np.zeros(SUBJECT.model.vocab_size, np.float32)}
    params["logits"][[ord("a"), ord("b"), ord(" ")]] = 5.0, 4.0, 0.0
    texts, totals = ("a", "bbbb"), [nats(params, " a"), nats(params, " bbbb")]
    by = {
        "sum": np.argmin(totals),
        "mean": np.argmin(np.divide(totals, (2, 5))),
        "byte": np.argmin(np.divide(totals, (1, 4))),
    }
    assert set(by.values()) == {0, 1}
    for name, choice in by.items():
        assert values(arc(tmp_path, (texts, int(choice))), params)[f"accuracy_{name}"] == 1.0


def test_a_letter_of_two_bytes_counts_as_two(tmp_path):
    """Both choices cost the same nats: "éé" has two letters and four bytes, "abc" has three of both."""
    task = arc(tmp_path, (("éé", "abc"), 0))
    one = Answered(task.asked(task.judged()[0]), np.array([12.0, 12.0]), np.array([5, 4]))
    measures = task.statistics([one])
    assert measures["accuracy_byte"](np.ones((1, 1))) == 1.0


def test_a_referent_is_judged_by_what_follows_it(tmp_path):
    """The rest is the same: a model that reads nothing finds both equal, whatever the referents are."""
    rows = [{"sentence": "It said _ was aa.", "option1": "aaa", "option2": "q", "answer": "1"}]
    task = Referents(name="w", data=written(tmp_path / "w.jsonl", rows))
    assert values(task, liking("a")) == {"accuracy": 0.0, "ties": 1.0}
    asked = task.asked(task.judged()[0])
    assert asked.texts == (("It said aaa", " was aa."), ("It said q", " was aa."))
    with pytest.raises(DataError, match=r"w.jsonl:1: 'no blank' must have '_' once"):
        task.asked(("w.jsonl:1", rows[0] | {"sentence": "no blank"}))


def sst2(tmp_path, rows, **more):
    folder = tmp_path / "SST-2"
    folder.mkdir(exist_ok=True)
    (folder / "dev.tsv").write_text("sentence\tlabel\n" + "".join(f"{s}\t{label}\n" for s, label in rows))
    (folder / "train.tsv").write_text("sentence\tlabel\n" + "".join(f"shot {i} \t{i % 2}\n" for i in range(20)))
    return Verbalized(name="sst2", data=str(folder), prompt="{sentence} is", words=(" bad", " good"), **more)


def test_the_likelier_word_is_the_class(tmp_path):
    task = sst2(tmp_path, [("one ", 1), ("two ", 1), ("three", 0)])
    found = values(task, liking("go"))  # always good
    assert found == {"accuracy": pytest.approx(2 / 3), "matthews": 0.0, "f1": pytest.approx(0.8), "ties": 0.0}
    assert task.asked(task.judged()[0]).texts == (("one is", " bad"), ("one is", " good"))


def test_shots_are_the_same_for_a_seed_and_others_for_another(tmp_path):
    def fronts(*seeds):
        task = sst2(tmp_path, [("one", 1)], shots=Shots(count=3, seeds=seeds, separator="\n"))
        solved = [task.asked(record).solved for record in task.to_learn_from()]
        return task.shots.fronts(solved)

    zero, one = fronts(0, 1)
    assert fronts(0) == [zero]
    assert zero != one
    for front in (zero, one):
        lines = front.split("\n")[:-1]
        assert len(set(lines)) == 3
        for line in lines:
            number = int(line.split()[1])
            assert line == f"shot {number} is{' good' if number % 2 else ' bad'}"


def test_measures_are_means_over_the_seeds_of_the_shots(tmp_path):
    task = sst2(tmp_path, [("one", 1), ("two", 0)], shots=Shots(count=1, seeds=(0, 1)))
    found = judged(task, liking("go"))
    assert found.measures["accuracy"].by_seed == (0.5, 0.5)
    assert found.measures["accuracy"].value == 0.5
    assert [result["chosen"] for result in found.results] == [[1, 1], [1, 1]]
    assert found.notes[0] == "sst2: 1 solved examples before each question, means of seeds 0, 1"


@pytest.mark.parametrize(
    ("shots", "message"),
    [(Shots(count=21), "there are 20 examples"), (Shots(count=1, data="SST-2/dev.tsv"), "is what is judged")],
)
def test_shots_that_cannot_be_drawn_are_refused(tmp_path, shots, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = sst2(tmp_path, [("one", 1)], shots=shots)
    with pytest.raises(DataError, match=message):
        Verbalized(**{**vars(task), "data": "SST-2"}).build(SUBJECT)


def test_only_the_first_records_are_asked_where_a_limit_says_so(tmp_path):
    task = pairs(tmp_path, ("aaa", "bbb"), ("bbb", "aaa"), limit=1)
    assert values(task, liking("ab"))["accuracy"] == 1.0


def test_long_texts_are_cut_and_said_to_be(tmp_path):
    row = {"sentence": "x" * 100 + " _ ab", "option1": "a", "option2": "b", "answer": "1"}
    found = judged(Referents(name="w", data=written(tmp_path / "w.jsonl", [row])), liking("a"))
    assert found.notes == ("2 of 2 texts are longer than the model's context, and lost their oldest tokens",)


def test_a_token_without_any_context_costs_a_uniform_guess(tmp_path):
    tokenizer = Bytes(eos=False).build(lambda: iter(()))
    found = pairs(tmp_path, ("ab", "ba")).build(SUBJECT._replace(tokenizer=tokenizer))(liking("ab"), nothing)
    V = SUBJECT.model.vocab_size
    expected = [math.log(V) + nats(liking("ab"), "b"), math.log(V) + nats(liking("ab"), "a")]
    np.testing.assert_allclose(found.results[0]["nats"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda p: Verbalized(name="x", data="d", prompt="{a", words=("a", "b")), "prompt='{a' is no template"),
        (
            lambda p: Verbalized(name="x", data="d", prompt="a", words=("a",)),
            "must be as many, different, two at least",
        ),
        (lambda p: MinimalPairs(name="a/b", data="d"), "name='a/b' must be a word without slashes"),
        (lambda p: MinimalPairs(name="a", data="d", limit=0), "limit=0 must be positive"),
        (lambda p: Shots(count=0), "count=0 must be positive"),
        (lambda p: Shots(count=1, seeds=(1, 1)), "must be different numbers"),
    ],
)
def test_what_makes_no_sense_is_refused_at_birth(tmp_path, wrong, message):
    with pytest.raises((ConfigError, TypeError), match=message):
        wrong(tmp_path)


def test_equal_sentences_are_no_pair(tmp_path):
    with pytest.raises(DataError, match=r"pairs.jsonl:1: both sentences are 'ab'"):
        judged(pairs(tmp_path, ("ab", " ab ")), liking("a"))
