"""Claims about the scores of translations."""

import pytest

from gptjax.data.errors import DataError
from gptjax.evals.translation import Translated, summary

LONG = "I do not know what you want me to do with this"


def test_the_right_words_are_worth_everything_and_others_nothing():
    right = Translated(
        "Go away now please, you .", "va-t'en tout de suite je te prie", ("va-t'en tout de suite je te prie",)
    )
    wrong = right._replace(found="zzz qqq xxx www kkk")
    assert summary([right])["all"] == {"sentences": 1, "bleu": pytest.approx(100), "chrf": pytest.approx(100)}
    assert summary([wrong])["all"]["bleu"] < 1
    assert 0 < summary([right, wrong])["all"]["bleu"] < 100


def test_any_of_several_references_is_right_and_sources_may_have_different_numbers():
    one = Translated("a b c", "je ne sais pas du tout", ("je ne sais pas du tout",))
    two = Translated("a b c", "on y va tout de suite", ("allons y de ce pas", "on y va tout de suite"))
    found = summary([one, two])
    assert found["all"]["bleu"] == pytest.approx(100)
    assert "nrefs:var" in found["signatures"]["bleu"]
    alone = summary([one, two._replace(references=two.references[:1])])
    assert alone["all"]["bleu"] < 70


def test_lengths_of_the_source_are_judged_apart():
    texts = [
        Translated("one two three four five", "un deux trois quatre", ("un deux trois quatre",)),
        Translated("one two three four five six", "un deux trois quatre", ("un deux trois quatre",)),
        Translated(LONG, "zzz qqq", ("je ne sais pas ce que tu veux",)),
        Translated("Go", "Va", ("Va",)),
    ]
    found = summary(texts)
    assert [found[name]["sentences"] for name in ("1-5 words", "6-10 words", ">10 words", "all")] == [2, 1, 1, 4]
    assert found["6-10 words"]["bleu"] == pytest.approx(100)
    assert found[">10 words"]["bleu"] < 1
    assert ">10 words" not in summary(texts[:2])


def test_nothing_to_judge_is_refused():
    with pytest.raises(DataError, match="no translations"):
        summary([])
