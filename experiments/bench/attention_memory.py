"""Does attention in blocks take memory that grows with the length, or with its square?

Command      python experiments/bench/attention_memory.py [--json OUT]
Cost         a minute on one CPU core, most of it compilation; nothing is run
Expected     blockwise doubles with the length, packed with documents or not, and dense quadruples

The scratch memory that the compiler plans for value and gradients of one head (size 64, float32) on this machine.
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
    planned = jax.jit(jax.grad(loss, (0, 1, 2))).lower(q, q, q, segments).compile().memory_analysis()
    assert planned is not None, "this machine's compiler plans no memory"
    return float(planned.temp_size_in_bytes) / MIB


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
    """Print the table, and write its numbers where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    asked = parser.parse_args()
    found = rows()
    print(table(found))
    if asked.json is not None:
        asked.json.write_text(json.dumps({"jax": jax.__version__, "mib": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
