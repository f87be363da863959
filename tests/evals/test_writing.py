"""What is written is cut at a stop and compared with every reference; the corpus measures are sacrebleu's own."""

import json

import numpy as np
import pytest
from evals.judges import BYTES, SUBJECT, judged, liking, successor

from gptjax.config import ConfigError
from gptjax.data.errors import DataError
from gptjax.evals import statistics, writing
from gptjax.evals.shots import Shots
from gptjax.evals.writing import Writing, Written


def asked(tmp_path, *rows, **more):
    path = tmp_path / "w.jsonl"
    path.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in rows))
    how = {"prompt": "{question}:", "references": (" {answer}",), "measures": ("exact_match",), "max_tokens": 6} | more
    return Writing(name="w", data=str(path), **how)


def test_a_greedy_model_writes_its_likeliest_letter_until_it_is_stopped(tmp_path):
    task = asked(tmp_path, ("one", "aaaaaa"), ("two", "aa"), ("a longer question than the others", "aaaaaa"), stop=())
    found = judged(task, liking("a"))
    assert [row["found"] for row in found.results] == [["aaaaaa"]] * 3
    assert found.measures["exact_match"].value == pytest.approx(2 / 3)
    stopped = judged(asked(tmp_path, ("one", ""), stop=("b", "a")), liking("a"))
    assert stopped.results[0]["found"] == [""]
    assert stopped.measures["exact_match"].value == 1.0


def test_an_end_of_text_ends_it_for_every_row_alone(tmp_path):
    logits = np.zeros(BYTES.vocab_size, np.float32)
    logits[BYTES.eos_id] = 9.0
    found = judged(asked(tmp_path, *[(f"{i}", "") for i in range(9)]), {"logits": logits})
    assert [row["found"] for row in found.results] == [[""]] * 9


def test_results_keep_the_order_of_the_records_whatever_their_lengths(tmp_path):
    rows = [("q" * length + letter, letter) for length, letter in ((3, "a"), (50, "f"), (1, "b"), (20, "k"), (9, "A"))]
    task = asked(tmp_path, *rows, prompt="{question}", max_tokens=3)
    subject = SUBJECT._replace(model=successor(BYTES.vocab_size), rows=2)
    found = task.build(subject)(liking(""), lambda: None)
    assert [row["references"] for row in found.results] == [[f" {letter}"] for _, letter in rows]
    assert [row["origin"].rpartition(":")[2] for row in found.results] == ["1", "2", "3", "4", "5"]
    assert [row["found"] for row in found.results] == [["bcd"], ["ghi"], ["cde"], ["lmn"], ["BCD"]]


def test_a_text_ends_before_the_stop_that_comes_first(tmp_path):
    task = asked(tmp_path, ("a", "bc"), prompt="{question}", stop=("f", "de", "x"))
    found = task.build(SUBJECT._replace(model=successor(BYTES.vocab_size)))(liking(""), lambda: None)
    assert found.results[0]["found"] == ["bc"]


def test_long_prompts_lose_their_oldest_tokens_and_are_counted(tmp_path):
    found = judged(asked(tmp_path, ("q" * 100, "x"), ("q", "x")), liking("a"))
    assert found.notes == ("w: 1 of 2 prompts lost their oldest tokens",)
    with pytest.raises(ConfigError, match="max_tokens=64 leaves no room in a context of 64"):
        judged(asked(tmp_path, ("q", "x"), max_tokens=64), liking("a"))


def test_a_prompt_without_a_token_is_refused_with_its_line_before_anything_is_written(tmp_path):
    task = asked(tmp_path, ("one", "a"), ("", "b"), prompt="{question}")
    with pytest.raises(DataError, match=r"w\.jsonl:2: prompt='{question}' gives no text to continue"):
        task.build(SUBJECT)


def test_corpus_measures_are_sacrebleus():
    metrics = pytest.importorskip("sacrebleu.metrics")
    rows = [
        Written("the cat sat on the mat", ("the cat sat on a mat", "a cat was sitting on the mat")),
        Written("there is a dog in the house", ("there is a dog in the house",)),
        Written("no", ("nothing at all",)),
    ]
    columns = [[r.references[0] for r in rows], [r.references[1] if len(r.references) > 1 else None for r in rows]]
    found = [row.found for row in rows]
    for mine, theirs in ((writing.bleu, metrics.BLEU()), (writing.chrf, metrics.CHRF())):
        assert statistics.once(mine(rows), 3) == pytest.approx(theirs.corpus_score(found, columns).score)
        twice = theirs.corpus_score([found[0]] * 2 + [found[1]], [[c[0], c[0], c[1]] for c in columns]).score
        assert mine(rows)(np.array([[2.0, 1.0, 0.0]]))[0] == pytest.approx(twice)


def test_rouge_l_takes_the_reference_that_fits_best():
    pytest.importorskip("rouge_score")
    row = Written("the cat sat", ("the cat sat down here", "something else"))
    precision, recall = 1.0, 3 / 5
    assert statistics.once(writing.rouge_l([row]), 1) == pytest.approx(2 * precision * recall / (precision + recall))


def test_a_measure_whose_library_is_missing_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"rouge_l: needs rouge_score; pip install 'gptjax\[judge\]'"):
        writing.require_installed(("exact_match", "rouge_l"))
    writing.require_installed(("exact_match",))


def test_shots_show_the_first_reference(tmp_path):
    train = tmp_path / "train.jsonl"
    train.write_text(json.dumps({"question": "two", "answer": "aa"}) + "\n")
    task = asked(tmp_path, ("one", "aaaaaa"), shots=Shots(count=1, seeds=(0, 1), data=str(train), separator="\n"))
    assert task.fronts() == ["two: aa\n", "two: aa\n"]
    found = judged(task, liking("a"))
    assert found.results[0]["found"] == ["aaaaaa", "aaaaaa"]
    assert found.measures["exact_match"].by_seed == (1.0, 1.0)


def test_drawn_texts_repeat_with_their_seed(tmp_path):
    from gptjax.infer.sample import Decoding

    def texts(seed):
        task = asked(tmp_path, ("one", "x"), ("two", "x"), decoding=Decoding(), seed=seed)
        return [row["found"] for row in judged(task, liking("abcdefgh")).results]

    assert texts(0) == texts(0) != texts(1)


def test_what_makes_no_sense_is_refused_at_birth(tmp_path):
    for wrong, message in (
        ({"references": ("{x",)}, "references='{x' is no template"),
        ({"measures": ()}, "measures is empty"),
        ({"stop": ("",)}, "stop has an empty text"),
        ({"max_tokens": 0}, "max_tokens=0 must be positive"),
    ):
        with pytest.raises(ConfigError, match=message):
            asked(tmp_path, **wrong)


def test_a_subject_of_few_rows_writes_the_same(tmp_path):
    task = asked(tmp_path, *[("q" * i, "x") for i in range(1, 8)])
    alone = task.build(SUBJECT._replace(rows=1))(liking("a"), lambda: None)
    assert alone.results == judged(task, liking("a")).results
