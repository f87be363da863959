"""What rematerialisation saves and costs: the gradient of a 6-layer GPT, 384 wide, by policy, unrolled and scanned.

Command      taskset -c 0 python experiments/bench/remat.py [--rows N] [--dtype bfloat16] [--json OUT]
Cost         two minutes on one CPU core
Expected     of unrolled layers without remat: dots 0.56 of the memory in 0.94 of the time, mlp 0.45 in 0.97, block 0.24
             in 1.15 (float32, jax 0.10.2). A CPU scans whatever recomputes, so there are no such rows unrolled

Temporary memory is the compiler's own count, the gradient itself left out. Time is interleaved, median of the rounds,
in CPU seconds of this process: on one core they are seconds, whoever else is on the machine.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
from command import options, tell
from interleaved import medians

from gptjax.cli import guarded
from gptjax.config import ModelConfig
from gptjax.models.gpt import GPT
from gptjax.models.stack import REMAT
from gptjax.objectives.causal import Causal
from gptjax.train.step import cast
from gptjax.types import Batch

BASE = GPT(layers=6, width=384, heads=6, mlp_width=1536, context=256)
VOCABULARY = 8192


def gradient(config: ModelConfig, rows: int, dtype: str) -> tuple[Any, tuple[Any, Batch]]:
    """The compiled gradient of the loss sum, and its arguments."""
    model = config.build(VOCABULARY, VOCABULARY)
    objective = Causal().build(model, None)
    params = cast(jax.jit(objective.init)(jax.random.key(0)), dtype)
    tokens_BT = jax.random.randint(jax.random.key(1), (rows, model.context + 1), 0, VOCABULARY)
    inputs_BT, targets_BT = tokens_BT[:, :-1], tokens_BT[:, 1:]
    batch = Batch(inputs_BT, targets_BT, jax.numpy.ones(inputs_BT.shape), None, None)

    def total(params: Any, batch: Batch) -> jax.Array:
        return objective.loss(params, batch, None)[0]

    return jax.jit(jax.value_and_grad(total)).lower(params, batch).compile(), (params, batch)


def measure(rows: int, dtype: str, rounds: int) -> list[dict[str, Any]]:
    """A row of the table for each policy."""
    unrolled = REMAT[:1] if jax.devices()[0].platform == "cpu" else REMAT  # a CPU always scans what it recomputes
    kinds = [*((remat, False) for remat in unrolled), *((remat, True) for remat in REMAT)]
    found = {kind: gradient(replace(BASE, remat=kind[0], scan=kind[1]), rows, dtype) for kind in kinds}

    def form(compiled: Any, arguments: Any) -> Callable[[], object]:
        return lambda: jax.block_until_ready(compiled(*arguments))

    forms = {str(kind): form(*made) for kind, made in found.items()}
    seconds = medians(forms, rounds, clock=time.process_time)
    return [
        {
            "remat": remat,
            "layers": "scanned" if scan else "unrolled",
            "rows": rows,
            "dtype": dtype,
            "milliseconds": 1e3 * seconds[str((remat, scan))],
            "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
        }
        for (remat, scan), (compiled, _) in found.items()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown, each beside the first, which rematerialises nothing."""
    lines = [
        "| layers | remat | rows | dtype | ms | x none | temporary MiB | x none |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        slower = row["milliseconds"] / rows[0]["milliseconds"]
        share = row["temporary_bytes"] / rows[0]["temporary_bytes"]
        kind = f"| {row['layers']} | {row['remat']} | {row['rows']} | {row['dtype']}"
        cost = f"{row['milliseconds']:.0f} | {slower:.2f} | {row['temporary_bytes'] / 2**20:.0f} | {share:.2f} |"
        lines.append(f"{kind} | {cost}")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Measure, write, print."""
    parser = options(str(__doc__), rounds=5)
    parser.add_argument("--rows", type=int, default=8, help="rows of 256 tokens")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    asked = parser.parse_args(argv)
    tell(measure(asked.rows, asked.dtype, asked.rounds), table, asked.json)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
