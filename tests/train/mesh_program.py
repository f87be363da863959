"""Trains a tiny GPT on meshes of virtual devices and prints what came of it as JSON; a process of its own, since the
number of devices is fixed when JAX starts.

python mesh_program.py DEVICES CASES [COORDINATOR PROCESS]
CASES is JSON: [{"mesh": [data, fsdp, tensor], "dropout": 0.1, "rich": false, "gather": "update"}, ...]
"""

import json
import re
import sys
from dataclasses import replace
from functools import cache

import jax
import numpy as np

from gptjax.config import Mesh, Run, TokenizerConfig
from gptjax.models.gpt import GPT
from gptjax.objectives.causal import Causal
from gptjax.train import sharding
from gptjax.train.optim import AdamW, Muon
from gptjax.train.schedules import Cosine
from gptjax.train.state import init_state
from gptjax.train.step import jitted, make_step
from gptjax.types import Rows

VOCAB, CONTEXT, ROWS, STEPS = 24, 8, 16, 3
SIZES = {"width": 16, "heads": 4, "kv_heads": 2, "mlp_width": 32, "context": CONTEXT}
PLAIN = Run(
    model=GPT(**SIZES, layers=1, norm="rms", positions="rotary", bias=False, mlp="relu2"),
    tokenizer=TokenizerConfig(),
    objective=Causal(tile_tokens=2 * ROWS),
    optimizer=AdamW(learning_rate=0.01),
    schedule=Cosine(warmup_steps=1),
    steps=STEPS,
    batch_rows=ROWS,
)
RICH = replace(
    PLAIN,
    model=GPT(**SIZES, layers=2, qk_norm=True, tied=False, scan=True, mlp="swiglu"),
    objective=Causal(tile_tokens="all"),
    optimizer=Muon(),
    accumulation=2,
    ema_decay=0.9,
)


def rows(step):
    """Two packed documents a row, with prompts and padding that do not count."""
    rng = np.random.default_rng(step)
    tokens = rng.integers(0, VOCAB, (ROWS, CONTEXT + 1), dtype=np.int32)
    columns, cuts = np.arange(CONTEXT + 1), rng.integers(2, CONTEXT - 2, (ROWS, 1))
    segments = np.where(columns < cuts, 1, np.where(columns < CONTEXT, 2, 0)).astype(np.int32)
    return Rows(tokens, (rng.random(tokens.shape) < 0.8).astype(np.float32) * (segments > 0), segments)


@cache
def parts(run, place):
    """The objective, the optimizer, and the function that begins a state."""
    model, optimizer = run.model.build(VOCAB, VOCAB, place), run.optimizer.build(run.schedule.build(run.steps))

    objective = run.objective.build(model, None)
    return objective, optimizer, jax.jit(lambda key: init_state(run, objective, optimizer, key))


def train(case):
    """Losses and gradient norms of each update, and what shows where the final state lies."""
    run = RICH if case["rich"] else PLAIN
    run = replace(run, model=replace(run.model, dropout=case["dropout"]))
    data, fsdp, tensor = case["mesh"]
    mesh, place = sharding.make_mesh(Mesh(data, fsdp, tensor), jax.devices()[: data * fsdp * tensor]), None
    if case["gather"] == "layer":
        run, place = replace(run, model=replace(run.model, remat="mlp")), sharding.place(mesh, "layer")
    objective, optimizer, begin = parts(run, place)
    key = jax.random.key(run.seed)
    shardings, notes = sharding.state_shardings(jax.eval_shape(begin, key), mesh)
    if case["rich"] or jax.process_count() > 1:
        begin = jax.jit(begin, out_shardings=shardings)  # another compilation, hence not always
    state = jax.device_put(begin(key), shardings)
    step = make_step(run, objective.loss, optimizer, sharding.layout(mesh, case["gather"]))
    step = jitted(step, shardings)
    index, shares = sharding.process_share(mesh)
    mine = slice(index * ROWS // shares, (index + 1) * ROWS // shares)
    place, history = sharding.placer(mesh), []
    batches = [place(jax.tree.map(lambda x: x[mine], objective.batch(rows(number)))) for number in range(STEPS)]
    step = step.lower(state, batches[0]).compile()
    for batch in batches:
        state, metrics = step(state, batch)
        history.append([float(metrics["loss_nats"]), float(metrics["grad_norm"])])
    whole = sharding.placer(mesh, whole=True)
    odd = sharding.fetch(whole(np.arange(5.0)))  # rows that do not divide
    return {
        "history": history,
        "params": [float(np.abs(sharding.fetch(leaf)).sum()) for leaf in jax.tree.leaves(state.params)],
        "notes": notes,
        "share": [index, shares],
        "odd": odd.tolist(),
        "spread": [spread(mesh, items) for items in (1, 3, 12)],
        "moved": re.findall(r"= \w+\[([\d,]*)\]\S* (?:all-|reduce-scatter|collective-)", step.as_text()),
        "ways": {
            name: {
                jax.tree_util.keystr(path, simple=True, separator="/"): leaf.size
                // np.prod(leaf.sharding.shard_shape(leaf.shape))
                for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(state, name))
                if leaf.ndim
            }
            for name in ("params", "opt_state", "ema")
        },
    }


def spread(mesh, count):
    """What comes of items from 1 on to which devices that have their own add 0.5."""
    items = np.arange(1.0, count + 1)[:, None, None] * np.ones((8, 8))
    found = sharding.fetch(jax.jit(sharding.layout(mesh).spread, static_argnums=0)(lambda part: part + 0.5, items))
    return found.min(axis=(1, 2)).tolist() if np.all(found == found[:, :1, :1]) else None


def main():
    jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
    jax.config.update("jax_platforms", "cpu")
    if sys.argv[3:]:
        jax.distributed.initialize(sys.argv[3], num_processes=2, process_id=int(sys.argv[4]))
    print(json.dumps([train(case) for case in json.loads(sys.argv[2])], default=int))


if __name__ == "__main__":
    main()
