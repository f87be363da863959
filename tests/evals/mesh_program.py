"""Scores continuations on one and on eight virtual devices and prints both as JSON; a process of its own, since the
number of devices is fixed when JAX starts."""

import json

import jax
import numpy as np

from gptjax.config import Mesh
from gptjax.evals.continuations import scored
from gptjax.models.gpt import GPT
from gptjax.train import sharding

V = 30


def main():
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_platforms", "cpu")
    mesh = sharding.make_mesh(Mesh(data=8), jax.devices())
    config = GPT(layers=1, width=16, heads=2, mlp_width=16, context=32)
    params = jax.jit(config.build(V, V).init)(jax.random.key(0))
    draws = np.random.default_rng(0)
    contexts = [draws.integers(0, V, length).astype(np.int32) for length in (20, 22, 24, 26, 28)]
    pairs = [(before, draws.integers(0, V, 1 + n).astype(np.int32)) for before in contexts for n in range(3)]
    one = scored(config.build(V, V), params, pairs)
    used = set()

    def place(tree):
        placed = sharding.placer(mesh, whole=True)(tree)
        used.update(placed.inputs_BT.sharding.device_set)
        assert placed.inputs_BT.addressable_shards[0].data.shape[0] * 8 == len(placed.inputs_BT)
        return placed

    eight = scored(config.build(V, V, sharding.place(mesh)), params, pairs, place=place, fetch=sharding.fetch, shards=8)
    print(json.dumps([one.nats_R.tolist(), eight.nats_R.tolist(), len(used)]))


if __name__ == "__main__":
    main()
