"""The order of training data as arithmetic: the rows of a step are a function of the seed and the step, nothing else.

So a checkpoint holds a step and no iterator, and any number of hosts reads the same global batch. The generator is
written out here, since numpy does not promise that its own gives the same numbers in later versions.
"""

import functools
import hashlib
from collections.abc import Callable, Sequence
from math import isqrt
from typing import Any

import jax
import numpy as np

from gptjax.config import ConfigError
from gptjax.types import Rows, RowSource

BLOCK = 10_000
"""Rows in which a mixture has its exact proportions."""


def stream(
    sources: Sequence[RowSource], weights: Sequence[float], seed: int, rows: int, shard: tuple[int, int] = (0, 1)
) -> Callable[[int], Any]:
    """`batch(step)`: the rows of a step as the sources' `take` gives them, `rows` of them over all hosts.

    Every `BLOCK` consecutive rows of the stream hold the sources in proportion to their weights (largest remainder),
    in pseudo-random order; the rows that fall to a source walk through a pseudo-random permutation of it, a new one
    each epoch. `shard=(i, n)` reads only the i-th of n equal, contiguous parts of the step's rows. A pure function: no
    state, no memory that grows with the data. Raises `ConfigError` where rows do not divide or a weight is too small.
    """
    index, count = shard
    if rows % count:
        raise ConfigError(f"batch_rows={rows} is not divisible by the number of hosts {count}")
    quotas = _quotas(weights)
    part = np.arange(index * (rows // count), (index + 1) * (rows // count))

    def batch(step: int) -> Any:
        sources_B, ranks_B = _mixture(quotas, seed, step * rows + part)
        pieces, places = [], []
        for k in np.unique(sources_B).tolist():
            epochs_B, rests_B = np.divmod(ranks_B, sources[k].rows)
            for epoch in np.unique(epochs_B[sources_B == k]).tolist():
                here = np.flatnonzero((sources_B == k) & (epochs_B == epoch))
                indices = permute(rests_B[here], sources[k].rows, _key(seed, k, epoch))
                pieces.append(sources[k].take(indices, epoch))
                places.append(here)
        if len(pieces) == 1:
            return pieces[0]
        order_B = np.argsort(np.concatenate(places))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[order_B], *pieces)

    return batch


def running(source: RowSource, rows: int, shard: tuple[int, int] = (0, 1)) -> Callable[[int], Rows]:
    """`batch(step)`: rows of contiguous text so that row i of a step continues row i of the step before.

    The text is cut into `rows` lanes of equal length, lane i being row i of every step; `Rows.starts` says how far into
    its lane a row begins, 0 at the first step of every epoch. `shard` is as in `stream`.
    """
    index, count = shard
    if rows % count:
        raise ConfigError(f"batch_rows={rows} is not divisible by the number of hosts {count}")
    length = lane_rows(source, rows)
    lanes_B = np.arange(index * (rows // count), (index + 1) * (rows // count))

    def batch(step: int) -> Rows:
        epoch, place = divmod(step, length)
        taken: Rows = source.take(lanes_B * length + place, epoch)
        starts_B = np.full(len(lanes_B), place * (taken.tokens.shape[1] - 1), np.int32)
        return taken._replace(starts=starts_B)

    return batch


def unread(source: RowSource, rows: int) -> str:
    """A note on what `running` leaves out of an epoch."""
    length = lane_rows(source, rows)
    left = source.rows - length * rows
    return f"running order: {rows} lanes of {length:,} rows; {left:,} of {source.rows:,} rows are left out of an epoch"


def lane_rows(source: RowSource, lanes: int) -> int:
    """Rows of each of so many equal parts of a source; raises `ConfigError` where it is too short.

    The last row of a source is left out: in a shifted epoch it begins the text again.
    """
    length = (source.rows - 1) // lanes
    if length == 0:
        raise ConfigError(
            f"order='running' needs more rows of text than batch_rows={lanes}, and there are {source.rows}; "
            "give more text, a shorter context, or fewer rows"
        )
    return length


def fingerprint(batch: Any) -> str:
    """16 hex digits of a BLAKE2b hash of the batch's values, shapes and dtypes: equal batches, equal fingerprints."""
    digest = hashlib.blake2b(digest_size=8)
    for leaf in jax.tree.leaves(batch):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def permute(indices: np.ndarray, size: int, key: int) -> np.ndarray:
    """A pseudo-random bijection of 0 ... size - 1 chosen by `key`, applied to each index; O(1) memory in `size`.

    A Feistel network over pairs of numbers modulo a and b, with a * b just above size, that is applied again to what
    falls outside (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains").
    """
    a = isqrt(size - 1) + 1
    b = -(-size // a)
    keys = [np.uint64(_key(key, half)) for half in range(8)]
    values = np.array(indices, np.uint64)
    todo = np.arange(len(values))
    while len(todo):
        high, low = np.divmod(values[todo], np.uint64(b))
        for one, other in zip(keys[::2], keys[1::2], strict=True):
            high = (high + _mix(low ^ one) % np.uint64(a)) % np.uint64(a)
            low = (low + _mix(high ^ other) % np.uint64(b)) % np.uint64(b)
        values[todo] = high * np.uint64(b) + low
        todo = todo[values[todo] >= size]
    return values.astype(np.int64)


def uniforms(rows_B: np.ndarray, columns: int, *parts: int) -> np.ndarray:
    """Numbers in [0, 1), float64 [B, columns]: a function of the row's own number, the column and `parts` alone.

    Counter-based: column c of a row is draw c of a splitmix64 generator whose seed is a hash of the row and the parts.
    """
    seeds_B = _mix(rows_B.astype(np.uint64) ^ np.uint64(_key(*parts)))
    steps = np.arange(columns, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (_mix(seeds_B[:, None] + steps) >> np.uint64(11)) * 2.0**-53


def uniform(indices: np.ndarray, *key: int) -> np.ndarray:
    """A pseudo-random number in [0, 1) for each index, chosen by the numbers of `key`: float64 of 32 random bits."""
    mixed = _mix(_mix(np.asarray(indices).astype(np.uint64)) ^ np.uint64(_key(*key)))
    return (mixed >> np.uint64(32)).astype(np.float64) / 2**32


def _quotas(weights: Sequence[float]) -> tuple[int, ...]:
    """Rows of each source in a block: the largest remainders are rounded up."""
    exact = np.array(weights, np.float64) / np.sum(weights) * BLOCK
    quotas = np.floor(exact).astype(int)
    quotas[np.argsort(quotas - exact, kind="stable")[: BLOCK - quotas.sum()]] += 1
    if (quotas == 0).any():
        least = int(np.argmin(exact))
        raise ConfigError(
            f"weight={weights[least]} of corpus {least + 1} is {exact[least] / BLOCK:.2g} of the mixture, "
            f"less than one row in {BLOCK:,}; raise the weight or leave the corpus out"
        )
    return tuple(quotas.tolist())


def _mixture(quotas: tuple[int, ...], seed: int, rows_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The source of each row of the stream, and how many rows of that source came before it."""
    if len(quotas) == 1:
        return np.zeros(len(rows_B), np.int64), rows_B
    blocks_B, places_B = np.divmod(rows_B, BLOCK)
    sources_B, ranks_B = np.empty_like(rows_B), np.empty_like(rows_B)
    for block in np.unique(blocks_B).tolist():
        here = blocks_B == block
        sources, ranks = _block(quotas, _key(seed, block))
        sources_B[here] = sources[places_B[here]]
        ranks_B[here] = block * np.array(quotas)[sources_B[here]] + ranks[places_B[here]]
    return sources_B, ranks_B


@functools.lru_cache(maxsize=4)
def _block(quotas: tuple[int, ...], key: int) -> tuple[np.ndarray, np.ndarray]:
    """The sources of a block's rows in order, and each row's rank among those of its source."""
    sources = np.repeat(np.arange(len(quotas)), quotas)[permute(np.arange(BLOCK), BLOCK, key)]
    ranks = np.empty(BLOCK, np.int64)
    ranks[np.argsort(sources, kind="stable")] = np.concatenate([np.arange(quota) for quota in quotas])
    return sources, ranks


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele et al. 2014): every bit of the input reaches every bit of the output."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _key(*parts: int) -> int:
    """64 bits that depend on all the parts and their order."""
    digest = hashlib.blake2b(",".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
