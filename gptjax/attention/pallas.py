"""Attention on an NVIDIA GPU in our own kernel: the masks that cuDNN does not have, in O(T) memory.

Forward and backward visit only the blocks that a token may see: of a causal row half, of a window a band, of packed
documents the squares along the diagonal. The softmax is accumulated over key blocks, and backward recomputes the
weights from each row's logsumexp. (Dao, "FlashAttention-2", arXiv 2307.08691.) Written in Pallas for Triton; compiled
for Hopper and run interpreted on CPU, but not yet run on a GPU: `default_tiles` are not tuned.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl

from gptjax.attention import pallas_kernels as kernels
from gptjax.attention.call import KEPT, Call
from gptjax.attention.meetings import Grid, ranges
from gptjax.attention.visible import Visible
from gptjax.types import Array

HEAD_SIZES = (32, 64, 128)
DTYPES = ("bfloat16", "float16", "float32")


class Tile(NamedTuple):
    """Work of one program: queries and keys of a block (powers of two), warps, and loads in flight."""

    queries: int
    keys: int
    warps: int = 4
    stages: int = 2


class Tiles(NamedTuple):
    """A tile for each of the three kernels."""

    forward: Tile
    backward_queries: Tile
    backward_keys: Tile


def default_tiles(head_size: int, dtype: Any) -> Tiles:
    """Tiles that the compiler fits in a Hopper's registers (in float32, head size 128, but for a few); not timed."""
    if jnp.dtype(dtype).itemsize > 2:
        return Tiles(Tile(64, 32), Tile(64, 32, warps=8), Tile(32, 64, warps=8))
    if head_size <= 64:
        return Tiles(Tile(128, 64, stages=3), Tile(128, 64, warps=8), Tile(64, 128, warps=8))
    return Tiles(Tile(128, 64, warps=8), Tile(64, 64), Tile(64, 128, warps=8))


def refusal(call: Call) -> str | None:
    """Why this kernel cannot serve an attention, or None where it can."""
    if (dtype := jnp.dtype(call.dtype).name) not in DTYPES:
        return f"it computes in {', '.join(DTYPES)}, not {dtype}"
    if call.head_size not in HEAD_SIZES:
        return f"its head sizes are {', '.join(map(str, HEAD_SIZES))}, not {call.head_size}"
    if call.visible.offsets_B is not None:
        return "its queries start at key 0 (no cache)"
    if call.dropout:
        return f"it has no attention dropout, and dropout={call.dropout}"
    return None


def attend(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    visible: Visible,
    interpret: bool = False,
    tiles: Tiles | None = None,
) -> jax.Array:
    """What `dense.attend` gives, of operands that `refusal` lets through; `interpret` runs it on any machine, slowly.

    Sums are float32; products of float32 operands are those of JAX's default precision, as everywhere else.
    """
    tiles = default_tiles(q_BTNH.shape[3], q_BTNH.dtype) if tiles is None else tiles
    return _attend(q_BTNH, k_BSKH, v_BSKH, visible, tiles, interpret)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attend(
    q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visible: Visible, tiles: Tiles, interpret: bool
) -> jax.Array:
    return _forward(q_BTNH, k_BSKH, v_BSKH, visible, tiles, interpret)[0]


def _forward(
    q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visible: Visible, tiles: Tiles, interpret: bool
) -> tuple[jax.Array, Any]:
    B, T, N, _ = q_BTNH.shape
    out = jax.ShapeDtypeStruct(q_BTNH.shape, v_BSKH.dtype), jax.ShapeDtypeStruct((B, N, T), jnp.float32)
    call = _Call(q_BTNH, k_BSKH, v_BSKH, visible, (), interpret)
    out_BTNH, logsum_BNT = checkpoint_name(_by_queries(kernels.forward, call, tiles.forward, out), KEPT)
    return out_BTNH, (q_BTNH, k_BSKH, v_BSKH, visible, out_BTNH, logsum_BNT)


def _backward(tiles: Tiles, interpret: bool, saved: Any, dout_BTNH: jax.Array) -> tuple[Any, ...]:
    q_BTNH, k_BSKH, v_BSKH, visible, out_BTNH, logsum_BNT = saved
    # The sum over keys of weight times its gradient is out . dout.
    delta_BNT = jnp.einsum("BTNH,BTNH->BNT", out_BTNH, dout_BTNH, preferred_element_type=jnp.float32)
    call = _Call(q_BTNH, k_BSKH, v_BSKH, visible, (dout_BTNH, logsum_BNT, delta_BNT), interpret)
    (dq_BTNH,) = _by_queries(kernels.backward_queries, call, tiles.backward_queries, (q_BTNH,))
    dk_BSKH, dv_BSKH = _by_keys(kernels.backward_keys, call, tiles.backward_keys, (k_BSKH, v_BSKH))
    return dq_BTNH, dk_BSKH, dv_BSKH, None


_attend.defvjp(_forward, _backward)


class _Call(NamedTuple):
    """What a kernel reads: the operands of attention, and arrays of its queries, [B, T, N, H] or [B, N, T]."""

    q_BTNH: jax.Array
    k_BSKH: jax.Array
    v_BSKH: jax.Array
    visible: Visible
    rest: tuple[jax.Array, ...]
    interpret: bool


