"""Which attention kernel serves a call: the one asked for by name, or the best that a place has."""

import warnings
from functools import partial
from typing import Literal, NamedTuple, get_args

import jax

from gptjax.attention import blockwise, cudnn, dense, pallas, splash, spread
from gptjax.attention.call import Call
from gptjax.attention.visible import Visible
from gptjax.config import ConfigError
from gptjax.types import Place

Implementation = Literal["auto", "dense", "blockwise", "cudnn", "pallas", "splash"]
IMPLEMENTATIONS = get_args(Implementation)
FUSED = {"gpu": ("cudnn", "pallas"), "tpu": ("splash",)}
"""Kernels of one platform alone, the fastest first."""
SMALL_SQUARE = 128 * 128
"""Queries times keys up to which all scores at once are the faster form on a CPU."""


class Choice(NamedTuple):
    """A kernel, and in words why it was chosen."""

    name: str
    reason: str


def choose(impl: Implementation, place: Place, call: Call) -> Choice:
    """The kernel for a call at a place.

    `auto` takes the first fused kernel of the platform that serves, all scores at once where they are few, and blocks
    otherwise; never T x S memory for long rows. Raises `ConfigError` where a kernel asked for by name cannot serve.
    """
    if impl not in IMPLEMENTATIONS:
        raise ConfigError(f"attention={impl!r} is not one of {', '.join(IMPLEMENTATIONS)}")
    if impl != "auto":
        if reason := refusal(impl, place, call):
            raise ConfigError(f"attention={impl!r} cannot serve here: {reason}; attention='auto' chooses one that can")
        return Choice(impl, "asked for by name")
    refusals: list[str] = []
    for name in FUSED.get(place.platform, ()):
        reason = refusal(name, place, call)
        if reason is None:
            return Choice(name, f"fused on this {place.platform}" + "".join(f"; {said}" for said in refusals))
        refusals.append(f"not {name}: {reason}")
    if call.queries == 1 or (place.platform == "cpu" and call.queries * call.keys <= SMALL_SQUARE):
        return Choice("dense", f"{call.queries} x {call.keys} scores are few")
    return Choice("blockwise", "; ".join(["O(T) memory on any machine", *refusals]))


def refusal(name: str, place: Place, call: Call) -> str | None:
    """Why a kernel cannot serve a call at a place, or None where it can."""
    platform = next((platform for platform, names in FUSED.items() if name in names), None)
    if platform is None:
        return None
    if place.platform != platform:
        return f"it runs on a {platform}, not on a {place.platform}"
    kernel = {"cudnn": cudnn, "pallas": pallas, "splash": splash}[name]
    return kernel.refusal(call) or (None if name == "cudnn" else spread.refusal(place, call))


def attend(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    visible: Visible,
    impl: Implementation = "auto",
    dropout: float = 0.0,
    key: jax.Array | None = None,
    place: Place | None = None,
) -> jax.Array:
    """softmax(q k^T / sqrt(H)) v over the keys that each query sees, out_BTNH in the dtype of v.

    K divides N: query head n reads key head n // (N / K). The softmax is float32. `dropout` drops weights and needs
    `key`; without a key there is none. Where `auto` has no fused kernel on a GPU or TPU it says so once, as a warning.
    Without a place it is one device of JAX's default backend.
    """
    (_, T, N, H), (S, K) = q_BTNH.shape, k_BSKH.shape[1:3]
    if N % K:
        raise ConfigError(f"heads={N} is not divisible by kv_heads={K}")
    dropout = dropout if key is not None else 0.0
    place = Place(jax.default_backend()) if place is None else place
    call = Call(q_BTNH.dtype, T, S, N, K, H, visible, dropout)
    name, reason = choose(impl, place, call)
    if name == "cudnn":
        return cudnn.attend(q_BTNH, k_BSKH, v_BSKH, visible)
    if name in ("pallas", "splash"):
        kernel = partial(pallas.attend if name == "pallas" else splash.attend, interpret=place.interpret)
        return spread.over(place, kernel, q_BTNH, k_BSKH, v_BSKH, visible)
    if impl == "auto" and name == "blockwise" and place.platform in FUSED:
        warnings.warn(f"attention is blockwise: {reason}", RuntimeWarning, stacklevel=2)
    if name == "blockwise" and _in_turn(place, call, q_BTNH):
        return spread.over(place, blockwise.attend_in_turn, q_BTNH, k_BSKH, v_BSKH, visible)
    plain = dense.attend if name == "dense" else blockwise.attend
    return plain(q_BTNH, k_BSKH, v_BSKH, visible, dropout, key)


def _in_turn(place: Place, call: Call, q_BTNH: jax.Array) -> bool:
    """Whether rows may come in turn, on each device of a CPU for itself.

    Left to the compiler, which splits other calls, all rows would come together on every device first.
    """
    if place.platform != "cpu" or call.dropout or spread.refusal(place, call) is not None:
        return False
    return spread.knows(place, q_BTNH) and all(len(x) == len(q_BTNH) for x in jax.tree.leaves(call.visible))
