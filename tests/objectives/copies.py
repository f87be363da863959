"""Strings to be copied: pairs whose target is their source."""

import numpy as np

from gptjax.objectives.pairs import PairRows

V, BOS, EOS = 14, 12, 13


def rows_of(generator, rows, columns=8):
    """Random strings of 2 to 6 letters, from 12."""
    lengths_B = generator.integers(2, 7, rows)
    letters_BS = generator.integers(0, 12, (rows, columns))
    real_BS = np.arange(columns) < lengths_B[:, None]
    source_BS = np.where(real_BS, letters_BS, np.where(np.arange(columns) == lengths_B[:, None], EOS, 0))
    target_BU = np.concatenate([np.full((rows, 1), BOS), source_BS], axis=1)
    return PairRows(*(x.astype(np.int32) for x in (source_BS, lengths_B + 1, target_BU, lengths_B + 2)))
