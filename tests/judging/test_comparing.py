"""Claims about `gptjax compare`."""

import json
from collections import Counter

import numpy as np
import pytest
from untrained import write

from gptjax import counted
from gptjax.cli import run_verb
from gptjax.config import Corpus, Data, Evaluation
from gptjax.counted import Counting
from gptjax.data import store, tokenizers
from gptjax.data.tokenizers import Bytes, Characters, Words
from gptjax.evals import letters
from gptjax.judging import comparing, judge, scored
from gptjax.models.bert import Bert
from gptjax.models.gpt import GPT
from gptjax.models.recurrent import Recurrent
from gptjax.objectives.masked import Masked

TEXT = "".join(f"Line {i} says {i * i % 97}, and “no” more.\n" for i in range(60))
TINY = GPT(layers=1, width=8, heads=2, mlp_width=8, context=16)
EVALUATION = Evaluation(rows=8)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Texts, a cache, and runs: a, b (other parameters), c (characters), w (words), n (counted), r (recurrent)."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "text.txt").write_text(TEXT)
    (folder / "many").mkdir()
    for name, part in (("one.txt", TEXT[:700]), ("two.txt", TEXT[700:])):
        (folder / "many" / name).write_text(part)
    write(folder / "a", TINY, evaluation=EVALUATION)
    write(folder / "b", TINY, seed=1, evaluation=EVALUATION)
    write(folder / "c", TINY, tokenizer=Characters(), text=TEXT, evaluation=EVALUATION)
    write(folder / "w", TINY, tokenizer=Words(min_count=9), text=TEXT, evaluation=EVALUATION)
    network = Recurrent(cell="tanh", layers=1, width=8, embed_width=8, context=16)
    carried = Evaluation(rows=2, state="carried")
    write(folder / "r", network, evaluation=carried, data=Data(order="running"))
    corpus = Data(corpora=(Corpus(str(folder / "text.txt")),))
    counted.count(Counting(Bytes(eos=False), order=3, data=corpus), folder / "n", folder / "cache")
    return folder


def compared(place, a, b, data="text.txt", stride=None):
    folders = place / a, place / b
    return comparing.compare(folders, str(place / data), stride, 0, place / "cache", print)


def titles(found):
    return [breakdown.title for breakdown in found.comparison.breakdowns]


def test_a_run_against_itself_differs_by_exactly_nothing(place):
    whole = compared(place, "a", "a").comparison.whole
    assert whole.difference == (0.0, 0.0, 0.0)
    assert whole.units == len(TEXT.encode())


def test_two_runs_differ_by_what_eval_says_of_each(place):
    found = compared(place, "a", "b")
    a, b = (judge.held_out(place / n, str(place / "text.txt"), None, place / "cache", print) for n in "ab")
    mean, low, high = found.comparison.whole.difference
    assert mean == pytest.approx(b["nats_per_token"] - a["nats_per_token"], rel=1e-5)
    assert low < mean < high
    assert found.comparison.bits_per_byte.mean == pytest.approx(b["bits_per_byte"] - a["bits_per_byte"], rel=1e-5)
    assert titles(found) == ["kind", "frequency", "tokens read"]
    back = compared(place, "b", "a").comparison.whole
    assert back.difference.mean == pytest.approx(-mean, rel=1e-12)


def test_counted_and_carried_runs_are_compared_with_windowed_ones(place):
    for other in ("n", "r"):
        found = compared(place, "a", other)
        judged = judge.held_out(place / other, str(place / "text.txt"), None, place / "cache", print)
        assert found.comparison.whole.nats_b == pytest.approx(judged["nats_per_token"] * judged["tokens"], rel=1e-5)
        own = "training frequency of n" if other == "n" else "frequency"
        assert titles(found) == ["kind", own, "tokens read by a"]


def test_runs_with_other_windows_are_told_apart_by_what_each_had_read(place):
    found = compared(place, "a", "r", stride=16)
    assert titles(found)[2:] == ["tokens read"]
    write(place / "s", TINY, seed=2, evaluation=Evaluation(rows=8, stride=4))
    other = compared(place, "a", "s")
    assert titles(other)[2:] == ["tokens read by a", "tokens read by s"]
    assert "windows start a's 16 of 16 and s's 4 of 16 tokens apart" in " ".join(other.notes)
    assert not any("windows start" in note for note in compared(place, "a", "s", stride=4).notes)


def test_two_tokenizers_are_compared_word_by_word_and_nothing_is_lost(place):
    found = compared(place, "a", "c")
    assert "word by word" in found.notes[0]
    assert [found.comparison.units.kind, found.comparison.whole.units] == ["word", len(TEXT.split()) + 1]
    for reader, nats in zip(found.readers, found.comparison.units.nats_2U.sum(1), strict=True):
        assert nats == pytest.approx(reader.summary["nats_per_token"] * reader.summary["tokens"], rel=1e-5)
        assert np.all(np.diff(reader.unit_N) >= 0)
    for i, name in enumerate("ac"):
        before_N = scored.read(place / name, str(place / "text.txt"), None, place / "cache", print).before_N
        last_U = [np.flatnonzero(found.readers[i].unit_N == u)[-1] for u in range(found.comparison.whole.units)]
        part_U, names = letters.powers(before_N[last_U], 2)
        [told] = [b.parts for b in found.comparison.breakdowns if b.title == f"tokens read by {name}"]
        assert [(part.name, part.units) for part in told] == list(zip(names, np.bincount(part_U), strict=True))
    first = found.readers[1].unit_N == 0
    assert "".join(np.array(found.readers[1].pieces)[first]) == "Line"


