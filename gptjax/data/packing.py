"""From tokens to rows of context + 1 tokens, and from rows to the inputs and targets of next-token prediction.

Axes beside the alphabet's: U = T + 1 columns of a row, P pieces (a document, or a part of one that fits in a row).
"""

import hashlib
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gptjax.data.errors import DataError
from gptjax.types import Batch, Rows, RowSource, TokenSplit


def contiguous(split: TokenSplit, context: int) -> RowSource:
    """Rows cut from the running text, whatever documents they cross, as GPT-1 was trained.

    Row i of an epoch starts at token offset + i * context, so neighbours share one token and each token is predicted
    once, but for the last (N - 1) % context, which fill no row. The offset is 0 in epoch 0 and pseudo-random in
    [0, context) in later ones, so that a text is not always cut at the same places; the row that an offset pushes over
    the end starts at token 0 instead. Segments and weights are all 1.
    Raises `DataError` where the text is shorter than one row.
    """
    tokens_N, width = np.asarray(split.tokens), context + 1
    if len(tokens_N) < width:
        raise DataError(
            f"the split has {len(tokens_N):,} tokens, and a row takes context + 1 = {width:,}; "
            "give more text or a smaller context"
        )
    windows_NU = sliding_window_view(tokens_N, width)

    def take(indices_B: np.ndarray, epoch: int) -> Rows:
        starts_B = indices_B.astype(np.int64) * context + _offset(epoch, context)
        starts_B[starts_B >= len(windows_NU)] = 0
        tokens_BU = windows_NU[starts_B].astype(np.int32)
        return Rows(tokens_BU, np.ones(tokens_BU.shape, np.float32), np.ones(tokens_BU.shape, np.int32))

    return RowSource((len(tokens_N) - 1) // context, take)


def _offset(epoch: int, context: int) -> int:
    digest = hashlib.blake2b(epoch.to_bytes(8, "little"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % context if epoch else 0


def documents(split: TokenSplit, context: int) -> tuple[RowSource, tuple[str, ...]]:
    """Rows of whole documents, packed best fit and kept apart by segments; and notes of what the packing did.

    A document of more than context + 1 tokens is cut into pieces that overlap by one token: each of its tokens but
    the first is predicted once, as in any other document. A document of one token predicts nothing and is left out.
    Rows are the same in every epoch. Raises `DataError` where no document has two tokens.
    """
    starts_D, lengths_D = split.starts[:-1], np.diff(split.starts)
    counts_D = np.maximum(-(-(lengths_D - 1) // context), 0)
    starts_P = np.repeat(starts_D, counts_D) + context * _counting(counts_D)
    ends_P = np.minimum(starts_P + context + 1, np.repeat(split.starts[1:], counts_D))
    if len(starts_P) == 0:
        raise DataError(f"none of {len(lengths_D):,} documents has two tokens, so there is nothing to predict")
    source = _packed(np.asarray(split.tokens), None, starts_P, ends_P - starts_P, context + 1)
    filled = int((ends_P - starts_P).sum()) / (source.rows * (context + 1))
    notes = [f"{len(lengths_D):,} documents packed in {source.rows:,} rows, {filled:.1%} full"]
    if cut := int((counts_D > 1).sum()):
        notes.append(f"{cut:,} documents of more than context + 1 = {context + 1:,} tokens cut into pieces")
    if short := int((counts_D == 0).sum()):
        notes.append(f"{short:,} documents of fewer than two tokens left out: nothing to predict")
    return source, tuple(notes)


def examples(
    tokens: Sequence[np.ndarray],
    weights: Sequence[np.ndarray],
    context: int,
    too_long: Literal["skip", "truncate", "refuse"],
) -> tuple[RowSource, tuple[str, ...]]:
    """Rows of whole examples for fine-tuning, packed best fit; and notes that count all that is left out.

    `weights[i]` has the length of `tokens[i]` and says how much predicting each token counts (0 for a prompt). An
    example of more than context + 1 tokens is left out, cut at its end, or refused with a `DataError`, by `too_long`;
    one without a token that counts is left out. Raises `DataError` where nothing is left.
    """
    width = context + 1
    lengths_D = np.array([len(t) for t in tokens], np.int64)
    if too_long == "refuse" and (lengths_D > width).any():
        first = int(np.argmax(lengths_D > width))
        raise DataError(
            f"example {first + 1} has {lengths_D[first]:,} tokens, and a row takes context + 1 = {width:,}; "
            "raise the context, or choose too_long=truncate or too_long=skip"
        )
    kept_D = np.minimum(lengths_D, width if too_long == "truncate" else lengths_D)
    fits_D = kept_D <= width
    counts_D = np.array([w[1:n].any() for w, n in zip(weights, kept_D, strict=True)], bool)
    chosen = np.flatnonzero(fits_D & counts_D)
    notes = _notes(lengths_D, kept_D, fits_D, counts_D, width)
    if len(chosen) == 0:
        raise DataError(f"no example is left of {len(tokens):,}" + "".join(f"; {note}" for note in notes))
    tokens_N = np.concatenate([tokens[i][: kept_D[i]] for i in chosen.tolist()])
    weights_N = np.concatenate([weights[i][: kept_D[i]] for i in chosen.tolist()]).astype(np.float32)
    starts_P = np.cumsum(kept_D[chosen]) - kept_D[chosen]
    return _packed(tokens_N, weights_N, starts_P, kept_D[chosen], width), notes


def _notes(
    lengths_D: np.ndarray, kept_D: np.ndarray, fits_D: np.ndarray, counts_D: np.ndarray, width: int
) -> tuple[str, ...]:
    notes = []
    if skipped := int((~fits_D).sum()):
        notes.append(f"{skipped:,} of {len(fits_D):,} examples left out: more than context + 1 = {width:,} tokens")
    if dropped := int((lengths_D - kept_D).sum()):
        notes.append(f"{int((lengths_D > kept_D).sum()):,} examples cut at their end, {dropped:,} tokens dropped")
    if silent := int((fits_D & ~counts_D).sum()):
        notes.append(f"{silent:,} of {len(fits_D):,} examples left out: no token to learn from")
    return tuple(notes)


def _packed(
    tokens_N: np.ndarray, weights_N: np.ndarray | None, starts_P: np.ndarray, lengths_P: np.ndarray, width: int
) -> RowSource:
    """Rows of pieces `tokens_N[start : start + length]`; weights None are all 1."""
    rows_P = best_fit(lengths_P, width)
    order_P = np.argsort(rows_P, kind="stable")
    starts_P, lengths_P = starts_P[order_P], lengths_P[order_P]
    counts_R = np.bincount(rows_P)
    firsts_R = np.cumsum(counts_R) - counts_R

    def take(indices_B: np.ndarray, epoch: int) -> Rows:
        counts_B = counts_R[indices_B]
        ranks_Q = _counting(counts_B)
        pieces_Q = np.repeat(firsts_R[indices_B], counts_B) + ranks_Q
        lengths_Q = lengths_P[pieces_Q]
        columns_M = _counting(lengths_Q)
        read_M = np.repeat(starts_P[pieces_Q], lengths_Q) + columns_M
        # A row's pieces stand side by side from column 0: those before this piece's row are whole rows apart.
        before_Q = np.cumsum(lengths_Q) - lengths_Q
        before_Q -= np.repeat(before_Q[ranks_Q == 0], counts_B)
        before_Q += np.repeat(np.arange(len(indices_B)) * width, counts_B)
        write_M = np.repeat(before_Q, lengths_Q) + columns_M
        tokens, weights, segments = (np.zeros(len(indices_B) * width, d) for d in (np.int32, np.float32, np.int32))
        tokens[write_M] = tokens_N[read_M]
        weights[write_M] = 1.0 if weights_N is None else weights_N[read_M]
        segments[write_M] = np.repeat(ranks_Q + 1, lengths_Q)
        return Rows(*(flat.reshape(len(indices_B), width) for flat in (tokens, weights, segments)))

    return RowSource(len(counts_R), take)


def _counting(counts: np.ndarray) -> np.ndarray:
    """0, 1, ... counts[0] - 1, then 0, 1, ... counts[1] - 1, and so on."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def best_fit(lengths_P: np.ndarray, width: int) -> np.ndarray:
    """Which bin of size `width` each piece goes to: best-fit decreasing, whole groups of equal length at a time.

    The longest pieces come first, and each goes where the least space is left over (Ding et al. 2024, "Fewer
    Truncations Improve Language Modeling"). Equal pieces fill one bin after another, so a group takes few steps,
    however large. No length may exceed `width`.
    """
    bins_P = np.empty(len(lengths_P), np.int64)
    order_P = np.argsort(-lengths_P, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(lengths_P[order_P])) + 1, len(lengths_P))
    spaces: list[int] = []
    bins_of: dict[int, np.ndarray] = {}
    opened = 0

    def add(space: int, bins: np.ndarray) -> None:
        if space == 0 or len(bins) == 0:
            return
        if space not in bins_of:
            insort(spaces, space)
        bins_of[space] = np.concatenate([bins_of[space], bins]) if space in bins_of else bins

    for pieces in np.split(order_P, ends[:-1]):
        while len(pieces):
            length = int(lengths_P[pieces[0]])
            found = bisect_left(spaces, length)
            if found == len(spaces):
                new = -(-len(pieces) // (width // length))
                add(width, np.arange(opened, opened + new))
                opened += new
            space = spaces.pop(found)
            bins, each = bins_of.pop(space), space // length
            filled, rest = divmod(min(len(pieces), each * len(bins)), each)
            placed = np.repeat(bins, each)[: filled * each + rest]
            bins_P[pieces[: len(placed)]] = placed
            pieces = pieces[len(placed) :]
            add(space - each * length, bins[:filled])
            add(space - rest * length, bins[filled : filled + 1])
            add(space, bins[filled + 1 :])
    return bins_P


def to_batch(rows: Rows) -> Batch:
    """Inputs, and the tokens that follow them; a target in another document, or in padding, has weight 0.

    Positions are distances from the start of the document's piece in its row. Works on any number of rows.
    """
    inputs_BT, targets_BT = rows.tokens[:, :-1], rows.tokens[:, 1:]
    segments_BU = np.ones_like(rows.tokens) if rows.segments is None else rows.segments
    segments_BT, following_BT = segments_BU[:, :-1], segments_BU[:, 1:]
    columns_T = np.arange(inputs_BT.shape[1], dtype=np.int32)
    if np.all(segments_BU == 1):
        positions_BT, weights_BT = np.broadcast_to(columns_T, inputs_BT.shape), rows.weights[:, 1:]
    else:
        weights_BT = np.where((segments_BT == following_BT) & (following_BT > 0), rows.weights[:, 1:], np.float32(0))
        new_BT = np.diff(segments_BT, axis=1, prepend=0) != 0
        positions_BT = columns_T - np.maximum.accumulate(np.where(new_BT, columns_T, np.int32(0)), axis=1)
    return Batch(*map(np.ascontiguousarray, (inputs_BT, targets_BT, weights_BT, segments_BT, positions_BT)))
