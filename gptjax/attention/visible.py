"""Which keys a query sees, described and not built: every attention kernel interprets the same description."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from gptjax.types import Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["segments_BT", "key_segments_BS", "offsets_B"],
    meta_fields=["causal", "window"],
)
@dataclasses.dataclass(frozen=True)
class Visible:
    """Query i of row b stands at key index offsets_B[b] + i and sees a key where all of these agree.

    Order is the index in the row, never the position in a document. A query that sees no key gives zeros.
    """

    causal: bool = True
    """Only keys at or before the query's own index."""
    window: int | None = None
    """Only the last `window` of them, the query's own index included; needs `causal`."""
    segments_BT: Array | None = None
    """Only keys of the query's own segment; None is one segment a row."""
    key_segments_BS: Array | None = None
    """Segments of the keys where they are not the queries' own; None is `segments_BT`, which they need beside them."""
    offsets_B: Array | None = None
    """Key index of each row's first query; None is 0."""

    def __post_init__(self) -> None:
        if self.window is not None and not (self.causal and self.window > 0):
            raise ValueError(f"window={self.window} must be positive and needs causal=True")

    @property
    def keys_segments(self) -> Array | None:
        """Segments of the keys, [B, S], or None."""
        return self.segments_BT if self.key_segments_BS is None else self.key_segments_BS

    def mask(self, queries_T: Array, keys_S: Array, segments_BT: Array | None, key_segments_BS: Array | None) -> Array:
        """What these queries see of these keys, [B or 1, T, S] bool.

        The indices are those in the row; the segments are those of these queries and keys, so that a kernel can ask for
        one block at a time.
        """
        at_BT = queries_T[None] if self.offsets_B is None else self.offsets_B[:, None] + queries_T
        mask_BTS: Array = jnp.ones((1, len(queries_T), len(keys_S)), bool)
        if self.causal:
            mask_BTS = keys_S <= at_BT[:, :, None]
        if self.window is not None:
            mask_BTS &= keys_S > at_BT[:, :, None] - self.window
        if segments_BT is not None and key_segments_BS is not None:
            mask_BTS &= segments_BT[:, :, None] == key_segments_BS[:, None, :]
        return mask_BTS

    def whole_mask(self, queries: int, keys: int) -> Array:
        """The mask of all queries and keys, [B or 1, T, S] bool."""
        return self.mask(jnp.arange(queries), jnp.arange(keys), self.segments_BT, self.keys_segments)