def _by_queries(kernel: Callable[..., None], call: _Call, tile: Tile, out: Sequence[Any]) -> list[jax.Array]:
    """Run a kernel whose every program has one block of the queries of one head, and give arrays of queries."""
    (B, _, N, H), G = call.q_BTNH.shape, call.q_BTNH.shape[2] // call.k_BSKH.shape[2]
    grid = _grid(call, tile)
    keys = grid.key_blocks * tile.keys
    rows = pl.BlockSpec((None, tile.queries, None, H), lambda i, b, n: (b, i, n, 0))
    sums = pl.BlockSpec((None, None, tile.queries), lambda i, b, n: (b, n, i))
    whole = pl.BlockSpec((None, keys, None, H), lambda i, b, n: (b, 0, n // G, 0))
    segments = kernels.Segments(
        pl.BlockSpec((None, tile.queries), lambda i, b, n: (b, i)), pl.BlockSpec((None, keys), lambda i, b, n: (b, 0))
    )
    met = pl.BlockSpec((None, None), lambda i, b, n: (b, i))
    operands = _operands(call, tile, of_keys=False)
    rest = (rows if x.ndim == 4 else sums for x in call.rest)
    specs = kernels.Met(met, met), rows, whole, whole, None if operands[4] is None else segments, *rest
    out_specs = tuple(rows if len(x.shape) == 4 else sums for x in out)
    found = _run(kernel, call, tile, (grid.query_blocks, B, N), operands, specs, _filled(out, tile.queries), out_specs)
    return [x[:, : grid.queries] if x.ndim == 4 else x[:, :, : grid.queries] for x in found]


def _by_keys(kernel: Callable[..., None], call: _Call, tile: Tile, out: Sequence[Any]) -> list[jax.Array]:
    """Run a kernel whose every program has one block of the keys of one key head, and give arrays of keys."""
    (B, _, K, H), G = call.k_BSKH.shape, call.q_BTNH.shape[2] // call.k_BSKH.shape[2]
    grid = _grid(call, tile)
    queries = grid.query_blocks * tile.queries
    rows = pl.BlockSpec((None, tile.keys, None, H), lambda j, b, k: (b, j, k, 0))
    whole = pl.BlockSpec((None, queries, G, H), lambda j, b, k: (b, 0, k, 0))
    sums = pl.BlockSpec((None, G, queries), lambda j, b, k: (b, k, 0))
    segments = kernels.Segments(
        pl.BlockSpec((None, queries), lambda j, b, k: (b, 0)), pl.BlockSpec((None, tile.keys), lambda j, b, k: (b, j))
    )
    met = pl.BlockSpec((None, None), lambda j, b, k: (b, j))
    operands = _operands(call, tile, of_keys=True)
    rest = (whole if x.ndim == 4 else sums for x in call.rest)
    specs = kernels.Met(met, met), whole, rows, rows, None if operands[4] is None else segments, *rest
    found = _run(kernel, call, tile, (grid.key_blocks, B, K), operands, specs, _filled(out, tile.keys), (rows, rows))
    return [x[:, : grid.keys] for x in found]


def _operands(call: _Call, tile: Tile, of_keys: bool) -> tuple[Any, ...]:
    """The arrays of a kernel, filled up with zeros to whole blocks: queries that take and give no gradient."""
    grid, visible = _grid(call, tile), call.visible
    met = kernels.Met(*(jnp.broadcast_to(x, (len(call.q_BTNH), x.shape[1])) for x in ranges(grid, visible, of_keys)))
    segments = None
    if visible.segments_BT is not None and visible.keys_segments is not None:
        segments = kernels.Segments(_fill(visible.segments_BT, tile.queries), _fill(visible.keys_segments, tile.keys))
    rest = [_fill(x, tile.queries) for x in call.rest]
    k_BSKH, v_BSKH = _fill(call.k_BSKH, tile.keys), _fill(call.v_BSKH, tile.keys)
    return met, _fill(call.q_BTNH, tile.queries), k_BSKH, v_BSKH, segments, *rest


def _run(
    kernel: Callable[..., None],
    call: _Call,
    tile: Tile,
    programs: tuple[int, ...],
    operands: tuple[Any, ...],
    specs: tuple[Any, ...],
    out: Sequence[Any],
    out_specs: tuple[Any, ...],
) -> Sequence[jax.Array]:
    from jax.experimental.pallas import triton  # only where it runs: it is of one kind of GPU, and slow to import

    H, visible = call.q_BTNH.shape[3], call.visible
    program = pl.pallas_call(
        partial(kernel, kernels.Row(visible.causal, visible.window, _grid(call, tile), H**-0.5)),
        grid=programs,
        in_specs=specs,
        out_specs=out_specs,
        out_shape=out,
        compiler_params=triton.CompilerParams(num_warps=tile.warps, num_stages=tile.stages),
        interpret=call.interpret,
        name=f"attention_{kernel.__name__}",
    )
    found: Sequence[jax.Array] = jax.jit(program)(*operands)  # JAX drops no bare call whose results nobody reads
    return found


def _grid(call: _Call, tile: Tile) -> Grid:
    return Grid(call.q_BTNH.shape[1], call.k_BSKH.shape[1], tile.queries, tile.keys)


def _fill(x: Array, block: int) -> jax.Array:
    """Zeros behind the queries or keys of [B, T], [B, T, N, H] or [B, N, T], to whole blocks."""
    axis = 2 if x.ndim == 3 else 1
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, -x.shape[axis] % block)
    return jnp.pad(x, widths) if widths[axis][1] else jnp.asarray(x)


def _filled(out: Sequence[Any], block: int) -> list[jax.ShapeDtypeStruct]:
    return [jax.eval_shape(partial(_fill, block=block), x) for x in out]
