"""What the units of a text (tokens, or words) are by their spelling alone: no tagger, no word list.

Every function reads what each unit adds to the text, in order. A unit that shows as nothing (a control token, or the
first bytes of a character) is an empty string. Axes beside the alphabet's: U units.
"""

import re
from collections.abc import Sequence

import numpy as np

ENDS = re.compile(r"\n+|(?<=[.!?])[\"'”’)\]]*\s+")
"""Where a sentence ends: at a line's end, or at white space behind a mark that ends one."""

APOSTROPHES = ("'", "’")
"""Between two letters they do not end a word."""

KINDS = {
    "word start": "a lower-case letter with none before it",
    "capitalised word start": "the same, not in lower case",
    "inside a word": "a letter behind a letter, or behind an apostrophe behind one",
    "number": "holds a digit",
    "punctuation": "any other mark",
    "white space": "spaces and line ends alone",
    "no text": "ends of documents, and bytes of an unfinished character",
}
"""Classes of units, and what belongs to each: what a unit's first letter is, where it has letters and no digit."""


def kinds(pieces: Sequence[str], document_U: np.ndarray) -> np.ndarray:
    """The class of each unit, as an index into `KINDS`, [U] int64; a word does not go on into the next document."""
    names, found, before = list(KINDS), np.zeros(len(pieces), np.int64), ""
    begins_U = np.diff(document_U, prepend=document_U[:1]) != 0
    for number, (piece, begins) in enumerate(zip(pieces, begins_U.tolist(), strict=True)):
        before = "" if begins else before
        found[number] = names.index(_kind(piece, before))
        before = (before + piece)[-2:]
    return found


def _kind(piece: str, before: str) -> str:
    """The class of a piece behind the two characters before it."""
    if not piece:
        return "no text"
    if any(c.isdigit() for c in piece):
        return "number"
    first = next((i for i, c in enumerate(piece) if c.isalpha()), None)
    if first is None:
        return "white space" if piece.isspace() else "punctuation"
    head = before + piece[:first]
    if head[-1:] in APOSTROPHES:
        head = head[:-1]
    if head[-1:].isalpha():
        return "inside a word"
    return "word start" if piece[first].islower() else "capitalised word start"


def sentences(pieces: Sequence[str], document_U: np.ndarray) -> np.ndarray:
    """The sentence that each unit lies in, by its last character, numbered from 0: [U] int64.

    A sentence ends with its document, with a line, or where white space follows one of . ! ?
    """
    ends_U = np.cumsum([len(piece) for piece in pieces])
    starts = np.array([match.end() for match in ENDS.finditer("".join(pieces))], np.int64)
    sentence_U = np.searchsorted(starts, np.maximum(ends_U - 1, 0), side="right")
    changes = (np.diff(sentence_U) != 0) | (np.diff(document_U) != 0)
    return np.concatenate([[0], np.cumsum(changes)])


def powers(values_U: np.ndarray, base: int) -> tuple[np.ndarray, list[str]]:
    """(bin_U, names): whole numbers from 0 in bins 0, 1, 2 to base, base + 1 to base^2, ...; only bins that are used.

    So that the bins of frequencies and of distances are few, and equally wide on a logarithmic axis.
    """
    tops = [0, 1]
    while tops[-1] < values_U.max():
        tops.append(tops[-1] * base)
    bin_U = np.searchsorted(tops, values_U)
    used, dense_U = np.unique(bin_U, return_inverse=True)
    low = [0, *(top + 1 for top in tops[:-1])]
    return dense_U, [f"{low[b]:,}" if low[b] == tops[b] else f"{low[b]:,} to {tops[b]:,}" for b in used]
