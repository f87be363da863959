"""Tokens of any tokenizer laid onto the words of the text, so that models of different vocabularies can be compared.

A word is what stands between white space, the white space before it included; a document's last white space and its
end-of-text token are a word of their own. The nats of a word are those of the tokens that end in it: a token belongs to
the word of its last character that is no white space, and white space alone to the word behind it. So what a line's end
costs moves between neighbours where one tokenizer has it in the word before ("end.\\n") and another by itself; sums
over the text are exact.
"""

import re
from collections.abc import Sequence

import numpy as np

from gptjax.data.errors import DataError

_WORD = re.compile(r"\s*\S+|\s+$")


def words(text: str) -> list[str]:
    """The words of a document, each with the white space before it; they spell the document again.

    The last is the white space at its end, empty where there is none.
    """
    found = _WORD.findall(text)
    return found if found and found[-1].isspace() else [*found, ""]


def word_of(pieces: Sequence[str], words: Sequence[str], name: str) -> np.ndarray:
    """The word that each token of a document belongs to, ascending: [N] int64.

    `pieces` is what each token shows as, nothing for a token that stands for no text. White space may differ (some
    tokenizers add or drop it), all else must not: raises `DataError`, naming the run, for a tokenizer that does not
    spell the text again (unknown words, lower case).
    """
    marks = ["".join(piece.split()) for piece in pieces]
    spelled, text = "".join(marks), "".join("".join(word.split()) for word in words)
    if spelled != text:
        raise DataError(_unlike(spelled, text, name))
    ends_W = np.cumsum([len("".join(word.split())) for word in words[:-1]], dtype=np.int64)
    lengths_N = np.array([len(mark) for mark in marks], np.int64)
    ends_N = np.cumsum(lengths_N)
    # A token that shows as white space or nothing leads on to the word of the next character.
    last_N = np.where(lengths_N > 0, ends_N - 1, ends_N)
    return np.searchsorted(ends_W, last_N, side="right")


def _unlike(spelled: str, text: str, name: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(spelled, text, strict=False)) if a != b), min(len(spelled), len(text)))
    near, there = text[at : at + 20], spelled[at : at + 20]
    return (
        f"{name}: its tokenizer does not spell the text again ({near!r} becomes {there!r}), so its costs cannot be "
        "laid onto words; compare it with a run of the same tokenizer"
    )
