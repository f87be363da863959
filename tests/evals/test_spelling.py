"""A text that is divided for judging keeps the tokens that it has as a whole."""

import numpy as np
import pytest

from gptjax.data.errors import DataError
from gptjax.data.tokenizers import Bytes, SentencePiece
from gptjax.evals.spelling import spelled

TEXT = "the doctor said that the doctors doctored the old tractor and the captor of the raptor . " * 40


@pytest.fixture(scope="module")
def pieces():
    return SentencePiece(vocab_size=300).build(lambda: iter([TEXT]))


def test_context_and_continuation_are_the_tokens_of_the_whole_text(pieces):
    pairs = [("the doctor said that", " the doctor"), ("the doc", "tors"), ("the old", " tractor and the captor")]
    for (before, after), found in zip(pairs, spelled(pieces, pairs), strict=True):
        whole = pieces.encode(before + after)
        np.testing.assert_array_equal(np.concatenate([found.context, found.continuation]), whole)
        assert found.uniform == 0
        assert found.context.dtype == found.continuation.dtype == np.int32


def test_a_token_across_the_border_is_judged_and_not_read(pieces):
    whole, before = pieces.encode("the doctor"), pieces.encode("the doct")
    assert len(whole) < len(before) + len(pieces.encode("or")), "the tokenizer has not learnt the word"
    (found,) = spelled(pieces, [("the doct", "or and the captor")])
    assert found.context.tolist() == before[: len(found.context)].tolist()
    assert len(found.context) < len(before)
    assert pieces.decode(found.continuation).endswith("doctor and the captor")


def test_a_text_begins_with_its_beginning_or_behind_the_end_of_another():
    begun = Bytes(bos=True, eos=True).build(lambda: iter(()))
    ended = Bytes(bos=False, eos=True).build(lambda: iter(()))
    assert spelled(begun, [("", "ab"), ("a", "b")]) == [
        (pytest.approx([begun.bos_id]), pytest.approx([97, 98]), 0),
        (pytest.approx([begun.bos_id, 97]), pytest.approx([98]), 0),
    ]
    assert spelled(ended, [("", "ab"), ("a", "b")]) == [
        (pytest.approx([ended.eos_id]), pytest.approx([97, 98]), 0),
        (pytest.approx([97]), pytest.approx([98]), 0),
    ]


def test_without_such_tokens_the_first_token_is_read_and_counted_as_unknown():
    plain = Bytes(bos=False, eos=False).build(lambda: iter(()))
    (found,) = spelled(plain, [("", "abc")])
    assert (found.context.tolist(), found.continuation.tolist(), found.uniform) == ([97], [98, 99], 1)
    with pytest.raises(DataError, match="'a': is one token with nothing before it"):
        spelled(plain, [("", "a")])


def test_nothing_is_no_continuation():
    plain = Bytes(eos=True).build(lambda: iter(()))
    with pytest.raises(DataError, match="nothing follows 'abc'"):
        spelled(plain, [("abc", "")])
