"""Claims about tokens that are laid onto the words of a text."""

import numpy as np
import pytest

from gptjax.data.alphabets import ByteCodec
from gptjax.data.errors import DataError
from gptjax.evals.words import word_of, words

TEXT = "  Été in  the\nvalley — 北京 .\n"


def test_words_spell_the_text_again_and_the_last_is_the_white_space_at_its_end():
    assert words(TEXT) == ["  Été", " in", "  the", "\nvalley", " —", " 北京", " .", "\n"]
    assert words("a b") == ["a", " b", ""]
    assert words("\n ") == ["\n "]
    for text in (TEXT, "a b", "\n ", "x"):
        assert "".join(words(text)) == text


def test_every_character_and_every_byte_belongs_to_its_word():
    found = words(TEXT)
    expected = np.repeat(np.arange(len(found)), [len(word) for word in found])
    assert np.array_equal(word_of(list(TEXT), found, "A"), expected)
    pieces = ByteCodec().pieces(np.frombuffer(TEXT.encode(), np.uint8))
    expected = np.repeat(np.arange(len(found)), [len(word.encode()) for word in found])
    assert np.array_equal(word_of(pieces, found, "A"), expected)


def test_a_token_over_a_word_end_belongs_to_the_word_in_which_it_ends():
    assert word_of(["to b", "e or", " ", "not", ""], words("to be or not"), "A").tolist() == [1, 2, 3, 3, 4]


def test_added_white_space_is_no_matter_and_another_spelling_is_refused_in_one_line():
    assert word_of([" Hi", " you", "\n"], words("Hi you"), "A").tolist() == [0, 1, 2]
    with pytest.raises(
        DataError, match=r"^runs/a: its tokenizer does not spell the text again \('You' becomes '<unk>'"
    ):
        word_of(["Hi", " <unk>"], words("Hi You"), "runs/a")
