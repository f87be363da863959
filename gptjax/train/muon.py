"""Matrices with their singular values brought near 1, which is what Muon does to a momentum.

Newton-Schulz: X <- (a + b A + c A^2) X with A = X X^T, from a Frobenius norm of at most 1, with the coefficients of
Jordan et al. (2024), under which singular values end between about 0.7 and 1.2. The smaller side is squared.
"""

from functools import partial

import jax
import jax.numpy as jnp

from gptjax.train.step import ANYWHERE, Spread

A, B, C = 3.4445, -4.7750, 2.0315


def orthogonalised(matrices: jax.Array, steps: int, spread: Spread = ANYWHERE.spread) -> jax.Array:
    """Each matrix of [..., in, out] by itself, in its dtype; `spread` divides them among devices.

    On a CPU in the dtype that is given, layer after layer; elsewhere in bfloat16, all layers in one batched product.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    wide_LMN = (matrices.mT if tall else matrices).reshape(-1, *sorted(matrices.shape[-2:]))
    forms = {"cpu": partial(_one_by_one, steps, spread), "default": partial(_at_once, steps, spread)}
    out_LMN = jax.lax.platform_dependent(wide_LMN, **forms)
    return (out_LMN.mT if tall else out_LMN).reshape(matrices.shape)


def _at_once(steps: int, spread: Spread, x_LMN: jax.Array) -> jax.Array:
    return spread(partial(_iterated, steps=steps), x_LMN.astype(jnp.bfloat16)).astype(x_LMN.dtype)


def _one_by_one(steps: int, spread: Spread, x_LMN: jax.Array) -> jax.Array:
    M, N = x_LMN.shape[-2:]
    form = partial(_through_gram if N >= 2 * M else _iterated, steps=steps)
    return spread(lambda x_LMN: jax.lax.map(form, x_LMN), x_LMN)


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
