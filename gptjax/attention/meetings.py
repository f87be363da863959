"""Which blocks of queries meet which blocks of keys: what a kernel need never visit, found in O(T) memory.

Axes: I query blocks, J key blocks; a block's meetings are one range [first, last) of the other axis' blocks.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gptjax.attention.visible import Visible
from gptjax.types import Array


class Grid(NamedTuple):
    """Queries and keys cut into blocks of one size each; the last may reach beyond the row."""

    queries: int
    keys: int
    query_block: int
    key_block: int

    @property
    def query_blocks(self) -> int:
        """I."""
        return -(-self.queries // self.query_block)

    @property
    def key_blocks(self) -> int:
        """J."""
        return -(-self.keys // self.key_block)


def by_index(grid: Grid, visible: Visible) -> np.ndarray:
    """[I, J] bool: whether order lets any query of a block see any key of another; True where offsets are not known."""
    first_I, first_J = np.arange(grid.query_blocks) * grid.query_block, np.arange(grid.key_blocks) * grid.key_block
    last_I = np.minimum(first_I + grid.query_block, grid.queries)[:, None] - 1
    last_J = np.minimum(first_J + grid.key_block, grid.keys) - 1
    meet_IJ = np.ones((grid.query_blocks, grid.key_blocks), bool)
    if visible.offsets_B is not None:
        return meet_IJ
    if visible.causal:
        meet_IJ &= first_J <= last_I
    if visible.window is not None:
        meet_IJ &= last_J > first_I[:, None] - visible.window
    return meet_IJ


def by_segment(grid: Grid, segments_BT: Array, key_segments_BS: Array) -> jax.Array:
    """[B, I, J] bool: whether any query of a block may share a segment with any key of another.

    Blocks whose ranges of segments are apart share none, whatever the segments are. Where segments do not decrease
    along a row but for the padding (0) at its end, as rows are packed, no other blocks are let through.
    """
    low_BI, high_BI = _range(segments_BT, grid.query_blocks, grid.query_block)
    low_BJ, high_BJ = _range(key_segments_BS, grid.key_blocks, grid.key_block)
    return (low_BI[:, :, None] <= high_BJ[:, None]) & (low_BJ[:, None] <= high_BI[:, :, None])


def _range(segments_BT: Array, blocks: int, block: int) -> tuple[jax.Array, jax.Array]:
    """The least and the greatest segment of every block, padding counted as the greatest of all."""
    segments_BT = jnp.asarray(segments_BT)
    segments_BT = jnp.where(segments_BT == 0, jnp.iinfo(segments_BT.dtype).max, segments_BT)
    padding = ((0, 0), (0, blocks * block - segments_BT.shape[1]))
    segments_BIT = jnp.pad(segments_BT, padding, mode="edge").reshape(-1, blocks, block)
    return segments_BIT.min(-1), segments_BIT.max(-1)


def ranges(grid: Grid, visible: Visible, of_keys: bool = False) -> tuple[jax.Array, jax.Array]:
    """(first, last), int32 [B or 1, I]: the key blocks [first, last) that hold all that a query block may see.

    With `of_keys` [B or 1, J], the query blocks that hold all that may see a key block. Both 0 where there are none.
    """
    meet_BIJ = jnp.asarray(by_index(grid, visible))[None]
    if visible.segments_BT is not None and visible.keys_segments is not None:
        meet_BIJ = meet_BIJ & by_segment(grid, visible.segments_BT, visible.keys_segments)
    if of_keys:
        meet_BIJ = meet_BIJ.swapaxes(1, 2)
    first = jnp.argmax(meet_BIJ, -1)
    last = meet_BIJ.shape[-1] - jnp.argmax(meet_BIJ[..., ::-1], -1)
    return first.astype(jnp.int32), jnp.where(meet_BIJ.any(-1), last, 0).astype(jnp.int32)
