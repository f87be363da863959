"""Word vectors are judged by people's scores and by analogies, and what cannot be asked is counted."""

import numpy as np
import pytest

from gptjax.data.errors import DataError
from gptjax.evals import similarity
from gptjax.evals.similarity import Analogy, Pair

WORDS = ("king", "queen", "man", "woman", "apple")
VECTORS = np.array([[2, 0, 1], [2, 1, 0], [0.1, 0, 1], [0.1, 1, 0], [-1, 0, 0.1]], np.float32)
TABLE = similarity.table(WORDS, VECTORS)


def test_agreement_is_the_rank_correlation_of_covered_pairs():
    judged = [Pair("king", "queen", 9), Pair("king", "apple", 1), Pair("man", "king", 5), Pair("man", "pear", 3)]
    found = similarity.agreement(TABLE, judged)
    assert found == {"spearman": pytest.approx(1.0), "covered": 3, "pairs": 4}
    turned = [Pair(p.first, p.second, -p.score) for p in judged]
    assert similarity.agreement(TABLE, turned)["spearman"] == pytest.approx(-1.0)
    with pytest.raises(DataError, match="of 1 pairs 0 have vectors"):
        similarity.agreement(TABLE, [Pair("pear", "plum", 3)])


def test_equal_cosines_share_their_rank():
    table = similarity.table(("a", "b", "c"), np.eye(3, dtype=np.float32))
    judged = [Pair("a", "b", 1), Pair("a", "c", 2), Pair("b", "c", 3)]
    assert similarity.agreement(table, judged)["spearman"] == 0.0


def test_analogies_are_answered_by_sums_of_unit_vectors_without_the_words_given():
    asked = [
        Analogy("family", ("man", "king", "woman", "queen")),
        Analogy("family", ("man", "king", "woman", "apple")),
        Analogy("fruit", ("man", "king", "woman", "pear")),
    ]
    assert similarity.answered(TABLE, asked) == {
        "family": {"accuracy": 0.5, "asked": 2, "questions": 2},
        "fruit": {"accuracy": 0.0, "asked": 0, "questions": 1},
        "total": {"accuracy": 0.5, "asked": 2, "questions": 3},
    }


def test_a_word_of_the_question_is_never_the_answer():
    vectors = np.array([[1, 0], [1, 0.02], [0, 1], [-0.1, 1], [1, 1]], np.float32)
    table = similarity.table(("a", "b", "c", "d", "e"), vectors)  # b - a + c is nearest to c itself, b + c to e
    assert similarity.answered(table, [Analogy("s", ("a", "b", "c", "d"))])["total"]["accuracy"] == 1.0
    assert similarity.answered(table, [Analogy("s", ("a", "b", "c", "c"))])["total"]["accuracy"] == 0.0


def test_analogies_of_equal_vectors_are_all_wrong():
    constant = similarity.table(WORDS, np.ones((5, 3), np.float32))
    asked = [Analogy("family", ("king", "man", "queen", "woman"))]
    assert similarity.answered(constant, asked)["total"]["accuracy"] == 0.0


def test_answers_do_not_depend_on_how_many_are_asked_at_once(monkeypatch):
    random = np.random.default_rng(0)
    words = tuple(f"w{i}" for i in range(12))
    table = similarity.table(words, random.normal(size=(12, 3)).astype(np.float32))
    asked = [Analogy("s", tuple(words[i] for i in random.permutation(12)[:4])) for _ in range(60)]
    once = similarity.answered(table, asked)
    assert 0 < once["total"]["accuracy"] < 1
    monkeypatch.setattr(similarity, "TILE", 7)
    assert similarity.answered(table, asked) == once


def test_nearest_words_are_those_with_the_highest_cosine():
    assert [word for word, _ in similarity.nearest(TABLE, "king", 2)] == ["queen", "man"]
    assert similarity.nearest(TABLE, "king", 1)[0][1] == pytest.approx(0.8)
    assert len(similarity.nearest(TABLE, "king", 9)) == 4
    with pytest.raises(DataError, match="'pear' has no vector"):
        similarity.nearest(TABLE, "pear", 2)


def test_a_flat_map_keeps_the_distances_of_points_on_a_plane():
    random = np.random.default_rng(0)
    flat = random.normal(size=(6, 2)) @ np.linalg.qr(random.normal(size=(4, 2)))[0].T
    table = similarity.Table(tuple("abcdef"), flat.astype(np.float32), {w: i for i, w in enumerate("abcdef")})
    found = similarity.plane(table, "abcdef")

    def distances(points):
        return np.linalg.norm(points[:, None] - points[None], axis=-1)

    np.testing.assert_allclose(distances(found), distances(flat), atol=1e-6)
    assert found[:, 0].var() >= found[:, 1].var()


def test_files_are_read_and_wrong_lines_named(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("Tiger\tcat\t7.35\n\nlove  sex 6.77\n")
    assert similarity.pairs(path, lowercase=True) == [Pair("tiger", "cat", 7.35), Pair("love", "sex", 6.77)]
    path.write_text(": Capitals\nAthens Greece Baghdad Iraq\n")
    assert similarity.analogies(path, lowercase=False) == [Analogy("Capitals", ("Athens", "Greece", "Baghdad", "Iraq"))]
    with pytest.raises(DataError, match=r"pairs.txt:1: ': Capitals' is not two words and a number"):
        similarity.pairs(path, lowercase=False)
    path.write_text("a b c\n")
    with pytest.raises(DataError, match=r"pairs.txt:1: 'a b c' is not four words"):
        similarity.analogies(path, lowercase=False)
    path.write_text("\n")
    with pytest.raises(DataError, match="holds no pair"):
        similarity.pairs(path, lowercase=False)


def test_vectors_without_direction_or_number_are_no_trouble_or_refused():
    zeros = similarity.table(("a", "b"), np.array([[0.0, 0.0], [3.0, 4.0]]))
    np.testing.assert_allclose(zeros.unit_VD, [[0, 0], [0.6, 0.8]], rtol=1e-6)
    with pytest.raises(FloatingPointError):
        similarity.table(("a",), np.array([[np.nan, 1.0]]))
