"""Documents: every token, byte and word counted once, and intervals over documents."""

import json
import math

import numpy as np
import pytest
from evals.judges import SUBJECT, judged, liking, nats

from gptjax.config import ConfigError
from gptjax.data.errors import DataError
from gptjax.data.tokenizers import Bytes
from gptjax.evals.documents import Documents
from gptjax.evals.sweep import nothing

TEXTS = ["ab ba é", "a", "bb  a\nb " * 20]
PARAMS = liking("ab ")
V = SUBJECT.model.vocab_size


def documents(tmp_path, **more):
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return Documents(name="d", data=str(path), **more)


def test_measures_are_of_all_tokens_bytes_and_words_of_the_original(tmp_path):
    """The first byte of a document has nothing before it and costs ln V; its end is a token, but no byte."""
    found = judged(documents(tmp_path), PARAMS)
    end = math.log(np.sum(np.exp(PARAMS["logits"].astype(float))))  # the end's own logit is 0
    totals = [math.log(V) + nats(PARAMS, text.encode()[1:].decode("utf-8", "ignore")) + end for text in TEXTS]
    bytes_, words = sum(len(t.encode()) for t in TEXTS), 3 + 1 + 60
    assert [row["nats"] for row in found.results] == pytest.approx(totals, rel=1e-4)
    measures = {name: one.value for name, one in found.measures.items()}
    assert measures == {
        "nats_per_token": pytest.approx(sum(totals) / (bytes_ + 3), rel=1e-4),
        "bits_per_byte": pytest.approx(sum(totals) / math.log(2) / bytes_, rel=1e-4),
        "word_perplexity": pytest.approx(math.exp(sum(totals) / words), rel=1e-3),
    }
    for one in found.measures.values():
        assert one.low <= one.value <= one.high


def test_a_beginning_that_is_given_is_no_token(tmp_path):
    begun = Bytes(bos=True, eos=False).build(lambda: iter(()))
    found = documents(tmp_path).build(SUBJECT._replace(tokenizer=begun))(PARAMS, nothing)
    assert [row["tokens"] for row in found.results] == [len(text.encode()) for text in TEXTS]
    assert found.results[1]["nats"] == pytest.approx(nats(PARAMS, "a"), rel=1e-5)


def test_a_text_is_divided_where_documents_begin(tmp_path):
    path = tmp_path / "wiki.txt"
    path.write_text(" \n = One = \n a \n = = Part = = \n = Two = \n b \n")
    task = Documents(name="wiki", data=str(path), begins=r"^ = [^=\n]+ = $")
    assert list(task.texts()) == [" = One = \n a \n = = Part = = \n", " = Two = \n b \n"]
    assert len(list(Documents(name="wiki", data=str(path)).texts())) == 1


def test_one_document_has_no_interval_and_none_is_refused(tmp_path):
    assert judged(documents(tmp_path, limit=1), PARAMS).measures["bits_per_byte"].low is None
    (tmp_path / "blank.txt").write_text(" \n")
    with pytest.raises(DataError, match="no document with a word in it"):
        judged(Documents(name="d", data=str(tmp_path / "blank.txt")), PARAMS)
    with pytest.raises(ConfigError, match=r"begins='\(' is no regular expression"):
        Documents(name="d", data="d", begins="(")


def test_a_stride_beyond_the_context_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"stride=65 is not in 1..context=64"):
        judged(documents(tmp_path, stride=65), PARAMS)


def test_a_model_of_nan_is_refused(tmp_path):
    with pytest.raises(FloatingPointError, match="score of token 1 is nan"):
        judged(documents(tmp_path), {"logits": np.full(V, np.nan, np.float32)})