def test_a_token_that_one_of_the_runs_is_given_is_left_out_for_both(place):
    apart, joined = Data(packing="documents"), Data()
    for name, data in (("apart", apart), ("joined", joined)):
        write(place / name, TINY, tokenizer=Bytes(bos=True), data=data, evaluation=EVALUATION)
    found = compared(place, "apart", "joined", data="many")
    given = [np.flatnonzero(np.asarray(reader.unit_N) < 0).tolist() for reader in found.readers]
    second = 2 + len(TEXT[:700].encode())
    assert given == [[0, second], [0, second]]
    assert found.comparison.whole.units == len(TEXT.encode()) + 2  # each document's end is predicted
    assert "<bos>" not in found.comparison.units.pieces


def test_a_tokenizer_that_loses_text_is_refused_in_one_line_beside_another(place, capfd):
    words = ["compare", place / "w", place / "a", "--data", place / "text.txt", "--cache", place / "cache"]
    assert run_verb([str(word) for word in words]) == 2
    [line] = capfd.readouterr().err.strip().splitlines()
    assert "w: its tokenizer does not spell the text again" in line
    assert compared(place, "w", "w").comparison.whole.difference == (0.0, 0.0, 0.0)


def test_files_are_told_apart(place):
    found = compared(place, "a", "b", data="many")
    [breakdown] = [b for b in found.comparison.breakdowns if b.title == "source"]
    sizes = {part.name.rsplit("/")[-1]: part.units for part in breakdown.parts}
    assert sizes == {"one.txt": len(TEXT[:700].encode()), "two.txt": len(TEXT[700:].encode())}
    lines = "".join(json.dumps({"text": line}) + "\n" for line in TEXT.splitlines())
    (place / "lines.jsonl").write_text(lines)
    assert "source" not in titles(compared(place, "a", "b", data="lines.jsonl"))


def knowing(place, name, codec, file="train.txt", **fields):
    """A run that remembers what it was trained on."""
    if not (place / file).exists():  # written again, it would be another text
        (place / file).write_text("Line no " * 40 + "and 97 97 97\n" * 4)
    data = Data(corpora=(Corpus(str(place / file)),), validation_fraction=0.0)
    folder = write(place / name, TINY, tokenizer=codec, data=data, evaluation=EVALUATION, **fields)
    identity = store.build(data, tokenizers.load(folder / "tokenizer"), place / "cache").identity
    (folder / "data.json").write_text(json.dumps({"identity": identity}))
    return (place / file).read_text()


def parts(found, title):
    [breakdown] = [b for b in found.comparison.breakdowns if b.title == title]
    return {part.name: part.units for part in breakdown.parts}


def binned(counts):
    bin_U, names = letters.powers(np.array(counts), 10)
    return dict(zip(names, np.bincount(bin_U).tolist(), strict=True))


def test_units_are_told_apart_by_their_frequency_in_the_training_text_where_it_is_known(place):
    read = knowing(place, "k1", Bytes(eos=False))
    knowing(place, "k2", Bytes(eos=False), seed=1)
    (place / "other.txt").write_text(read.swapcase())
    knowing(place, "k3", Bytes(eos=False), file="other.txt")
    knowing(place, "k4", Characters(), text=TEXT)
    found = compared(place, "k1", "k2")
    assert titles(found) == ["kind", "training frequency", "tokens read"]
    assert parts(found, "training frequency") == binned([read.encode().count(byte) for byte in TEXT.encode()])
    assert not any("not known" in note for note in found.notes)
    found = compared(place, "k1", "k3")
    assert titles(found)[1:3] == ["training frequency of k1", "training frequency of k3"]
    found = compared(place, "k1", "a")
    assert titles(found)[1:3] == ["training frequency of k1", "tokens read"]
    assert found.notes[1] == "what a was trained on is not known: the run folder does not say what was read"
    found = compared(place, "k1", "k4")
    assert titles(found)[1:2] == ["training frequency"]
    counts = Counter(read.split())
    assert parts(found, "training frequency") == binned([counts[word] for word in [*TEXT.split(), ""]])
    told = found.comparison.breakdowns[1].about
    assert told == "how often the same word occurs in the text that both runs were trained on"


def test_a_copy_of_the_training_text_in_another_place_is_the_same_text(place):
    read = knowing(place, "k5", Bytes(eos=False))
    (place / "moved.txt").write_text(read)
    knowing(place, "k6", Bytes(eos=False), file="moved.txt")
    assert titles(compared(place, "k5", "k6")) == ["kind", "training frequency", "tokens read"]


def test_a_model_that_reads_both_sides_is_refused(place, capfd):
    bert = Bert(layers=1, width=8, heads=2, mlp_width=8, context=16)
    write(place / "two-sided", bert, tokenizer=Bytes(), objective=Masked())
    words = ["compare", place / "a", place / "two-sided", "--data", place / "text.txt", "--cache", place / "cache"]
    assert run_verb([str(word) for word in words]) == 2
    assert "no left-to-right likelihood" in capfd.readouterr().err


def test_a_seed_that_is_none_is_one_line(place, capfd):
    words = ["compare", place / "a", place / "b", "--data", place / "text.txt", "--seed", "-1"]
    assert run_verb([str(word) for word in words]) == 2
    assert "seed=-1 is not in [0, 2**32)" in capfd.readouterr().err


def test_the_verb_prints_one_object_and_writes_the_page(place, capfd):
    out, where = place / "page.html", ["--data", place / "text.txt", "--cache", place / "cache"]
    assert run_verb([*map(str, ["compare", place / "a", place / "b", *where, "--json", "--out", out])]) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["a"]["name"], told["b"]["name"]) == ("a", "b")
    assert f"{told['whole']['difference']:+.4f}" in out.read_text()
    assert run_verb([*map(str, ["compare", place / "a", place / "b", *where])]) == 0
    assert f"{told['whole']['difference']:+.4f}" in capfd.readouterr().out
