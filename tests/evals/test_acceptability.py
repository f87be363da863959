"""The threshold of acceptability is the best one of the training file, and the judged file does not move it."""

import numpy as np
import pytest
from evals.judges import judged, liking, nats
from hypothesis import given, settings
from hypothesis import strategies as st

from gptjax.data.errors import DataError
from gptjax.evals.acceptability import Acceptable, best_threshold
from gptjax.evals.classify import matthews

COLUMNS = ("source", "label", "mark", "sentence")


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 1)), min_size=1, max_size=14))
def test_no_other_threshold_is_better(rows):
    scores, labels = np.array(rows, float).T
    labels = labels.astype(int)
    found = matthews((scores > best_threshold(scores, labels)).astype(int), labels)
    others = [
        matthews((scores > t).astype(int), labels)
        for t in np.arange(-4.5, 4.6)[1:-1]
        if scores.min() < t < scores.max()
    ]
    assert found == pytest.approx(max([*others, found]))


def cola(tmp_path, dev, train):
    for name, rows in (("dev", dev), ("train", train)):
        (tmp_path / f"{name}.tsv").write_text("".join(f"gj04\t{label}\t\t{text}\n" for text, label in rows))
    return Acceptable(name="cola", data=str(tmp_path), columns=COLUMNS)


def test_a_sentence_is_acceptable_above_the_training_files_threshold(tmp_path):
    params = liking("abcd")
    train = [("aaaa", 1), ("aab", 1), ("bcc", 0), ("dd", 0)]
    dev = [("aa", 1), ("d", 0), ("cc", 1), ("ab", 0)]
    found = judged(cola(tmp_path, dev, train), params)
    means = [-nats(params, text) / len(text) for text, _ in (*dev, *train)]
    threshold = (means[5] + means[6]) / 2  # between aab and bcc
    assert [row["score"] for row in found.results] == pytest.approx(means[:4], rel=1e-5)
    right = np.array([(score > threshold) == label for score, (_, label) in zip(means[:4], dev, strict=True)])
    assert found.measures["accuracy"].value == right.mean() == 0.5
    assert found.measures["chance"].value == 0.5
    assert f"threshold {threshold:.4f} nats, chosen on 4 sentences of training" in found.notes[0]
    again = judged(cola(tmp_path, [(text, 1 - label) for text, label in dev], train), params)
    assert again.notes == found.notes


def test_a_model_of_constants_accepts_nothing(tmp_path):
    found = judged(cola(tmp_path, [("ab", 1), ("cd", 0)], [("ab", 1), ("cde", 0)]), liking(""))
    assert found.measures["matthews"].value == 0.0


def test_the_judged_file_is_not_to_choose_by(tmp_path):
    task = cola(tmp_path, [("ab", 1)], [("ab", 1)])
    alone = Acceptable(name="cola", data=str(tmp_path / "dev.tsv"), columns=COLUMNS)
    with pytest.raises(DataError, match="is what is judged; name a folder with train and dev files"):
        judged(alone, liking("a"))
    assert judged(task, liking("a")).measures["accuracy"].value == 0.0
