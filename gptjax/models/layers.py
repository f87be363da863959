"""The parameterised layers that the model families are built of, and the small functions between them.

Weights are in the compute dtype that the caller passes in; norms and rotary angles are float32 inside.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from gptjax.models.norm import layer_norm
from gptjax.models.products import kept_apart, product, product_by_columns

Initializer = Callable[..., jax.Array]
TRANSPOSED = "transposed"
"""The name of a matrix [features, in] that `Linear` finds in place of its kernel, laid out to be read by columns."""


class Linear(nn.Module):
    """x W + b over the last axis; a policy of rematerialisation knows it by the module's name."""

    features: int
    bias: bool
    init_std: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., in] -> [..., features], in the dtype of x."""
        if self.has_variable("params", TRANSPOSED):
            kernel: jax.Array = self.get_variable("params", TRANSPOSED)
            multiplied = product_by_columns
        else:
            std = nn.initializers.normal(self.init_std)
            kernel = self.param("kernel", std, (x.shape[-1], self.features), jnp.float32)
            multiplied = product
        bias = None
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32).astype(x.dtype)
        out = multiplied(x, kernel.astype(x.dtype), x.dtype, bias)
        return checkpoint_name(out, self.name or "linear")


class Kernel(nn.Module):
    """A matrix by itself, or several alike, under the name by which update rules know matrices.

    For products inside a scan, where Linen modules cannot be called, and for those of many gates at once.
    """

    shape: tuple[int, ...]
    initializer: Initializer

    @nn.compact
    def __call__(self) -> jax.Array:
        """The matrix [..., in, out], float32 where it is new."""
        return self.param("kernel", self.initializer, self.shape, jnp.float32)


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * scale + bias over the last axis. (Ba et al., arXiv 1607.06450.)"""

    eps: float
    bias: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Computed in float32, returned in the dtype of x."""
        scale_D = self.param("scale", nn.initializers.ones, x.shape[-1:], jnp.float32)
        bias_D = self.param("bias", nn.initializers.zeros, x.shape[-1:], jnp.float32) if self.bias else None
        return layer_norm(x, scale_D, bias_D, self.eps)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * scale over the last axis. (Zhang & Sennrich, arXiv 1910.07467.)"""

    eps: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Computed in float32, returned in the dtype of x."""
        x32 = x.astype(jnp.float32)
        out = x32 * jax.lax.rsqrt(jnp.square(x32).mean(-1, keepdims=True) + self.eps)
        out *= self.param("scale", nn.initializers.ones, x.shape[-1:], jnp.float32).astype(jnp.float32)
        return out.astype(x.dtype)


def _squared_relu(x: jax.Array) -> jax.Array:
    return jnp.square(jax.nn.relu(x))


@jax.custom_jvp
def gelu_tanh(x: jax.Array) -> jax.Array:
    """x times the tanh form of the normal distribution function at x. (Hendrycks & Gimpel, arXiv 1606.08415.)"""
    return jax.nn.gelu(x, approximate=True)


def _gelu_slope(x: jax.Array) -> jax.Array:
    """Its derivative, by the sigmoid s(2u) = (1 + tanh u) / 2.

    The tanh of the forward pass is another number to the compiler: a CPU's would write it to memory, a pass of its own
    over the largest array of a layer, and keep it for the backward pass.
    """
    x32 = x.astype(jnp.float32)
    scale, cubic = 2 * (2 / np.pi) ** 0.5, 0.044715
    sigmoid = jax.nn.sigmoid(scale * x32 * (1 + cubic * jnp.square(x32)))
    slope = sigmoid + x32 * sigmoid * (1 - sigmoid) * scale * (1 + 3 * cubic * jnp.square(x32))
    return slope.astype(x.dtype)


gelu_tanh.defjvps(lambda dx, _, x: dx * _gelu_slope(x))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def soft_capped(x: jax.Array, cap: float) -> jax.Array:
    """cap tanh(x / cap), float32 inside, in the dtype of x. (Gemma Team 2024, arXiv 2408.00118, section 2.)"""
    return (cap * jnp.tanh(x.astype(jnp.float32) / cap)).astype(x.dtype)


@soft_capped.defjvp
def _soft_capped_jvp(cap: float, primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The derivative by the result, which is there; by the tanh a GPU would keep a float32 array of all logits."""
    (x,), (dx,) = primals, tangents
    y = kept_apart(soft_capped(x, cap))
    return y, (dx.astype(jnp.float32) * (1 - jnp.square(y.astype(jnp.float32) / cap))).astype(x.dtype)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu_tanh": gelu_tanh,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "relu2": _squared_relu,
    "swiglu": jax.nn.silu,
}
"""Nonlinearity of each kind of MLP; swiglu multiplies it by a second projection."""
GATED = ("swiglu",)


