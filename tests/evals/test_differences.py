"""Claims about where two models differ on a text."""

import json
import math

import numpy as np
import pytest

from gptjax.data.errors import DataError
from gptjax.evals import differences
from gptjax.evals.differences import FILES, Units, by_distance, by_document, by_frequency, by_kind, compare, repeats

TEXT = "".join(f"Line {i} says {i * i % 97}, and no more.\n" for i in range(40))
random = np.random.default_rng(0)
NATS = random.exponential(size=(2, len(TEXT)))
DOCUMENT = np.minimum(np.arange(len(TEXT)) // 300, 3)


def units(nats_2U=NATS):
    return Units("token", list(TEXT), nats_2U, DOCUMENT, len(TEXT))


def labels():
    u, types_U = units(), np.array(list(TEXT))
    return {
        "kind": by_kind(u),
        "frequency": by_frequency(repeats(types_U), "token", "this text"),
        "distance": by_distance(np.arange(len(TEXT)) % 64),
        "source": by_document(DOCUMENT, ["b.txt", "a.txt", "b.txt", "c.txt"]),
    }


@pytest.fixture(scope="module")
def found():
    return compare(units(), labels(), seed=0)


def test_a_model_differs_from_itself_by_exactly_nothing():
    found = compare(units(np.stack([NATS[0], NATS[0]])), labels(), seed=0)
    parts = [found.whole, *(part for b in found.breakdowns for part in b.parts)]
    assert all(part.difference.mean == 0 and part.difference_nats == 0 for part in parts)
    assert found.whole.difference == found.bits_per_byte == (0.0, 0.0, 0.0)
    assert {part.difference.low for part in parts} <= {0.0, None}
    assert found.better == found.worse == []


def test_b_against_a_is_the_negative_of_a_against_b(found):
    back = compare(units(NATS[::-1]), labels(), seed=0)
    pairs = [(found.whole, back.whole)]
    for b, other in zip(found.breakdowns, back.breakdowns, strict=True):
        pairs += zip(b.parts, other.parts, strict=True)
    for part, other in pairs:
        assert (part.nats_a, part.nats_b) == (other.nats_b, other.nats_a)
        mean, low, high = part.difference
        expected = (-mean, None, None) if low is None else (-mean, -high, -low)
        assert tuple(other.difference) == pytest.approx(expected, abs=1e-12)
    assert [(s.first, s.end) for s in found.better] == [(s.first, s.end) for s in back.worse]


def test_the_parts_of_every_breakdown_sum_to_the_whole(found):
    assert [b.title for b in found.breakdowns] == ["kind", "frequency", "distance", "source"]
    for breakdown in found.breakdowns:
        assert len(breakdown.parts) > 1
        for field in ("units", "nats_a", "nats_b", "difference_nats"):
            total = sum(getattr(part, field) for part in breakdown.parts)
            assert total == pytest.approx(getattr(found.whole, field), rel=1e-12), (breakdown.title, field)


def test_the_whole_is_what_likelihood_says(found):
    assert found.whole.nats_a / found.whole.units == pytest.approx(NATS[0].mean())
    expected = (NATS[1] - NATS[0]).sum() / math.log(2) / len(TEXT)
    assert found.bits_per_byte.mean == pytest.approx(expected)


def test_a_planted_difference_is_found_where_it_was_planted():
    is_digit = np.array([c.isdigit() for c in TEXT])
    found = compare(units(np.stack([NATS[0], NATS[0] + 0.5 * is_digit])), labels(), seed=0)
    by_name = {part.name: part.difference for part in found.breakdowns[0].parts}
    assert tuple(by_name.pop("number")) == pytest.approx((0.5, 0.5, 0.5))
    assert all(difference.mean == 0 for difference in by_name.values())


def test_the_sentences_that_changed_most_come_first_and_no_text_comes_twice():
    nats_2U = np.stack([NATS[0], NATS[0]])
    third, fifth = TEXT.index("Line 2 "), TEXT.index("Line 4 ")
    nats_2U[1, third + 3] += 5
    nats_2U[1, fifth + 3] -= 3
    nats_2U[1, fifth + 40] -= 0.25
    found = compare(units(nats_2U), {}, seed=0)
    [worse] = found.worse
    assert TEXT[worse.first : worse.end] == "Line 2 says 4, and no more.\n"
    assert worse.difference_nats == pytest.approx(5)
    assert [round(s.difference_nats, 6) for s in found.better] == [-3, -0.25]
    same = Units("token", list("ab\n" * 20), np.stack([np.zeros(60), np.arange(60.0)]), np.zeros(60, np.int64), 60)
    assert len(compare(same, {}, seed=0).worse) == 1


def test_small_files_of_many_are_one_part():
    sources = [f"{i:02}.txt" for i in range(FILES + 5)]
    document_U = np.repeat(np.arange(FILES + 5), np.r_[np.full(FILES, 9), np.full(5, 2)])
    part_U, names, _ = by_document(document_U, sources)
    assert names[-1] == "5 smaller files"
    assert np.bincount(part_U).tolist() == [9] * FILES + [10]


def test_all_of_it_is_json(found):
    told = json.loads(json.dumps(found.to_json()))
    assert told["whole"]["difference"] == pytest.approx(found.whole.difference.mean)
    assert sum(part["units"] for part in told["breakdowns"]["source"]) == len(TEXT)


def test_costs_that_are_not_finite_and_texts_without_tokens_are_refused():
    bad = NATS.copy()
    bad[1, 7] = np.nan
    with pytest.raises(FloatingPointError, match="is nan"):
        compare(units(bad), {}, seed=0)
    with pytest.raises(DataError, match="no text to compare on"):
        compare(Units("token", [], np.zeros((2, 0)), np.zeros(0, np.int64), 0), {}, seed=0)


def test_sentences_are_bounded():
    assert len(compare(units(), {}, seed=0).worse) <= differences.SENTENCES
