"""What the head and the cross-entropy behind it cost: all logits at once, or a tile of tokens at a time.

Command      taskset -c 0 python experiments/bench/head.py [TOKENSxWIDTHxVOCABULARY ...] [--dtype bfloat16] [--peer]
             [--json OUT]; on a GPU: head.py 32768x768x50304 --dtype bfloat16 --tiles 4096 --peer
Cost         two minutes on one CPU core
Peer         with --peer: `linear` and `cross_entropy` under torch.compile (pip install torch)
Expected     tiled: a quarter of the temporary memory of whole or less, at no more than 1.06 times its time; on a CPU
             0.8 of its time, near the three bare products, which are the bound

`plain` is float32 logits and their gradient by differentiation, the reference that the others must equal. The gradient
by features and kernel is timed, interleaved, median of the rounds; on a CPU in CPU seconds of this process: on one core
they are seconds, whoever else is on the machine.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from command import options, tell
from interleaved import medians

from gptjax.cli import guarded
from gptjax.models.gpt import GPT
from gptjax.objectives.head import TileTokens, weighted_nats
from gptjax.objectives.loss import losses

SHAPES = ("8192x384x8192", "2048x768x50304")
ROWS = 8


def forms(width: int, vocabulary: int, tiles: tuple[int, ...]) -> dict[str, Callable[..., Any]]:
    """Name -> (kernel_VD, features_BTD, targets_BT) -> (loss, gradients by the first two)."""
    config = GPT(layers=1, width=width, heads=1, mlp_width=width, context=1)
    model = config.build(vocabulary, vocabulary)

    def plain(kernel_VD: jax.Array, features_BTD: jax.Array, targets_BT: jax.Array) -> jax.Array:
        return jnp.sum(losses(model.head({"embed": {"tokens": kernel_VD}}, features_BTD), targets_BT)[1])

    def head(tile_tokens: TileTokens) -> Callable[..., jax.Array]:
        def total(kernel_VD: jax.Array, features_BTD: jax.Array, targets_BT: jax.Array) -> jax.Array:
            params, weights_BT = {"embed": {"tokens": kernel_VD}}, jnp.ones(targets_BT.shape)
            return weighted_nats(model, params, features_BTD, targets_BT, weights_BT, tile_tokens)[0]

        return total

    def products(kernel_VD: jax.Array, features_BTD: jax.Array, targets_BT: jax.Array) -> Any:
        x_MD = features_BTD.reshape(-1, width)
        logits_MV = x_MD @ kernel_VD.T
        return jnp.float32(0), (logits_MV.T @ x_MD, logits_MV @ kernel_VD)

    totals = {"plain": plain, "whole": head("all"), "auto": head("auto")} | {f"tiled {n}": head(n) for n in tiles}
    grads = {name: jax.value_and_grad(total, argnums=(0, 1)) for name, total in totals.items()}
    return {"three products": products, **grads}


def peer(kernel_VD: jax.Array, features_BTD: jax.Array, targets_BT: jax.Array, dtype: str) -> Callable[[], Any]:
    """PyTorch's loss and gradients by kernel and features, compiled; the call returns when they are there."""
    import torch
    import torch.nn.functional as F

    device = "cuda" if torch.cuda.is_available() else "cpu"
    given = (np.array(x, np.float32) for x in (kernel_VD, features_BTD))
    leaves = [torch.from_numpy(x).to(device, getattr(torch, dtype)).requires_grad_() for x in given]
    targets_M = torch.from_numpy(np.array(targets_BT, np.int64)).to(device).flatten()

    @torch.compile
    def total(kernel: Any, features: Any) -> Any:
        return F.cross_entropy(F.linear(features.flatten(0, 1), kernel).float(), targets_M, reduction="sum")

    def run() -> Any:
        loss = total(*leaves)
        found = loss.detach(), tuple(torch.autograd.grad(loss, leaves))
        if device == "cuda":
            torch.cuda.synchronize()
        return found

    return run


def measure(shape: str, dtype: str, tiles: tuple[int, ...], rounds: int, beside_torch: bool) -> list[dict[str, Any]]:
    """A row of the table for each form."""
    tokens, width, vocabulary = map(int, shape.split("x"))
    keys = jax.random.split(jax.random.key(0), 3)
    kernel_VD = 0.05 * jax.random.normal(keys[0], (vocabulary, width), dtype)
    features_BTD = jax.random.normal(keys[1], (ROWS, tokens // ROWS, width), dtype)
    targets_BT = jax.random.randint(keys[2], features_BTD.shape[:2], 0, vocabulary)
    arguments = kernel_VD, features_BTD, targets_BT
    compiled = {name: jax.jit(f).lower(*arguments).compile() for name, f in forms(width, vocabulary, tiles).items()}
    found = {name: jax.block_until_ready(f(*arguments)) for name, f in compiled.items()}
    timed: dict[str, Callable[[], Any]] = {name: partial(_done, f, arguments) for name, f in compiled.items()}
    if beside_torch:
        timed["torch.compile"] = peer(*arguments, dtype)
        found["torch.compile"] = jax.tree.map(lambda x: x.float().cpu().numpy(), timed["torch.compile"]())
    agree = {name: _difference(value, found["plain"]) for name, value in found.items() if name != "three products"}
    del found
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    seconds = medians(timed, rounds, clock=clock)
    return [
        {
            "shape": shape,
            "dtype": dtype,
            "form": name,
            "milliseconds": 1e3 * seconds[name],
            "temporary_bytes": _temporary_bytes(compiled[name]) if name in compiled else None,
            "difference_from_plain": agree.get(name),
        }
        for name in timed
    ]


def _done(compiled: Any, arguments: Any) -> Any:
    return jax.block_until_ready(compiled(*arguments))


def _temporary_bytes(compiled: Any) -> int:
    return compiled.memory_analysis().temp_size_in_bytes


def _difference(value: Any, reference: Any) -> float:
    """Largest difference of any array from its reference, as a share of the reference's largest value."""
    pairs = zip(jax.tree.leaves(value), jax.tree.leaves(reference), strict=True)
    gaps = ((a.astype(jnp.float32), b.astype(jnp.float32)) for a, b in pairs)
    return max(float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))) for a, b in gaps)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown, times and memory beside those of `whole`."""
    lines = ["| shape | dtype | form | ms | x whole | temporary MiB | x whole |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        (whole,) = [r for r in rows if r["form"] == "whole" and r["shape"] == row["shape"]]
        time_share = row["milliseconds"] / whole["milliseconds"]
        start = f"| {row['shape']} | {row['dtype']} | {row['form']} | {row['milliseconds']:.0f} | {time_share:.2f}"
        if row["temporary_bytes"] is None:
            lines.append(f"{start} |  |  |")
            continue
        memory, share = row["temporary_bytes"] / 2**20, row["temporary_bytes"] / whole["temporary_bytes"]
        lines.append(f"{start} | {memory:.0f} | {share:.2f} |")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Measure, write, print."""
    parser = options(str(__doc__), rounds=5)
    parser.add_argument("shapes", nargs="*", default=SHAPES, metavar="TOKENSxWIDTHxVOCABULARY")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--tiles", type=int, nargs="*", default=(128, 256, 1024), help="tokens of a tile")
    parser.add_argument("--peer", action="store_true", help="beside PyTorch's compiled form")
    asked = parser.parse_args(argv)
    how = asked.dtype, tuple(asked.tiles), asked.rounds, asked.peer
    tell([row for shape in asked.shapes for row in measure(shape, *how)], table, asked.json)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