class Mlp(nn.Module):
    """down(activation(up(x))), or down(activation(gate(x)) * up(x)) where gated (Shazeer, arXiv 2002.05202)."""

    width: int
    kind: str
    bias: bool
    init_std: float
    residual_std: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] -> [..., D]."""
        hidden = Linear(self.width, self.bias, self.init_std, name="up")(x)
        if self.kind in GATED:
            gate = Linear(self.width, self.bias, self.init_std, name="gate")(x)
            hidden *= ACTIVATIONS[self.kind](gate)
        else:
            hidden = ACTIVATIONS[self.kind](hidden)
        return Linear(x.shape[-1], self.bias, self.residual_std, name="down")(hidden)


class CausalConv(nn.Module):
    """x_t + sum_j taps_j * x_(t-j) for j < width, each channel by itself and within its document; starts as identity.

    (So et al. 2021, "Primer", put such convolutions behind the projections; here one stands before each branch.)
    """

    width: int

    @nn.compact
    def __call__(self, x_BTD: jax.Array, positions_BT: jax.Array, history_BJD: jax.Array) -> jax.Array:
        """[B, T, D] -> [B, T, D]; history_BJD holds the width - 1 inputs before the row (zeros at its start)."""
        taps_JD = self.param("taps", nn.initializers.zeros, (self.width, x_BTD.shape[-1]), jnp.float32)
        T, seen_BUD = x_BTD.shape[1], jnp.concatenate([history_BJD, x_BTD], axis=1)
        out_BTD = x_BTD
        for j, tap_D in enumerate(taps_JD.astype(x_BTD.dtype)):
            earlier_BTD = jax.lax.slice_in_dim(seen_BUD, self.width - 1 - j, self.width - 1 - j + T, axis=1)
            out_BTD += tap_D * jnp.where((positions_BT >= j)[..., None], earlier_BTD, 0)
        return out_BTD


def rotary_angles(positions_BT: jax.Array, head_size: int, theta: float) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine of every angle, each [B, T, 1, H / 2] float32. (Su et al., arXiv 2104.09864.)"""
    frequencies_H = theta ** (-jnp.arange(0, head_size, 2, dtype=jnp.float32) / head_size)
    angles = positions_BT[:, :, None, None].astype(jnp.float32) * frequencies_H
    return jnp.cos(angles), jnp.sin(angles)


@jax.custom_vjp
def rotate(x_BTNH: jax.Array, angles: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Turn dimensions i and i + H/2 of every head by their angle, the pairing of Llama's weights in transformers.

    The angles have no gradient.
    """
    return jax.lax.platform_dependent(x_BTNH, *angles, tpu=turned_by_product, default=turned)


def _rotate_forward(x_BTNH: jax.Array, angles: Any) -> tuple[jax.Array, Any]:
    return rotate(x_BTNH, angles), angles


def _rotate_backward(angles: Any, dout_BTNH: jax.Array) -> tuple[jax.Array, None]:
    def back_by_product(dout_BTNH: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
        return turned_by_product(dout_BTNH, cos, -sin)

    return jax.lax.platform_dependent(dout_BTNH, *angles, tpu=back_by_product, default=_turned_back), None


rotate.defvjp(_rotate_forward, _rotate_backward)


def _turned_back(dout_BTNH: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    (dx_BTNH,) = jax.linear_transpose(lambda x_BTNH: turned(x_BTNH, cos, sin), dout_BTNH)(dout_BTNH)
    return dx_BTNH


def turned(x_BTNH: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """`rotate` as it is written in books."""
    first, second = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x_BTNH.dtype)


def turned_by_product(x_BTNH: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """The same of finite x, the halves of a head exchanged by a product with a permutation, which is exact.

    A TPU would write the halves apart, in float32, and read them again.
    """
    H = x_BTNH.shape[-1]
    exchange_HH = jnp.roll(jnp.eye(H, dtype=x_BTNH.dtype), H // 2, axis=0)
    other_BTNH = jnp.matmul(
        x_BTNH, exchange_HH, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32
    )
    cos, sin = jnp.concatenate([cos, cos], axis=-1), jnp.concatenate([-sin, sin], axis=-1)
    return (x_BTNH.astype(jnp.float32) * cos + other_BTNH * sin).astype(x_BTNH.dtype)


def run(module: nn.Module, params: Any, *args: Any, method: str | None = None) -> Any:
    """What a module (or a method of it) makes of its arguments with these parameters."""
    return module.apply({"params": params}, *args, method=method)


def subkey(key: jax.Array | None, number: Any) -> jax.Array | None:
    """A key of its own for each place that draws; None stays None."""
    return None if key is None else jax.random.fold_in(key, number)
