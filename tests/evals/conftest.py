"""A language model that one can compute by hand."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.types import Model, Params, TokenSplit

V, CONTEXT = 7, 8


def _features(params, inputs_BT, segments_BT=None, positions_BT=None, key=None):
    T = inputs_BT.shape[1]
    segments_BT = jnp.ones_like(inputs_BT) if segments_BT is None else segments_BT
    seen_BTS = (segments_BT[:, :, None] == segments_BT[:, None]) & jnp.tri(T, dtype=bool)
    counts_BTV = seen_BTS.astype(jnp.float32) @ jax.nn.one_hot(inputs_BT, V)
    if positions_BT is not None:  # a position that is not the number of tokens before it shows in the features
        counts_BTV += 100.0 * (positions_BT - (counts_BTV.sum(-1) - 1))[..., None]
    return counts_BTV


def _no_cache(*_):
    raise NotImplementedError


def make_bag() -> Model:
    """Logits are a matrix times how often each token occurred in the segment so far: all that is read matters."""
    return Model(
        init=lambda key: {"matrix": jax.random.normal(key, (V, V))},
        apply=lambda params, *args, **kwargs: _features(params, *args, **kwargs) @ params["matrix"],
        features=_features,
        head=lambda params, features, dtype=jnp.float32: (features @ params["matrix"]).astype(dtype),
        cache=_no_cache,
        extend=_no_cache,
        context=CONTEXT,
        vocab_size=V,
    )


def _nats_by_hand(params: Params, read: np.ndarray, target: int) -> float:
    logits = np.bincount(read, minlength=V) @ np.asarray(params["matrix"], np.float64)
    return float(np.log(np.sum(np.exp(logits))) - logits[target])


@pytest.fixture(scope="session")
def bag() -> Model:
    """One object, so that what it compiles is shared."""
    return make_bag()


@pytest.fixture
def new_bag() -> Model:
    """Another object: nothing is compiled for it."""
    return make_bag()


@pytest.fixture(scope="session")
def params() -> Params:
    return make_bag().init(jax.random.key(0))


@pytest.fixture(scope="session")
def by_hand() -> Callable[[Params, np.ndarray, int], float]:
    """-log p(target | the tokens read), in float64."""
    return _nats_by_hand


@pytest.fixture(scope="session")
def split() -> TokenSplit:
    """Documents of 0 to 40 tokens."""
    lengths = np.array([5, 1, 30, 0, 2, 8, 9, 40, 3, 1])
    tokens = np.random.default_rng(0).integers(0, V, lengths.sum()).astype(np.uint16)
    return TokenSplit(tokens, np.concatenate([[0], np.cumsum(lengths)]), 150)
