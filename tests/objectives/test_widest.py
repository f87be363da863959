"""Claims about the widest row of an objective: it is that of data that fill it, and no data are read for it."""

import json
from dataclasses import dataclass

import jax
import numpy as np
import pytest

from gptjax.config import ConfigError, Corpus, Data, ObjectiveConfig
from gptjax.data.tokenizer import Tokenizer
from gptjax.data.tokenizers import Bytes
from gptjax.objectives.bag import Bag
from gptjax.objectives.causal import Causal
from gptjax.objectives.lora import Lora
from gptjax.objectives.masked import Masked
from gptjax.objectives.sampled import SampledCausal
from gptjax.objectives.seq2seq import Seq2Seq
from gptjax.objectives.sft import SFT
from gptjax.objectives.tasks import Classification, Entailment, MultipleChoice, Similarity
from gptjax.objectives.word2vec import Word2Vec
from gptjax.plan.vocabulary import Sized

CONTEXT = 21
READ = Bytes(bos=True, eos=True).build(lambda: iter(()))
SIZE = Tokenizer(Sized(READ.vocab_size), True, True, 1)
"""A tokenizer of which only the size is known."""
LONG = "".join(map(chr, range(40, 110)))
"""Longer than any row, and no letter twice."""
FULL = LONG[: CONTEXT - 1]
"""Fills a row with one of the ends of a text."""
TEXT = [{"text": LONG * 5}, {"text": LONG * 5}]
PAIR = {"sentence1": LONG, "sentence2": LONG}
CHOICES = {"c": [LONG] * 8, "answerKey": "H", "q": LONG}


@dataclass(frozen=True)
class Mute(ObjectiveConfig):
    """Does not say how wide its rows are."""


CASES = {
    "causal": (Causal(), TEXT, {}),
    "causal_documents": (Causal(), TEXT, {"packing": "documents"}),
    "sampled": (SampledCausal(), TEXT, {}),
    "sft": (SFT(), [{"prompt": "ab", "completion": "cd"}], {}),
    "classification": (Classification(), [{"sentence": LONG, "label": 1}], {}),
    "segment": (Classification(segment_tokens=13), [{"sentence": LONG, "label": 1}], {}),
    "all_of_the_context": (Classification(segment_tokens=50), [{"sentence": LONG, "label": 1}], {}),
    "entailment": (Entailment(), [{**PAIR, "label": "entailment"}], {}),
    "similarity": (Similarity(), [{**PAIR, "score": 2.5}], {}),
    "choices_of_a_list": (MultipleChoice(context=("q", "q"), choices=("c",)), [CHOICES], {}),
    "choices_of_columns": (
        MultipleChoice(context=("q",), choices=("a", "b", "c"), answers=("A", "B", "C")),
        [{"q": LONG, "a": LONG, "b": LONG, "c": LONG, "answerKey": "A"}],
        {},
    ),
    "adapters": (Lora(of=Similarity(labels=("0", "1"), label="label")), [{**PAIR, "label": 0}], {}),
    "masked_pairs": (Masked(), TEXT, {}),
    "masked_documents": (Masked(next_sentence_weight=0.0), TEXT, {"packing": "documents"}),
    "translation": (Seq2Seq(), [{"source": FULL, "target": FULL}], {}),
    "bag": (Bag(), [{"sentence": LONG[:CONTEXT], "label": 0}], {}),
    "weighed_bag": (Bag(value="tfidf", hidden="relu"), [{"sentence": LONG[:CONTEXT], "label": 0}], {}),
    "word2vec": (Word2Vec(window=2, shared=3), TEXT, {}),
}
NARROWER = {
    "classification": "rows of 1 x 16 tokens: every text as long as texts are cut to, 8; the data",
    "all_of_the_context": "rows of 1 x 21 tokens: every text as long as texts are cut to, 19",
    "choices_of_a_list": "rows of 8 x 21 tokens",
    "choices_of_columns": "rows of 3 x 21 tokens",
    "adapters": "rows of 2 x 21 tokens",
    "translation": "rows of 21 tokens on both sides",
    "bag": "bags of 21 different tokens, by model.context",
}
"""What is told where the data may have narrower rows, or others."""


def types(rows):
    return jax.tree.map(lambda leaf: (leaf.shape, np.dtype(leaf.dtype).name), rows)


@pytest.mark.parametrize("name", CASES)
def test_the_widest_row_is_that_of_data_that_fill_it(name, tmp_path):
    objective, records, fields = CASES[name]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    data = Data(corpora=(Corpus(str(path)),), validation_fraction=0.0, **fields)
    source = objective.sources(data, READ, CONTEXT, 0, tmp_path).train[0]
    widest = objective.widest(Data(**fields), SIZE, CONTEXT)
    assert types(widest.rows) == types(source.take(np.arange(1), 0))
    assert type(widest.rows) is type(source.take(np.arange(1), 0))
    assert " ".join(widest.notes).startswith(NARROWER.get(name, ""))


def test_what_every_row_is_needs_no_note():
    for name in ("causal", "causal_documents", "sampled", "sft", "masked_pairs", "masked_documents", "word2vec"):
        objective, _, fields = CASES[name]
        assert objective.widest(Data(**fields), SIZE, CONTEXT).notes == ()


def test_rows_in_running_order_have_a_start():
    rows = Causal().widest(Data(order="running"), SIZE, CONTEXT).rows
    assert rows.starts.tolist() == [0]


def test_a_bag_has_no_more_tokens_than_there_are():
    tokenizer = Tokenizer(Sized(10), False, False, 1)
    found = Bag().widest(Data(), tokenizer, CONTEXT)
    assert found.rows.ids.shape == (1, 16)
    assert found.rows.ids.max() < 10


def test_what_training_refuses_is_refused_alike():
    with pytest.raises(ConfigError, match="context=5 leaves no room for a text"):
        Classification().widest(Data(), SIZE, 5)
    with pytest.raises(ConfigError, match="context=4 leaves no room for text"):
        Masked().widest(Data(), SIZE, 4)
    with pytest.raises(ConfigError, match=r"^objective Mute: only data tell how wide its rows are"):
        Mute().widest(Data(), SIZE, CONTEXT)
