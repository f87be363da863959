"""Where the vocabulary lies in the parameters of a language model, and putting other rows there."""

from typing import Any

import jax
import numpy as np

from gptjax.types import Params

AXIS = {"embed/tokens": 0, "head/kernel": 1, "head/bias": 0}
"""The axis of V in the parameters that have one, by path."""


def rearranged(params: Params, ids_V: np.ndarray) -> Params:
    """Host arrays in which id i means what id ids_V[i] meant; nothing, with zeros, where that is negative."""

    def pick(key_path: tuple[Any, ...], value: Any) -> np.ndarray:
        array = np.asarray(value)
        axis = AXIS.get(jax.tree_util.keystr(key_path, simple=True, separator="/"))
        if axis is None:
            return array
        known_V = (ids_V >= 0).reshape([-1 if axis == n else 1 for n in range(array.ndim)])
        return np.where(known_V, np.take(array, np.maximum(ids_V, 0), axis=axis), np.zeros((), array.dtype))

    return jax.tree_util.tree_map_with_path(pick, params)
