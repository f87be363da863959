"""Claims about how often units occur in what a run was trained on."""

import json
from collections import Counter

import numpy as np
import pytest
from untrained import write

from gptjax import counted
from gptjax.config import Corpus, Data
from gptjax.counted import Counting
from gptjax.data import store, tokenizers, utf8
from gptjax.data.tokenizers import Bytes
from gptjax.judging import frequency
from gptjax.judging.frequency import Unknown, training
from gptjax.models.gpt import GPT
from gptjax.objectives.tasks import Classification

TEXT = ("zz top  zz\n" + "a bad cab had a bag. " * 6) * 9
TINY = GPT(layers=1, width=8, heads=2, mlp_width=8, context=8)
CODEC = Bytes(eos=False).build(None)


def remember(folder, data, cache, codec=CODEC):
    """As training leaves a run: the store in the cache, and its identity in the folder."""
    identity = store.build(data, codec, cache).identity
    (folder / "data.json").write_text(json.dumps({"identity": identity}))
    return folder


@pytest.fixture
def place(tmp_path):
    """A run that was trained on the first 60% of a text."""
    (tmp_path / "text.txt").write_text(TEXT)
    data = Data(corpora=(Corpus(str(tmp_path / "text.txt")),), validation_fraction=0.4)
    remember(write(tmp_path / "run", TINY, data=data), data, tmp_path / "cache")
    return tmp_path


def test_tokens_and_words_are_counted_in_the_training_split_alone(place, monkeypatch):
    monkeypatch.setattr(frequency, "AT_ONCE", 100)  # in several parts
    found = training(place / "run", CODEC, place / "cache")
    read = TEXT[: int(0.6 * len(TEXT))]
    assert 0 < read.count("zz") < TEXT.count("zz")
    ids = np.frombuffer(b"ab\nz~", np.uint8)
    assert found.of_tokens(ids).tolist() == [read.encode().count(id) for id in ids.tolist()]
    words = ["cab", "zz", "zz", "never", ""]
    assert found.of_words(words).tolist() == [Counter(read.split())[word] for word in words]


def test_a_word_that_goes_on_in_the_next_part_of_a_document_is_one_and_documents_are_not_joined(tmp_path, monkeypatch):
    texts = ["alpha beta  alpha gam", "ma alpha", "alpha\nbeta\n\ngamma"]  # the last has no place to be cut at
    for name, text in zip("abc", texts, strict=True):
        (tmp_path / name).write_text(text)
    data = Data(corpora=(Corpus(str(tmp_path)),), validation_fraction=0.0)
    own = Counter(word for text in texts for word in text.split())
    words = [*own, "al", "a", "gam"]
    for size in (1, 3, 6, 100):
        monkeypatch.setattr(utf8, "PART_BYTES", size)
        found = frequency.Training(data, (), 256, "", ()).of_words(words)
        assert found.tolist() == [own[word] for word in words]


def test_a_counted_run_and_the_run_of_a_checkpoint_know_their_text(place):
    counting = Counting(Bytes(eos=False), order=2, data=Data(corpora=(Corpus(str(place / "text.txt")),)))
    counted.count(counting, place / "counted", place / "cache")
    read = TEXT[: int(0.9 * len(TEXT))]
    z = np.array([ord("z")])
    assert training(place / "counted", CODEC, place / "cache").of_tokens(z).tolist() == [read.count("z")]
    whole, one = (training(place / run, CODEC, place / "cache") for run in ("run", "run/checkpoints/3"))
    assert whole.key == one.key


def test_the_same_text_has_one_key_under_every_tokenizer_and_other_text_another(place):
    def key(name, tokenizer, fraction=0.4):
        data = Data(corpora=(Corpus(str(place / "text.txt")),), validation_fraction=fraction)
        folder = write(place / name, TINY, tokenizer=tokenizer, data=data)
        codec = tokenizers.load(folder / "tokenizer")
        return training(remember(folder, data, place / "cache", codec), codec, place / "cache").key

    assert key("ended", Bytes()) == training(place / "run", CODEC, place / "cache").key
    assert key("more", Bytes(), 0.1) != key("less", Bytes(), 0.2)


def test_what_is_gone_changed_or_no_running_text_is_not_known_and_the_reason_is_said(place):
    run, cache = place / "run", place / "cache"
    with pytest.raises(Unknown, match=r"no store of its tokens is in .*empty.*--cache"):
        training(run, CODEC, place / "empty")
    task = write(place / "task", TINY, objective=Classification())
    with pytest.raises(Unknown, match="it learnt Classification, not the next token"):
        training(task, CODEC, cache)
    with pytest.raises(Unknown, match="does not say what was read"):
        training(write(place / "bare", TINY), CODEC, cache)
    (place / "folder").mkdir()
    (place / "folder/config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(Unknown, match="a Hugging Face folder"):
        training(place / "folder", CODEC, cache)
    own = (run / "data.json").read_text()
    (run / "data.json").write_text(json.dumps({"identity": "0" * 64}))
    with pytest.raises(Unknown, match="other text than the run began with"):
        training(run, CODEC, cache)
    (run / "data.json").write_text(own)
    assert training(run, CODEC, cache)
    (place / "text.txt").write_text(TEXT + "more")
    with pytest.raises(Unknown, match="its files have changed since"):
        training(run, CODEC, cache)
    (place / "text.txt").unlink()
    with pytest.raises(Unknown, match=r"text\.txt: no such file"):
        training(run, CODEC, cache)
