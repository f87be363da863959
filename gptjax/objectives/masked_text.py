"""BERT's rows: spans of a text between special tokens, some of their tokens masked.

    start A extract                  a span by itself
    start A delimiter B extract      a span and another: its continuation, or the second part of any other piece

The specials are those of `task_text`, so that fine-tuning shows the model what it knows: start is BERT's [CLS], and
delimiter and extract are its [SEP] between and after the texts. Axes beside the alphabet's: K slots of a row for masked
tokens, P pieces of text that a row is made of.
"""

import math
from typing import NamedTuple

import numpy as np

from gptjax.data.errors import DataError
from gptjax.data.stream import uniforms
from gptjax.types import Array, RowSource, TokenSplit

SHOWN_MASK, SHOWN_RANDOM = 0.8, 0.1
"""Of the chosen tokens: shown as the mask, as any token; the rest as themselves."""


class Marks(NamedTuple):
    """Ids of the tokens behind the tokenizer's vocabulary."""

    start: int
    delimiter: int
    extract: int
    mask: int


class MaskedBatch(NamedTuple):
    """Rows with some tokens hidden; every leaf has a leading B."""

    inputs: Array
    """[B, T] int32, padded on the right with 0."""
    lengths: Array
    """[B] int32; tokens of a row that are no padding."""
    slots: Array
    """[B, K] int32; where the hidden tokens stand."""
    targets: Array
    """[B, K] int32; what stands there."""
    weights: Array
    """[B, K] float32; 0 for slots that a row does not use."""
    follows: Array
    """[B] int32; 1 where the second text follows the first."""


class Layout(NamedTuple):
    """How rows are made of a text."""

    context: int
    """T."""
    fraction: float
    """Share of a row's text tokens that are chosen, to the nearest whole number and one at least."""
    pairs: bool
    """Two texts a row."""
    marks: Marks
    text_ids: int
    """Ids below it are text; a token shown as any other is one of these."""
    never: tuple[int, ...]
    """Ids of text that are not chosen: ends of documents."""

    @property
    def room(self) -> int:
        """Text tokens that a row has room for."""
        return self.context - (3 if self.pairs else 2)

    @property
    def slots(self) -> int:
        """K."""
        return math.ceil(self.fraction * self.context)


class _Pieces(NamedTuple):
    starts_P: np.ndarray
    lengths_P: np.ndarray
    firsts_P: np.ndarray
    """The first piece of a piece's document."""
    counts_P: np.ndarray
    """Pieces of its document."""
    shifted: bool
    """Whether each epoch cuts the text at other places."""


def row_source(split: TokenSplit, layout: Layout, documents: bool, seed: int) -> tuple[RowSource, tuple[str, ...]]:
    """Rows of `MaskedBatch`, a pure function of (seed, epoch, row), and notes of what is left out.

    A piece is as much text as a row holds: the next of the running text (each epoch cuts it at another place), or with
    `documents` of one document. Each epoch draws masks, the ends of first texts and other pieces anew. Of the rows with
    pairs half hold a continuation; the other half take the second part of a piece of another document (without
    `documents`, of any other piece), cut as it would be in its own row, so that a second text does not tell by itself
    whose it is. Raises `DataError` where the text has no piece, or only one and pairs are wanted.
    """
    pieces, notes = _pieces(split, layout, documents)
    tokens_N = split.tokens

    def take(indices_B: np.ndarray, epoch: int) -> MaskedBatch:
        draws_BC = uniforms(indices_B, 3 + layout.context + 2 * layout.slots, seed, epoch)
        tokens_BT, text_BT, lengths_B, follows_B = _lay(tokens_N, pieces, layout, indices_B, epoch, draws_BC[:, :3])
        maskable_BT = text_BT & ~np.isin(tokens_BT, layout.never)
        return mask(tokens_BT, maskable_BT, lengths_B, follows_B, layout, draws_BC[:, 3:])

    return RowSource(len(pieces.starts_P), take), notes


def mask(
    tokens_BT: np.ndarray,
    maskable_BT: np.ndarray,
    lengths_B: np.ndarray,
    follows_B: np.ndarray,
    layout: Layout,
    draws_BC: np.ndarray,
) -> MaskedBatch:
    """Choose among the maskable tokens and hide them; `draws_BC` are T + 2 K numbers in [0, 1) a row.

    Of the chosen 80% are shown as the mask, 10% as any token of the text's vocabulary, 10% as they are.
    """
    T, K = layout.context, layout.slots
    order_BT = np.argsort(np.where(maskable_BT, draws_BC[:, :T], 2.0), axis=1, kind="stable")
    slots_BK = order_BT[:, :K].astype(np.int32)
    there_B = maskable_BT.sum(1)
    chosen_B = np.minimum(np.maximum(np.rint(layout.fraction * there_B), 1), there_B)
    used_BK = np.arange(K) < chosen_B[:, None]
    targets_BK = np.take_along_axis(tokens_BT, slots_BK, axis=1)
    how_BK, which_BK = draws_BC[:, T : T + K], draws_BC[:, T + K :]
    any_BK = (which_BK * layout.text_ids).astype(np.int32)
    shown_BK = np.where(how_BK < SHOWN_MASK, layout.marks.mask, targets_BK)
    shown_BK = np.where((how_BK >= SHOWN_MASK) & (how_BK < SHOWN_MASK + SHOWN_RANDOM), any_BK, shown_BK)
    inputs_BT = tokens_BT.copy()
    np.put_along_axis(inputs_BT, slots_BK, np.where(used_BK, shown_BK, targets_BK).astype(np.int32), axis=1)
    return MaskedBatch(inputs_BT, lengths_B, slots_BK, targets_BK, used_BK.astype(np.float32), follows_B)


