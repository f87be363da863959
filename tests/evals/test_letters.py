"""Claims about what tokens are by their spelling."""

import numpy as np

from gptjax.evals.letters import KINDS, kinds, powers, sentences

NAMES = list(KINDS)


def named(pieces, documents=None):
    document_U = np.zeros(len(pieces), np.int64) if documents is None else np.array(documents)
    return [NAMES[kind] for kind in kinds(pieces, document_U)]


def test_characters_have_the_class_of_their_place_in_a_word():
    text = "Oh, don't 4x — été\n"
    found = dict(zip(range(len(text)), named(list(text)), strict=True))
    assert found[0] == "capitalised word start"
    assert [found[text.index(c)] for c in "h,n"] == ["inside a word", "punctuation", "inside a word"]
    assert found[text.index("'t") + 1] == "inside a word"
    assert [found[text.index(c)] for c in "4x—é\n"] == [
        "number", "word start", "punctuation", "word start", "white space",
    ]  # fmt: skip


def test_pieces_of_words_are_told_by_their_first_letter_and_what_stands_before():
    pieces = [" The", " un", "believ", "able", " 1st", ".\n", "", "'", "quoted", "'", "s"]
    assert named(pieces) == [
        "capitalised word start", "word start", "inside a word", "inside a word", "number", "punctuation", "no text",
        "punctuation", "word start", "punctuation", "inside a word",
    ]  # fmt: skip


def test_a_word_does_not_go_on_into_the_next_document():
    assert named(["end", "start"], [0, 0])[1] == "inside a word"
    assert named(["end", "start"], [0, 1])[1] == "word start"


def test_sentences_end_at_lines_marks_and_documents():
    pieces = ["One", " 1.5", " is", ".", " Two", '!"', " ", "three", "\n", "\n", "four", "", "five"]
    document_U = np.array([0] * 12 + [1])
    found = sentences(pieces, document_U).tolist()
    assert found == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4]


def test_bins_are_as_wide_as_their_names_say_and_none_is_empty():
    values_U = np.array([0, 1, 2, 3, 4, 5, 9, 16, 1000])
    bin_U, names = powers(values_U, 2)
    assert [names[b] for b in bin_U] == [
        "0", "1", "2", "3 to 4", "3 to 4", "5 to 8", "9 to 16", "9 to 16", "513 to 1,024",
    ]  # fmt: skip
    assert sorted(set(bin_U.tolist())) == list(range(len(names)))
    assert powers(np.array([7]), 10)[1] == ["2 to 10"]
