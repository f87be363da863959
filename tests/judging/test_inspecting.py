"""Claims about `gptjax inspect`."""

import json
import math

import numpy as np
import pytest
from untrained import write

from gptjax import counted, trained
from gptjax.cli import run_verb
from gptjax.config import Corpus, Data
from gptjax.counted import Counting
from gptjax.data.errors import DataError
from gptjax.data.tokenizers import Bytes, Words
from gptjax.evals import likelihood, pseudo
from gptjax.judging import inspecting, judge
from gptjax.judging.inspecting import inspect
from gptjax.models.bert import Bert
from gptjax.models.gpt import GPT
from gptjax.models.recurrent import Recurrent
from gptjax.models.vectors import Vectors
from gptjax.objectives import masked
from gptjax.objectives.masked import Masked
from gptjax.types import TokenSplit

TEXT = "<b>hé & x</b>"
N = len(TEXT.encode())
TINY = GPT(layers=1, width=8, heads=2, mlp_width=8, context=24, norm="rms", positions="rotary", kv_heads=1)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspect")
    (folder / "text.txt").write_text("a bad cab had a bag. " * 40)
    return folder


@pytest.fixture(scope="module")
def gpt(place):
    return write(place / "gpt", TINY)


def test_surprisals_and_the_last_layer_are_what_the_model_says_of_the_text(gpt):
    found = inspect(gpt, TEXT, print)
    run = trained.load(gpt, print)
    ids = np.frombuffer(TEXT.encode(), np.uint8).astype(np.int32)
    logits_TV = np.asarray(run.model.apply(run.params["model"], ids[None]))[0].astype(np.float64)
    p_TV = np.exp(logits_TV) / np.exp(logits_TV).sum(-1, keepdims=True)
    own = -np.log2(p_TV[np.arange(N - 1), ids[1:]])
    assert found.bits[0] == pytest.approx(math.log2(256))
    np.testing.assert_allclose(found.bits[1:], own, rtol=1e-4)
    assert found.lens.top_ids_ATK[-1, :, 0].tolist() == p_TV.argmax(-1).tolist()
    assert found.places.tolist() == list(range(1, N + 1))
    assert found.weights_LNTS.shape == (1, 2, N, N)
    np.testing.assert_allclose(found.weights_LNTS.sum(-1), 1, rtol=1e-5)
    assert list(found.lens.layers) == ["embedding", "layer 1"]


def test_neighbours_have_the_highest_cosines(gpt):
    found = inspect(gpt, "ab", print)
    table = np.asarray(trained.load(gpt, print).params["model"]["embed"]["tokens"], np.float64)
    cosines = table @ table[ord("a")] / np.linalg.norm(table, axis=1) / np.linalg.norm(table[ord("a")])
    order = [i for i in np.argsort(-cosines) if i != ord("a")][: inspecting.NEIGHBOURS]
    name, near = found.neighbours[0]
    assert (name, len(found.neighbours)) == ("a", 2)
    assert [found.names(i) for i in order] == [name for name, _ in near]
    np.testing.assert_allclose([cosine for _, cosine in near], cosines[order], atol=1e-5)


def test_bert_predicts_each_token_with_that_token_hidden(place):
    config = Bert(layers=1, width=8, heads=2, mlp_width=8, context=24)
    folder = write(place / "bert", config, tokenizer=Bytes(), objective=Masked())
    found, run = inspect(folder, TEXT, print), trained.load(folder, print)
    ids = np.frombuffer(TEXT.encode(), np.uint8).astype(np.int32)
    nats = pseudo.token_nats(run.model, run.params["model"], ids, masked.marks(run.tokenizer), 4)
    assert (found.pieces[0], found.pieces[-1]) == ("<start>", "<extract>")
    assert found.bits[0] is found.bits[-1] is None
    np.testing.assert_allclose(found.bits[1:-1], nats / np.log(2), rtol=1e-4)
    assert found.weights_LNTS.shape == (1, 2, N + 2, N + 2)
    assert (found.weights_LNTS > 0).all()


def test_a_text_beyond_the_context_is_cut_and_said(gpt):
    found = inspect(gpt, "x" * 30, print)
    assert len(found.pieces) == 24
    assert "the first 24 of 30 tokens" in found.notes[0]


def test_a_family_without_attention_shows_what_it_has_and_says_what_it_has_not(place):
    network = Recurrent(cell="tanh", layers=1, width=8, embed_width=8, context=8)
    found = inspect(write(place / "network", network, tokenizer=Bytes(bos=True, eos=False)), TEXT, print)
    assert found.weights_LNTS is None
    assert list(found.lens.layers) == ["output"]
    assert (found.pieces[0], found.bits[0]) == ("<bos>", None)
    assert found.bits[1] > 0
    assert any("Recurrent has no attention" in note for note in found.notes)


