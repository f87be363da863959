"""Does attention in blocks take memory that grows with the length, or with its square?

    python experiments/bench/attention_memory.py --out FOLDER

Compiles value and gradients of one head of attention (size 64, float32) for this machine, runs nothing, and prints the
scratch memory that the compiler plans: blockwise, packed with documents and not, and dense while it is small. Writes
attention_memory.md and attention_memory.json. Seconds on one core. Expected: blockwise doubles with the length, dense
quadruples.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp

from gptjax.attention import Implementation, Visible, attend

LENGTHS = (2048, 4096, 8192, 16384, 32768)
DENSE_UP_TO = 8192
MIB = 2**20


def scratch_mib(impl: Implementation, tokens: int, packed: bool) -> float:
    """Temporary memory of attention, forward and backward, over one row of `tokens`."""

    def loss(q: jax.Array, k: jax.Array, v: jax.Array, segments_BT: jax.Array) -> jax.Array:
        return jnp.sum(attend(q, k, v, Visible(segments_BT=segments_BT if packed else None), impl) ** 2)

    q = jax.ShapeDtypeStruct((1, tokens, 1, 64), jnp.float32)
    segments = jax.ShapeDtypeStruct((1, tokens), jnp.int32)
    compiled = jax.jit(jax.grad(loss, (0, 1, 2))).lower(q, q, q, segments).compile()
    return compiled.memory_analysis().temp_size_in_bytes / MIB


def rows() -> list[dict[str, float | None]]:
    """Scratch memory in MiB, a row for each length."""
    found: list[dict[str, float | None]] = []
    for tokens in LENGTHS:
        row: dict[str, float | None] = {"tokens": tokens}
        row["blockwise"] = scratch_mib("blockwise", tokens, packed=False)
        row["blockwise, packed"] = scratch_mib("blockwise", tokens, packed=True)
        row["dense"] = scratch_mib("dense", tokens, packed=False) if tokens <= DENSE_UP_TO else None
        found.append(row)
    return found


def table(found: list[dict[str, float | None]]) -> str:
    """The rows as Markdown."""
    names = list(found[0])[1:]
    lines = ["| tokens | " + " | ".join(f"{name}, MiB" for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in found:
        cells = ["-" if row[name] is None else f"{row[name]:,.1f}" for name in names]
        lines.append(f"| {row['tokens']:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """The table and its numbers, printed and written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for attention_memory.md and .json")
    out = parser.parse_args().out
    found = rows()
    out.mkdir(parents=True, exist_ok=True)
    (out / "attention_memory.md").write_text(table(found) + "\n", encoding="utf-8")
    (out / "attention_memory.json").write_text(json.dumps({"jax": jax.__version__, "rows": found}) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
