"""The last word of a passage: divided off as it stands, written token by token, judged by hand."""

import json
import math

import numpy as np
import pytest
from evals.judges import SUBJECT, judged, liking, nats, unigram

from gptjax.data.errors import DataError
from gptjax.data.tokenizers import SentencePiece
from gptjax.evals.lastword import LastWord
from gptjax.evals.sweep import nothing


def lambada(tmp_path, *texts, **more):
    path = tmp_path / "lambada.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return LastWord(name="lambada", data=str(path), **more)


def test_the_last_word_keeps_the_space_before_it(tmp_path):
    task = lambada(tmp_path)
    assert task.divided(("f:1", {"text": " It was said by Shane "})) == ("It was said by", " Shane")
    assert task.divided(("f:1", {"text": "said:\n\nShane's"})) == ("said:", "\n\nShane's")
    with pytest.raises(DataError, match="f:1: 'word' has no word before its last"):
        task.divided(("f:1", {"text": "word"}))


def test_a_word_is_right_where_every_token_of_it_is_the_likeliest(tmp_path):
    """The likeliest byte is always a space: a last word of one space and letters is never written whole."""
    found = judged(lambada(tmp_path, "a b  c", "a b c d"), liking(" a"))
    assert found.measures["accuracy"].value == 0.0


def test_a_word_of_one_token_is_right_where_that_token_is_the_likeliest(tmp_path):
    tokenizer = SentencePiece(vocab_size=300).build(lambda: iter(["the doctor and the captor of the raptor . " * 40]))
    subject = SUBJECT._replace(model=unigram(tokenizer.vocab_size), tokenizer=tokenizer)
    (word,) = tokenizer.encode("and the")[len(tokenizer.encode("and")) :]
    logits = np.zeros(tokenizer.vocab_size, np.float32)
    logits[word] = 5.0
    found = lambada(tmp_path, "and the", "and of", "of the").build(subject)({"logits": logits}, nothing)
    assert [row["greedy"] for row in found.results] == [True, False, True]
    assert found.measures["accuracy"].value == pytest.approx(2 / 3)


def test_perplexity_and_nats_are_those_of_whole_words(tmp_path):
    params, words = liking(" abc"), (" a", " bcc", " ab")
    found = judged(lambada(tmp_path, *("x y" + word for word in words)), params)
    totals = [nats(params, word) for word in words]
    assert [row["word"] for row in found.results] == ["a", "bcc", "ab"]
    assert [row["nats"] for row in found.results] == pytest.approx(totals, rel=1e-5)
    assert found.measures["perplexity"].value == pytest.approx(math.exp(sum(totals) / 3), rel=1e-5)
    assert found.measures["nats_per_token"].value == pytest.approx(sum(totals) / 9, rel=1e-5)
    low, high = found.measures["perplexity"].low, found.measures["perplexity"].high
    assert math.exp(min(totals)) * 0.999 <= low < high <= math.exp(max(totals)) * 1.001