def test_word_vectors_have_neighbours_alone(place):
    folder = write(place / "vectors", Vectors(width=8), tokenizer=Words(eos=False), text="a bad cab had a bag .")
    found = inspect(folder, "a cab", print)
    assert found.lens is found.weights_LNTS is None
    assert [name for name, _ in found.neighbours] == ["a", "cab"]
    assert "only neighbours" in found.notes[0]


def test_a_counted_run_shows_its_predictions(place):
    corpus = Data(corpora=(Corpus(str(place / "text.txt")),))
    counted.count(Counting(Bytes(eos=False), order=3, data=corpus), place / "counted", place / "cache")
    found = inspect(place / "counted", "a bad", print)
    own = counted.nats(counted.load(place / "counted").model, _split("a bad"), None)
    np.testing.assert_allclose(np.array(found.bits) * np.log(2), own, atol=1e-5)
    assert found.names(int(found.lens.top_ids_ATK[0, -1, 0])) == " "
    assert found.neighbours is found.weights_LNTS is None
    assert "no attention" in found.notes[0]


def _split(text):
    ids = np.frombuffer(text.encode(), np.uint8)
    return TokenSplit(ids, np.array([0, len(ids)]), len(ids))


def test_what_no_page_could_hold_is_refused_with_the_number_that_it_can(gpt, monkeypatch):
    monkeypatch.setattr(inspecting, "MOST_WEIGHTS", 2 * 10**2)
    with pytest.raises(DataError, match="11 tokens, and a page holds 10 for this model"):
        inspect(gpt, "x" * 11, print)
    assert len(inspect(gpt, "x" * 10, print).pieces) == 10


def test_mistakes_are_one_line(gpt, place, capfd):
    for words, said in ((["--text", ""], "--text is empty"), (["--text", "x", "--out", str(place)], "Is a directory")):
        capfd.readouterr()
        assert run_verb(["inspect", str(gpt), *words]) == 2
        assert said in capfd.readouterr().err.splitlines()[-1]


def test_the_verb_writes_the_page_and_shows_every_token(gpt, place, capfd):
    assert run_verb(["inspect", str(gpt), "--text", TEXT, "--out", str(place / "page.html")]) == 0
    printed = capfd.readouterr().out
    assert len([line for line in printed.splitlines() if line.startswith("│")]) == N + 1
    page = (place / "page.html").read_text()
    assert page.count("data:image/png") == 2 + 1
    assert "<b>" not in page


@pytest.mark.parametrize("name", ["gpt", "bert-json", "vectors-json"])
def test_the_verb_prints_one_object_and_writes_a_page_only_where_it_is_asked_for(place, gpt, capfd, name):
    if name == "bert-json":
        config = Bert(layers=1, width=8, heads=2, mlp_width=8, context=24)
        write(place / name, config, tokenizer=Bytes(), objective=Masked())
    if name == "vectors-json":
        write(place / name, Vectors(width=8), tokenizer=Words(eos=False), text=f"{TEXT} bag")
    before = set(place.rglob("*"))
    capfd.readouterr()
    assert run_verb(["inspect", str(place / name), "--text", TEXT, "--json"]) == 0
    told, found = json.loads(capfd.readouterr().out), inspect(place / name, TEXT, print)
    assert set(place.rglob("*")) == before
    assert [token["text"] for token in told["tokens"]] == found.pieces
    assert [found.names(token["id"]) for token in told["tokens"]] == found.pieces
    assert [token["bits"] for token in told["tokens"]] == found.bits
    assert (told["attention"] is None, told["lens"] is None) == (found.weights_LNTS is None, found.lens is None)
    assert [one["text"] for one in told["neighbours"]] == [name for name, _ in found.neighbours]


def test_precision_is_the_runs_own(place):
    folder = write(place / "bfloat16", TINY, precision="bfloat16")
    bits, run = inspect(folder, TEXT, print).bits, trained.load(folder, print)
    own, exact = (
        likelihood.token_nats(run.model, judge.in_precision(run.params["model"], p), _split(TEXT), 24, 24, 1, False)
        for p in ("bfloat16", "float32")
    )
    nats = np.array(bits) * np.log(2)
    assert np.abs(nats - own).max() < 2e-2
    assert np.abs(nats - exact).max() > 1e-3
