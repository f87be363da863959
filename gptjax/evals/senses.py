"""Do a word's vectors tell its senses apart? Distances between its occurrences, layer by layer.

A static vector is the same in every sentence: its distances are 0. Axes beside the alphabet's: E occurrences of one
word.
"""

from typing import NamedTuple

import jax
import numpy as np

from gptjax.config import Run
from gptjax.data.errors import DataError
from gptjax.data.tokenizer import Tokenizer
from gptjax.evals.likelihood import refuse_non_finite
from gptjax.types import Params


class Spread(NamedTuple):
    """How far a word's occurrences are from one another; cosine distances, 0 to 2, means over pairs."""

    within_L: np.ndarray
    """Between occurrences of one sense."""
    across_L: np.ndarray
    """Between occurrences of two senses."""
    nearest_L: np.ndarray
    """Share of the occurrences whose nearest other one has the same sense."""


def spread(x_LED: np.ndarray, senses_E: np.ndarray) -> Spread:
    """Of the vectors of one word's occurrences; raises `DataError` unless two senses have two occurrences each."""
    counts = np.unique(senses_E, return_counts=True)[1]
    if len(counts) < 2 or np.min(counts) < 2:
        raise DataError(f"a word needs two senses of two occurrences at least, and there are {counts.tolist()}")
    refuse_non_finite("vector of layer", x_LED)
    unit_LED = x_LED / np.maximum(np.linalg.norm(x_LED, axis=-1, keepdims=True), 1e-30)
    # Rounded, so that a static vector is as far from itself as it should be, and no nearer to one copy than another.
    far_LEE = np.round(1 - unit_LED @ unit_LED.swapaxes(1, 2), 6)
    same_EE, other_EE = senses_E[:, None] == senses_E, ~np.eye(len(senses_E), dtype=bool)
    within_L, across_L = (far_LEE[:, pairs].mean(-1) for pairs in (same_EE & other_EE, ~same_EE))
    nearest_LE1 = np.where(other_EE, far_LEE, np.inf).min(-1, keepdims=True)
    is_nearest_LEE = (far_LEE == nearest_LE1) & other_EE
    # A tie is shared, or a model of constants would pass by the order of the sentences.
    nearest_LE = (is_nearest_LEE & same_EE).sum(-1) / is_nearest_LEE.sum(-1)
    return Spread(within_L, across_L, nearest_LE.mean(-1))


def occurrences(
    run: Run, tokenizer: Tokenizer, params: Params, word: str, sentences: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """(states_LED, static_ED) of the first occurrence of a word in each sentence; `params` are the model's own.

    A word of several tokens is their mean; static is the mean of their embeddings, the same whatever stands around. A
    sentence is read between start and extract by a model that was trained so. Raises `DataError` where a sentence does
    not have the word between spaces, or is longer than the model's context.
    """
    specials = run.objective.specials()
    before, after = ([tokenizer.vocab_size + specials.index(s)] if s in specials else [] for s in ("start", "extract"))
    rows, spans = [], []
    for sentence in sentences:
        ids, first, last = _span(tokenizer, word, sentence)
        rows.append(np.array([*before, *ids, *after], np.int32))
        spans.append((first + len(before), last + len(before)))
    width = max(map(len, rows))
    inputs_BT = np.stack([np.pad(row, (0, width - len(row))) for row in rows])
    segments_BT = (np.arange(width) < np.array([len(row) for row in rows])[:, None]).astype(np.int32)
    states_LBTD = np.asarray(jax.jit(run.model.states)(params, inputs_BT, segments_BT), np.float32)
    table_VD = np.asarray(params["embed"]["tokens"], np.float32)
    states_LED = np.stack([states_LBTD[:, b, i:j].mean(1) for b, (i, j) in enumerate(spans)], axis=1)
    return states_LED, np.stack([table_VD[row[i:j]].mean(0) for row, (i, j) in zip(rows, spans, strict=True)])


def _span(tokenizer: Tokenizer, word: str, sentence: str) -> tuple[np.ndarray, int, int]:
    """Ids of the sentence, and where those of the word begin and end."""
    words = sentence.split(" ")
    if word not in words:
        raise DataError(f"{sentence!r} does not have the word {word!r} between spaces")
    at = words.index(word)
    parts = (words[:at], words[: at + 1], words)
    start, end, ids = (tokenizer.encode(" ".join(part)) if part else np.zeros(0, np.int32) for part in parts)
    if not (np.array_equal(start, ids[: len(start)]) and np.array_equal(end, ids[: len(end)])):
        raise DataError(f"the tokenizer does not part {word!r} from its neighbours in {sentence!r}")
    return ids, len(start), len(end)
