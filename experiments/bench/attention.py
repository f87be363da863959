"""Masked self-attention, forward and backward, against PyTorch: cuDNN for causal rows, FlexAttention for packed ones.

Command      python experiments/bench/attention.py CASE ... [--rounds 7] [--json OUT]
             CASE: causal_1024 causal_4096 packed_4096 on a GPU; causal_cpu packed_cpu causal_rows_cpu packed_rows_cpu
             on a CPU, which JAX_NUM_CPU_DEVICES=2 makes two devices with half of the rows each
Cost         two minutes on an H200; one minute on two CPU cores
Peer         `scaled_dot_product_attention` by cuDNN, on a CPU PyTorch's own flash form; for packed documents
             FlexAttention compiled with a document mask, which has no backward pass on a CPU: there the peer is
             `scaled_dot_product_attention` with the mask as an array
Data         random, in bfloat16 (float32 on a CPU); documents of random lengths, about 8 a row

Values and gradients of all forms must agree before anything is timed. The call that is timed gives the output and the
gradients of queries, keys and values for one random cotangent. `own causal` is gptjax on the same rows without
documents: what skipping blocks that no token may see gains. `own, all rows at once`, on a CPU: what taking them in turn
gains.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from command import options, tell
from interleaved import medians
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from gptjax.attention import Call, Visible, attend, blockwise, choose
from gptjax.cli import guarded
from gptjax.config import ConfigError, Mesh
from gptjax.train import sharding


class Case(NamedTuple):
    """One row of the table."""

    shape: tuple[int, int, int, int]
    """B, T, N, H."""
    documents: int | None
    """About so many in a row; None is one running text."""
    platform: str
    repeats: int
    """Calls of one round, which a GPU is given without waiting for each."""


CASES = {
    "causal_1024": Case((32, 1024, 12, 64), None, "gpu", 20),
    "causal_4096": Case((8, 4096, 12, 64), None, "gpu", 10),
    "packed_4096": Case((8, 4096, 12, 64), 8, "gpu", 10),
    "causal_cpu": Case((4, 1024, 6, 64), None, "cpu", 1),
    "packed_cpu": Case((4, 1024, 6, 64), 8, "cpu", 1),
    "causal_rows_cpu": Case((16, 512, 12, 64), None, "cpu", 1),
    "packed_rows_cpu": Case((16, 512, 12, 64), 8, "cpu", 1),
}
PARITY = {"float32": 1e-4, "bfloat16": 3e-2}
"""Largest difference of any array, as a share of the other's largest value."""
Form = Callable[[int], Any]
"""So many calls, one behind the other; gives output and gradients of the last, when they are there."""


def operands(case: Case) -> tuple[list[np.ndarray], np.ndarray | None]:
    """([q, k, v, cotangent], each [B, T, N, H] float32; segments_BT or None)."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(case.shape, np.float32) for _ in range(4)]
    if case.documents is None:
        return arrays, None
    B, T = case.shape[:2]
    starts_BT = rng.random((B, T)) < (case.documents - 1) / T
    return arrays, 1 + np.cumsum(starts_BT, axis=1, dtype=np.int32)


def ours(
    arrays: list[np.ndarray], segments_BT: np.ndarray | None, dtype: str, mesh: Any, kernel: Callable[..., Any] | None
) -> Form:
    """gptjax's `attend` with the kernel that it chooses by itself or with this, the rows split over the mesh."""
    put = sharding.placer(mesh)
    mix = partial(attend, place=sharding.place(mesh)) if kernel is None else kernel
    visible = Visible(segments_BT=None if segments_BT is None else put(segments_BT))
    q, k, v, cotangent = (put(x.astype(jnp.dtype(dtype))) for x in arrays)

    @jax.jit
    def both(q: jax.Array, k: jax.Array, v: jax.Array, cotangent: jax.Array, visible: Visible) -> Any:
        out, pull = jax.vjp(partial(mix, visible=visible), q, k, v)
        return out, *pull(cotangent)

    def run(calls: int) -> Any:
        for _ in range(calls - 1):
            both(q, k, v, cotangent, visible)
        return jax.block_until_ready(both(q, k, v, cotangent, visible))

    return run


