"""Sliding windows over units of text (documents, or one running text) so that every token is predicted exactly once.

A window reads at most `context` consecutive tokens of one unit and predicts the token after each. The windows of a unit
start `stride` tokens apart; each scores only the predictions that no earlier window made, so that every one after the
first `context` has at least context - stride + 1 tokens before it. A unit's first token is predicted by no window.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gptjax.config import ConfigError
from gptjax.data.errors import DataError
from gptjax.data.packing import best_fit

WindowRows = tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]
"""(inputs_BT, targets_BT, segments_BT, positions_BT); the last two are None where a row holds one window only."""


class Windows(NamedTuple):
    """W windows, int64, in the order of the rows that they lie in; short windows of several units share a row."""

    starts_W: np.ndarray
    """Index in the text of the first token that is read."""
    lengths_W: np.ndarray
    """Tokens read."""
    scored_W: np.ndarray
    """Predictions that count: the last so many of a window's."""
    rows_W: np.ndarray
    """The row that the window lies in."""
    columns_W: np.ndarray
    """Where in its row it begins."""
    firsts_U: np.ndarray
    """The first token of every unit that has one: no window predicts it."""
    context: int
    """Columns of a row."""

    @property
    def rows(self) -> int:
        """Rows in all."""
        return int(self.rows_W[-1]) + 1 if len(self.rows_W) else 0

    @property
    def shared(self) -> bool:
        """Whether any row holds more than one window, and so needs segments."""
        return self.rows < len(self.rows_W)


def windows(starts: np.ndarray, context: int, stride: int) -> Windows:
    """The windows over the units text[starts[i]:starts[i + 1]]; `starts` is int [units + 1], ascending.

    Raises `ConfigError` where stride is not in 1..context: a larger one would leave tokens out.
    """
    if not 1 <= stride <= context:
        raise ConfigError(f"stride={stride} is not in 1..context={context}; larger strides would skip tokens")
    starts = np.asarray(starts, np.int64)
    predicted_U = np.maximum(np.diff(starts) - 1, 0)
    count_U = np.where(predicted_U > 0, 1 + -(-np.maximum(predicted_U - context, 0) // stride), 0)
    unit_W = np.repeat(np.arange(len(count_U)), count_U)
    nth_W = np.arange(len(unit_W)) - np.repeat(np.cumsum(count_U) - count_U, count_U)
    lengths_W = np.minimum(context, predicted_U[unit_W] - nth_W * stride)
    scored_W = np.where(nth_W == 0, lengths_W, lengths_W - (context - stride))
    rows_W = best_fit(lengths_W, context)
    order_W = np.argsort(rows_W, kind="stable")
    rows_W, lengths_W = rows_W[order_W], lengths_W[order_W]
    before_W = np.cumsum(lengths_W) - lengths_W
    columns_W = before_W - before_W[np.searchsorted(rows_W, rows_W)]
    starts_W = starts[unit_W] + nth_W * stride
    firsts_U = starts[:-1][np.diff(starts) > 0]
    return Windows(starts_W[order_W], lengths_W, scored_W[order_W], rows_W, columns_W, firsts_U, context)


def batches(windows: Windows, tokens: np.ndarray, rows: int, vocab_size: int) -> Iterator[tuple[slice, WindowRows]]:
    """Yield (which windows, their rows) for every `rows` rows in turn; the last batch is filled up with empty rows.

    Raises `DataError` for a token id that is not below `vocab_size`, since a device would not notice.
    """
    for first in range(0, windows.rows, rows):
        low, high = np.searchsorted(windows.rows_W, (first, first + rows))
        chosen = slice(int(low), int(high))
        yield chosen, lay(windows, chosen, first, tokens, rows, vocab_size)


def lay(windows: Windows, chosen: slice, first: int, tokens: np.ndarray, rows: int, vocab_size: int) -> WindowRows:
    """The chosen windows as `rows` rows, of which `first` is the first; int32 arrays."""
    arrays = np.zeros((4, rows, windows.context), np.int32)
    columns = (column[chosen].tolist() for column in windows[:5])
    for number, (start, length, _, row, column) in enumerate(zip(*columns, strict=True), 1):
        text = tokens[start : start + length + 1]
        require_known(text, vocab_size, start)
        here = arrays[:, row - first, column : column + length]
        here[0], here[1], here[2], here[3] = text[:-1], text[1:], number, np.arange(length)
    inputs_BT, targets_BT, segments_BT, positions_BT = arrays
    return (inputs_BT, targets_BT, segments_BT, positions_BT) if windows.shared else (inputs_BT, targets_BT, None, None)


def require_known(tokens: np.ndarray, vocab_size: int, first: int = 0) -> None:
    """Raise `DataError` for an id that is not below `vocab_size`; `first` is where these tokens stand in the text."""
    if tokens.max() >= vocab_size:
        worst = int(np.argmax(tokens >= vocab_size))
        raise DataError(
            f"token {first + worst} has id {tokens[worst]}, but the model's vocabulary has {vocab_size} ids; "
            "encode the text with the model's own tokenizer"
        )


def gather(windows: Windows, chosen: slice, values_BT: np.ndarray, first: int, values_N: np.ndarray) -> None:
    """Put what the chosen windows scored into `values_N`, each at its token; `values_BT` are rows from `first` on."""
    columns = (column[chosen].tolist() for column in windows[:5])
    for start, length, scored, row, column in zip(*columns, strict=True):
        end = start + length + 1
        values_N[end - scored : end] = values_BT[row - first, column + length - scored : column + length]


def read_before(windows: Windows, tokens: int) -> np.ndarray:
    """How many tokens each of a text's was predicted from, [tokens] int64: those of its window that precede it."""
    before_N = np.zeros(tokens, np.int64)
    nth = np.arange(int(windows.scored_W.sum())) - np.repeat(
        np.cumsum(windows.scored_W) - windows.scored_W, windows.scored_W
    )
    first_W = windows.lengths_W + 1 - windows.scored_W
    from_start = np.repeat(first_W, windows.scored_W) + nth
    before_N[np.repeat(windows.starts_W, windows.scored_W) + from_start] = from_start
    return before_N
