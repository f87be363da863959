"""Attention on a TPU through JAX's splash kernel: causal, window, documents and grouped heads in O(T) memory.

The kernel visits only the blocks that order lets any query see; documents are told apart inside the blocks. (Based on
Dao, "FlashAttention-2", arXiv 2307.08691.) Compiled for v5e and run interpreted on CPU, but not yet run on a TPU: what
is chosen here was chosen by the instructions and copies that its compiler makes.
"""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gptjax.attention.call import KEPT, Call
from gptjax.attention.visible import Visible

LANES = 128
"""Rows are filled up to a multiple of this many tokens."""
BLOCKS = (512, 384, 256, LANES)
"""Queries, and keys, of one block: the first that divides the filled row, where that is not worth a `LARGE_BLOCK`."""
LARGE_BLOCK = 1024
"""Fewer instructions a score, but more scores that no query needs: less work in all from rows of two such blocks on."""
FUSED_BLOCKS = 8
"""Up to so many blocks of keys one kernel makes all gradients: it multiplies five times a block, two kernels seven. It
writes each block's share of the queries' gradient, in their dtype: longer rows would take more memory than O(T), and
eight shares in bfloat16 already make the rounding error of that gradient a tenth larger. Under a window two kernels
skip blocks that one would have to fill with zeros."""
HEAD_SIZES = (64, 128, 256)
DTYPES = ("bfloat16", "float32")
FILLING = np.iinfo(np.int32).min
"""The segment of tokens that only fill a row up."""


def refusal(call: Call) -> str | None:
    """Why splash cannot serve an attention, or None where it can."""
    visible = call.visible
    if (dtype := jnp.dtype(call.dtype).name) not in DTYPES:
        return f"it computes in {' or '.join(DTYPES)}, not {dtype}"
    if call.head_size not in HEAD_SIZES:
        return f"its head sizes are {', '.join(map(str, HEAD_SIZES))}, not {call.head_size}"
    if visible.offsets_B is not None or visible.key_segments_BS is not None or call.queries != call.keys:
        return "its queries and keys are of the same tokens (no cache)"
    if call.dropout:
        return f"it has no attention dropout, and dropout={call.dropout}"
    return None


def attend(
    q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, visible: Visible, interpret: bool = False
) -> jax.Array:
    """What `dense.attend` gives, of operands that `refusal` lets through; `interpret` runs it anywhere, slowly."""
    _, T, N, H = q_BTNH.shape
    length = T + -T % LANES
    segments_BT = _segments(visible, len(q_BTNH), T, length)
    block = _block(length, q_BTNH.dtype, H, visible)
    fused = length <= FUSED_BLOCKS * block and visible.window is None
    # Heads of 64 would fill half of a TPU's lanes: its products leave tokens last, and the kernel reads them so.
    kernel = _kernel(length, block, N, visible.causal, visible.window, fused, H < LANES, interpret)
    operands = [_heads_first(x, length) for x in (q_BTNH * H**-0.5, k_BSKH, v_BSKH)]
    if segments_BT is not None:
        operands.append(_library().SegmentIds(segments_BT, segments_BT))
    out_BNTH: jax.Array = jax.vmap(kernel)(*operands)
    return out_BNTH.transpose(0, 2, 1, 3)[:, :T]


def _block(length: int, dtype: Any, head_size: int, visible: Visible) -> int:
    """The large one where every TPU has fast memory for it, and where no window would leave most of it out."""
    fits = jnp.dtype(dtype).itemsize == 2 and head_size <= 128 and visible.window is None
    if fits and length % LARGE_BLOCK == 0 and length >= 2 * LARGE_BLOCK:
        return LARGE_BLOCK
    return next(block for block in BLOCKS if length % block == 0)


def _segments(visible: Visible, rows: int, T: int, length: int) -> jax.Array | None:
    """Segments of filled rows, where any query needs them to know what it sees."""
    filling = ((0, 0), (0, length - T))
    if visible.segments_BT is not None:
        return jnp.pad(jnp.asarray(visible.segments_BT, jnp.int32), filling, constant_values=FILLING)
    if visible.causal or length == T:
        return None
    return jnp.pad(jnp.zeros((rows, T), jnp.int32), filling, constant_values=FILLING)


def _heads_first(x_BTNH: jax.Array, length: int) -> jax.Array:
    """[B, T, N, H] -> [B, N, length, H]."""
    return jnp.pad(x_BTNH.transpose(0, 2, 1, 3), ((0, 0), (0, 0), (0, length - x_BTNH.shape[1]), (0, 0)))


def _library() -> Any:
    """JAX's kernel, imported only where it runs: it is of one kind of machine, and slow to import."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel

    return splash_attention_kernel


@lru_cache(maxsize=64)
def _kernel(
    length: int,
    block: int,
    heads: int,
    causal: bool,
    window: int | None,
    fused: bool,
    tokens_last: bool,
    interpret: bool,
) -> Any:
    """The kernel of one row: `kernel(q_NTH, k_KTH, v_KTH, segments)`; which blocks to visit is host arrays in it."""
    splash, masks = _library(), _library().mask_lib
    square = length, length
    mask = masks.FullMask(square)
    if causal:
        mask = masks.CausalMask(square) if window is None else masks.LocalMask(square, (window - 1, 0), 0)
    layout = splash.QKVLayout.SEQ_MINOR if tokens_last else splash.QKVLayout.HEAD_DIM_MINOR
    sizes = splash.BlockSizes(
        block_q=block,
        block_kv=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_q_dq=None if fused else block,
        block_kv_dq=None if fused else block,
        use_fused_bwd_kernel=fused,
        q_layout=layout,
        k_layout=layout,
        v_layout=layout,
    )
    with jax.ensure_compile_time_eval():
        kernel = splash.make_splash_mha(
            masks.MultiHeadMask([mask] * heads),
            block_sizes=sizes,
            head_shards=1,
            q_seq_shards=1,
            residual_checkpoint_name=KEPT,
            interpret=interpret,
        )
    return jax.tree.map(np.asarray, kernel)