def theirs(case: Case, arrays: list[np.ndarray], segments_BT: np.ndarray | None, dtype: str) -> Form:
    """PyTorch's best for the case, in its layout [B, N, T, H]."""
    device = "cuda" if case.platform == "gpu" else "cpu"
    tensors = [torch.from_numpy(x).to(device, getattr(torch, dtype)).transpose(1, 2).contiguous() for x in arrays]
    cotangent = tensors.pop()
    leaves = [x.requires_grad_() for x in tensors]
    mix = _packed(case, segments_BT, device) if segments_BT is not None else _causal(device)

    def run(calls: int) -> Any:
        for _ in range(calls):
            out = mix(*leaves)
            found = (out, *torch.autograd.grad(out, leaves, cotangent))
        if device == "cuda":
            torch.cuda.synchronize()
        return found

    return run


def _causal(device: str) -> Callable[..., torch.Tensor]:
    backend = SDPBackend.CUDNN_ATTENTION if device == "cuda" else SDPBackend.FLASH_ATTENTION

    def mix(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    return mix


def _packed(case: Case, segments_BT: np.ndarray, device: str) -> Callable[..., torch.Tensor]:
    B, T = case.shape[:2]
    segments = torch.from_numpy(segments_BT).to(device)
    if device == "cpu":
        mask = torch.ones(T, T, dtype=torch.bool).tril() & (segments[:, None, :, None] == segments[:, None, None, :])
        return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    def sees(b: Any, h: Any, i: Any, j: Any) -> Any:
        return (i >= j) & (segments[b, i] == segments[b, j])

    block_mask = create_block_mask(sees, B, None, T, T, device=device)
    return torch.compile(partial(flex_attention, block_mask=block_mask))


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Check parity, then time; one object of results."""
    case = CASES[name]
    platform = jax.default_backend()
    if platform != case.platform:
        raise ConfigError(f"{name}: needs a {case.platform}, and JAX has a {platform}")
    dtype = "bfloat16" if platform == "gpu" else "float32"
    arrays, segments_BT = operands(case)
    mesh = sharding.make_mesh(Mesh(), jax.devices() if platform == "cpu" else jax.devices()[:1])
    forms: dict[str, Form] = {"gptjax": ours(arrays, segments_BT, dtype, mesh, None)}
    forms["torch"] = theirs(case, arrays, segments_BT, dtype)
    pairs = zip(forms["gptjax"](1), forms["torch"](1), strict=True)
    worst = max(_difference(np.asarray(a, np.float32), _numpy(b)) for a, b in pairs)
    if worst > PARITY[dtype]:
        raise ConfigError(f"{name}: values or gradients differ by {worst:.2g} of the largest: nothing to compare")
    if segments_BT is not None:
        forms["own causal"] = ours(arrays, None, dtype, mesh, None)
    if platform == "cpu":
        at_once = partial(blockwise.attend, dropout=0.0, key=None)
        forms["own, all rows at once"] = ours(arrays, segments_BT, dtype, mesh, at_once)
    rounds_of = medians({who: partial(form, case.repeats) for who, form in forms.items()}, rounds)
    seconds = {who: value / case.repeats for who, value in rounds_of.items()}
    _, T, N, H = case.shape
    visible = Visible(segments_BT=segments_BT)
    return {
        "case": name,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "torch": torch.__version__,
        "devices": mesh.size,
        "kernel": choose("auto", sharding.place(mesh), Call(jnp.dtype(dtype), T, T, N, N, H, visible, 0.0)).name,
        "largest_difference": worst,
        "milliseconds": {who: 1e3 * value for who, value in seconds.items()},
        "ratio": {who: value / seconds["gptjax"] for who, value in seconds.items()},
    }


def _numpy(x_BNTH: torch.Tensor) -> np.ndarray:
    return x_BNTH.detach().transpose(1, 2).float().cpu().numpy()


def _difference(found: np.ndarray, other: np.ndarray) -> float:
    return float(np.max(np.abs(found - other)) / np.max(np.abs(other)))


def table(results: list[dict[str, Any]]) -> str:
    """The results in Markdown."""
    lines = ["| case | kernel | form | ms, forward and backward | form / gptjax |", "|---|---|---|---|---|"]
    for found in results:
        for who, value in found["milliseconds"].items():
            lines.append(f"| {found['case']} | {found['kernel']} | {who} | {value:.2f} | {found['ratio'][who]:.2f} |")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Measure, write, print."""
    parser = options(str(__doc__), rounds=7)
    parser.add_argument("cases", nargs="+", choices=CASES)
    asked = parser.parse_args(argv)
    tell([measure(name, asked.rounds) for name in asked.cases], table, asked.json)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
