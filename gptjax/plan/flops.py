"""FLOPs of a traced program: every product counted by its shapes, kernels by what they are known to compute.

Counted before any compiler, for all devices together: recomputation (remat) is in it, loops count as often as they run,
and what nobody reads (gradients of frozen parameters) does not count.
"""

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from jax.interpreters import partial_eval

KERNELS = (
    (r"backward_queries|_dq", 3),
    (r"backward_keys|_dkv", 4),
    (r"bwd", 5),
    (r"", 2),
)
"""Name of an attention kernel, and how many T x S x H products it makes a head: forward q k^T and p v; backward the
scores again, dp = do v^T and dq = ds k, or dk = ds^T q and dv = p^T do, or all five at once (Dao, arXiv 2307.08691)."""
FUSED = re.compile(r"pallas_call|dot_product_attention_(fwd|bwd)")


class Flops(NamedTuple):
    """Floating-point operations of one update, all devices together; a multiplication and its addition are two."""

    products: float
    """Of matrix products."""
    kernels: float
    """Of fused attention kernels, each query's visible keys only."""

    @property
    def all(self) -> float:
        """Of both."""
        return self.products + self.kernels

    def __add__(self, other: Any) -> "Flops":
        return Flops(self.products + other.products, self.kernels + other.kernels)

    def times(self, count: float) -> "Flops":
        """So many of them."""
        return Flops(self.products * count, self.kernels * count)


NONE = Flops(0.0, 0.0)


def count(jaxpr: Any, seen: float, platform: str) -> Flops:
    """FLOPs of a jaxpr lowered for a platform (cpu, cuda, tpu); attention kernels' queries see `seen` keys on average.

    A branch that the data choose counts as the costliest; a loop whose length only the data know counts once, and
    training has none.
    """
    read, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))
    return _count(read, seen, platform)


def _count(jaxpr: Any, seen: float, platform: str) -> Flops:
    total = NONE
    for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        name = eqn.primitive.name
        if name == "dot_general":
            total += Flops(_product(eqn), 0.0)
        elif FUSED.match(name):
            total += Flops(0.0, _kernel(eqn, seen))
        elif name == "cond":
            total += max((_count(branch, seen, platform) for branch in _branches(eqn, platform)), key=lambda f: f.all)
        else:
            for inner in _inner(eqn):
                total += _count(inner, seen, platform).times(_repeats(eqn))
    return total


def _branches(eqn: Any, platform: str) -> tuple[Any, ...]:
    """All branches, or the platform's where each is one platform's."""
    meant, branches = eqn.params.get("branches_platforms"), eqn.params["branches"]
    if meant is None:
        return branches
    return (branches[next(i for i, names in enumerate(meant) if names is None or platform in names)],)


def _product(eqn: Any) -> float:
    (contract, _), _ = eqn.params["dimension_numbers"]
    contracted = math.prod(eqn.invars[0].aval.shape[axis] for axis in contract)
    return 2.0 * math.prod(eqn.outvars[0].aval.shape) * contracted


def _kernel(eqn: Any, seen: float) -> float:
    """The first array of rank 3 or more is the queries."""
    queries = next(v.aval for v in eqn.invars if v.aval.ndim >= 3 and v.aval.dtype.kind not in "iub")
    name = f"{eqn.primitive.name} {eqn.params.get('name') or eqn.params.get('name_and_src_info', '')}"
    made = next(products for pattern, products in KERNELS if re.search(pattern, name))
    # Each block of keys' share of dq: the kernel makes all three gradients.
    made += any(out.aval.ndim > queries.ndim for out in eqn.outvars)
    return 2.0 * made * math.prod(queries.shape) * seen


def _repeats(eqn: Any) -> float:
    if eqn.primitive.name == "scan":
        return eqn.params["length"]
    if eqn.primitive.name == "shard_map":  # inside it shapes are one device's
        return (
            math.prod(eqn.params["mesh"].shape[axis] for axis in eqn.params["manual_axes"])
            if ("manual_axes" in eqn.params)
            else eqn.params["mesh"].size
        )
    return 1.0


def _inner(eqn: Any) -> Iterator[Any]:
    for value in eqn.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if hasattr(getattr(one, "jaxpr", one), "eqns"):
                yield one


def seen(tokens: int, window: int | None, causal: bool) -> float:
    """Keys that a query sees on average; of packed documents, of rows with padding and of translators the most."""
    if not causal:
        return tokens
    span = min(tokens, window or tokens)
    return span - span**2 / (2 * tokens)