def _pieces(split: TokenSplit, layout: Layout, documents: bool) -> tuple[_Pieces, tuple[str, ...]]:
    room, least = layout.room, 2 if layout.pairs else 1
    if documents:
        lengths_D = np.diff(split.starts)
        counts_D = -(-lengths_D // room)
        ranks_P = np.arange(counts_D.sum()) - np.repeat(np.cumsum(counts_D) - counts_D, counts_D)
        starts_P = np.repeat(split.starts[:-1], counts_D) + room * ranks_P
        lengths_P = np.minimum(np.repeat(split.starts[1:], counts_D) - starts_P, room)
        of_P = np.repeat(np.arange(len(lengths_D)), counts_D)
    else:
        starts_P = room * np.arange(len(split.tokens) // room)
        lengths_P, of_P = np.full(len(starts_P), room), np.arange(len(starts_P))
    kept = lengths_P >= least
    starts_P, lengths_P, of_P = starts_P[kept], lengths_P[kept], of_P[kept]
    if len(starts_P) < (2 if layout.pairs else 1):
        raise DataError(
            f"a text of {len(split.tokens):,} tokens is too short for rows of {room} text tokens"
            + (" in pairs" if layout.pairs else "")
            + "; give more text or a smaller context"
        )
    if of_P[0] == of_P[-1]:  # one document: its own other pieces are all the others there are
        of_P = np.arange(len(of_P))
    firsts_P = np.searchsorted(of_P, of_P)
    counts_P = np.searchsorted(of_P, of_P, side="right") - firsts_P
    left = len(split.tokens) - int(lengths_P.sum())
    notes = (f"the last {left:,} tokens fill no row and are left out of an epoch",) if left and not documents else ()
    if documents and (dropped := int((~kept).sum())):
        notes = (f"{dropped:,} pieces of documents of fewer than {least} tokens left out",)
    return _Pieces(starts_P, lengths_P, firsts_P, counts_P, not documents), notes


def _lay(
    tokens_N: np.ndarray, pieces: _Pieces, layout: Layout, rows_B: np.ndarray, epoch: int, draws_B3: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(tokens_BT, which of them are text, lengths_B, follows_B)."""
    starts_P, lengths_P, room = pieces.starts_P, pieces.lengths_P, layout.room
    if pieces.shifted:
        offset = int(uniforms(np.zeros(1, np.int64), 1, epoch)[0, 0] * room) if epoch else 0
        starts_P = np.where(starts_P + offset + room <= len(tokens_N), starts_P + offset, 0)
    own_B, columns_T = lengths_P[rows_B], np.arange(layout.context)
    if not layout.pairs:
        first_B, second_B, follows_B = own_B, np.zeros_like(own_B), np.zeros(len(own_B), np.int32)
        starts2_B, lengths_B = starts_P[rows_B], own_B + 2
    else:
        share_B, follows_B = 0.25 + 0.5 * draws_B3[:, 0], (draws_B3[:, 1] < 0.5).astype(np.int32)
        others_B = len(starts_P) - pieces.counts_P[rows_B]
        after_B = pieces.firsts_P[rows_B] + pieces.counts_P[rows_B]
        stranger_B = (after_B + (draws_B3[:, 2] * others_B).astype(np.int64)) % len(starts_P)
        from_B = np.where(follows_B == 1, rows_B, stranger_B)
        first_B, cut_B = (np.maximum((share_B * lengths_P[of]).astype(np.int64), 1) for of in (rows_B, from_B))
        second_B = np.minimum(lengths_P[from_B] - cut_B, room - first_B)
        starts2_B, lengths_B = starts_P[from_B] + cut_B, first_B + second_B + 3
    in_first_BT = (columns_T >= 1) & (columns_T <= first_B[:, None])
    column2_BT = columns_T - first_B[:, None] - 2
    in_second_BT = (column2_BT >= 0) & (column2_BT < second_B[:, None])
    read_BT = np.where(in_first_BT, starts_P[rows_B][:, None] + columns_T - 1, starts2_B[:, None] + column2_BT)
    text_BT = in_first_BT | in_second_BT
    tokens_BT = np.where(text_BT, tokens_N[np.where(text_BT, read_BT, 0)], 0).astype(np.int32)
    tokens_BT[:, 0] = layout.marks.start
    if layout.pairs:
        tokens_BT[np.arange(len(rows_B)), first_B + 1] = layout.marks.delimiter
    tokens_BT[np.arange(len(rows_B)), lengths_B - 1] = layout.marks.extract
    return tokens_BT, text_BT, lengths_B.astype(np.int32), follows_B
