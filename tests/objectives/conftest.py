"""A model that compiles in a moment, and a byte tokenizer, shared by the tests of the objectives."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.data.tokenizers import Bytes
from gptjax.types import Model

WIDTH = 16


def _init(tokens, key):
    embed_key, mix_key = jax.random.split(key)
    embed = 0.3 * jax.random.normal(embed_key, (tokens + 8, WIDTH))
    return {"embed": embed, "mix": 0.3 * jax.random.normal(mix_key, (WIDTH, WIDTH))}


def _features(params, inputs_BT, segments_BT=None, positions_BT=None, key=None):
    """One layer: the mean over what a token sees (its own document, up to itself), then tanh."""
    B, T = inputs_BT.shape
    segments_BT = jnp.ones((B, T), jnp.int32) if segments_BT is None else segments_BT
    positions_BT = jnp.broadcast_to(jnp.arange(T), (B, T)) if positions_BT is None else positions_BT
    x_BTD = params["embed"][inputs_BT] + 0.1 * jnp.sin(positions_BT)[..., None].astype(params["embed"].dtype)
    if key is not None:
        x_BTD = jnp.where(jax.random.bernoulli(key, 0.9, x_BTD.shape), x_BTD / 0.9, 0.0)
    sees_BTS = jnp.tril(segments_BT[:, :, None] == segments_BT[:, None, :])
    mean_BTD = jnp.einsum("BTS,BSD->BTD", sees_BTS / sees_BTS.sum(-1, keepdims=True), x_BTD)
    return jnp.tanh((mean_BTD + x_BTD) @ params["mix"]).astype(params["mix"].dtype)


def _head(tokens, params, features, dtype=jnp.float32):
    logits = features.astype(jnp.float32) @ params["embed"].T.astype(jnp.float32)
    return jnp.where(jnp.arange(logits.shape[-1]) < tokens, logits, -jnp.inf).astype(dtype)


def read_alone(params, ids):
    """The tiny model on one text, in float64 numpy: features_TD, and logits_TV of all ids, padding included."""
    embed, mix = (np.asarray(params[name], np.float64) for name in ("embed", "mix"))
    x_TD = embed[ids] + 0.1 * np.sin(np.arange(len(ids)))[:, None]
    mean_TD = x_TD.cumsum(0) / np.arange(1, len(ids) + 1)[:, None]
    features_TD = np.tanh((mean_TD + x_TD) @ mix)
    return features_TD, features_TD @ embed.T


def _unused(*_):
    raise AssertionError("objectives do not generate")


def build(tokens: int, context: int = 16) -> Model:
    features, head = _features, partial(_head, tokens)

    def apply(params, *args, **kwargs):
        return head(params, features(params, *args, **kwargs))

    return Model(partial(_init, tokens), apply, features, head, _unused, _unused, context, tokens)


@pytest.fixture(scope="session")
def tiny():
    """`tiny(tokens)` is a `Model` with so many tokens and 8 more of vocabulary padding."""
    return build


@pytest.fixture(scope="session")
def model() -> Model:
    return build(24)


@pytest.fixture(scope="session")
def nats_alone():
    """`nats_alone(params, ids, tokens)`: features_TD and the nats of ids[1:], of a text read by itself in float64."""

    def compute(params, ids, tokens):
        features_TD, logits_TV = read_alone(params, ids)
        log_z_T = np.log(np.exp(logits_TV[:-1, :tokens]).sum(-1))
        return features_TD, log_z_T - logits_TV[np.arange(len(ids) - 1), ids[1:]]

    return compute


@pytest.fixture(scope="session")
def tokenizer():
    return Bytes().build(lambda: iter(()))


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = Path(__file__).parents[2].parent / "shared/data"
    if not folder.exists():
        pytest.skip(f"{folder} is not on this machine")
    return folder


@pytest.fixture(scope="session")
def gradient():
    """Of the loss sum: `gradient(objective, params, batch, key) -> (sum, count, metrics, gradient)`."""

    @partial(jax.jit, static_argnums=0)
    def evaluate(loss, params, batch, key):
        def total(params):
            loss_sum, count, metrics = loss(params, batch, key)
            return loss_sum, (count, metrics)

        (loss_sum, (count, metrics)), found = jax.value_and_grad(total, has_aux=True)(params)
        return loss_sum, count, metrics, found

    return lambda objective, params, batch, key=None: evaluate(objective.loss, params, batch, key)


@pytest.fixture(scope="session")
def close():
    """Two pytrees of arrays are equal within float32 tolerance."""

    def check(left, right, rtol=2e-5, atol=1e-6):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), left, right)

    return check
