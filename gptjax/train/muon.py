"""Matrices with their singular values brought near 1, which is what Muon does to a momentum.

Newton-Schulz: X <- (a + b A + c A^2) X with A = X X^T, from a Frobenius norm of at most 1, with the coefficients of
Jordan et al. (2024), under which singular values end between about 0.7 and 1.2. The smaller side is squared.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from gptjax.train.step import ANYWHERE, Layout, Spread
from gptjax.types import Params

A, B, C = 3.4445, -4.7750, 2.0315


def orthogonalised(matrices: Params, steps: int, layout: Layout = ANYWHERE) -> Params:
    """Each matrix of every [..., in, out] by itself, in its dtype; on several devices each has its own to do.

    On a CPU in the dtype that is given, layer after layer; elsewhere in bfloat16, all layers in one batched product.
    """
    forms = {"cpu": partial(_one_by_one, steps, layout), "default": partial(_at_once, steps, layout)}
    return jax.lax.platform_dependent(matrices, **forms)


def _at_once(steps: int, layout: Layout, matrices: Params) -> Params:
    # As parameters lie before and after: else the compiler moves them between devices in float32, twice the bytes.
    low = layout.scatter(jax.tree.map(lambda x: x.astype(jnp.bfloat16), matrices))
    found = layout.scatter(jax.tree.map(partial(_wide, layout.spread, partial(_iterated, steps=steps)), low))
    return jax.tree.map(lambda new, old: new.astype(old.dtype), found, matrices)


def _one_by_one(steps: int, layout: Layout, matrices: Params) -> Params:
    def form(x_LMN: jax.Array) -> jax.Array:
        M, N = x_LMN.shape[-2:]
        return jax.lax.map(partial(_through_gram if N >= 2 * M else _iterated, steps=steps), x_LMN)

    return jax.tree.map(partial(_wide, layout.spread, form), matrices)


def _wide(spread: Spread, form: Callable[[jax.Array], jax.Array], matrices: jax.Array) -> jax.Array:
    """What a form makes of a stack [L, M, N] of wide matrices (M <= N), of matrices [..., in, out] of any shape."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    wide_LMN = (matrices.mT if tall else matrices).reshape(-1, *sorted(matrices.shape[-2:]))
    out_LMN = spread(form, wide_LMN)
    return (out_LMN.mT if tall else out_LMN).reshape(matrices.shape)


def _iterated(x_MN: jax.Array, steps: int) -> jax.Array:
    """The iteration as it is written: 4 M M N + 2 M M M operations a step. Any leading axes will do."""
    for _ in range(steps):
        gram_MM = x_MN @ x_MN.mT
        x_MN = A * x_MN + (B * gram_MM + C * (gram_MM @ gram_MM)) @ x_MN
    return x_MN


def _through_gram(x_MN: jax.Array, steps: int) -> jax.Array:
    """The same from the Gram matrix alone, 4 M M N operations in all and 8 M M M a step: less where N is 2 M or more.

    Every factor P = a + b A + c A^2 is a polynomial in the first A, so they commute: the next A is P A P, and the
    result is the product of all P with X. In float32 it differs by 1e-3 at worst, where X is nearly singular; bfloat16
    would not do.
    """
    gram_MM, product_MM, one_MM = x_MN @ x_MN.mT, None, jnp.eye(x_MN.shape[-2], dtype=x_MN.dtype)
    for step in range(steps):
        factor_MM = A * one_MM + B * gram_MM + C * (gram_MM @ gram_MM)
        product_MM = factor_MM if product_MM is None else factor_MM @ product_MM
        if step < steps - 1:
            gram_MM = factor_MM @ (gram_MM @ factor_MM)
    return x_MN if product_MM is None else product_MM @ x_MN
