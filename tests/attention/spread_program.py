"""Runs kernels on meshes of 8 virtual devices, those of Pallas interpreted, and prints their distance from the dense
form on one as JSON; a process of its own, since the number of devices is fixed when JAX starts."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from gptjax.attention import Visible, attend, blockwise
from gptjax.config import Mesh
from gptjax.models.gpt import GPT
from gptjax.train import sharding
from gptjax.types import Place

B, T, N, H = 8, 24, 4, 64
SEGMENTS = np.repeat(np.array([[1, 2, 3, 0]], np.int32), [5, 9, 7, 3], axis=1).repeat(B, 0)
PLATFORMS = {"blockwise": "cpu", "pallas": "gpu", "splash": "tpu"}
ONE = Place("cpu")


def place_of(mesh, impl):
    return sharding.place(mesh)._replace(platform=PLATFORMS[impl], interpret=True)


def kernel_on(place, impl, K, rows, shard):
    """Value and gradients of a kernel, and the shapes that a device of the mesh computes."""
    keys = jax.random.split(jax.random.key(0), 4)
    given = [jax.random.normal(key, (rows, T, n, H)) for key, n in zip(keys, (N, K, K, N), strict=True)]

    @jax.jit
    def run(q, k, v, dout, segments_BT):
        visible = Visible(segments_BT=segments_BT)
        out, pull = jax.vjp(lambda q, k, v: attend(q, k, v, visible, impl, place=place), q, k, v)
        return out, *pull(dout)

    given = [*given, jnp.asarray(SEGMENTS[:rows])]
    return run(*(given if shard is None else (jax.device_put(x, shard) for x in given)))


def step_on(mesh, impl):
    """The loss and its gradient through a whole model on a mesh, as the training step computes them."""
    config = GPT(layers=2, width=128, heads=2, kv_heads=1, mlp_width=64, context=T, scan=True, remat="block")
    model = replace(config, attention=impl).build(32, 32, ONE if mesh is None else place_of(mesh, impl))
    params = jax.jit(model.init)(jax.random.key(1))
    tokens = np.asarray(jax.random.randint(jax.random.key(2), (B, T), 0, 32))
    batch = tokens, SEGMENTS
    gather = lambda params: params  # noqa: E731
    if mesh is not None:
        params = jax.device_put(params, jax.tree.map(lambda x: x.sharding, sharding.abstract_params(params, mesh)))
        batch, gather = sharding.placer(mesh)(batch), sharding.layout(mesh).gather

    @jax.jit
    def run(params, tokens_BT, segments_BT):
        def loss(params):
            return jnp.square(model.apply(gather(params), tokens_BT, segments_BT)).mean()

        return jax.value_and_grad(loss)(params)

    return run(params, *batch)


def difference(a, b):
    """The greatest, as a share of the greatest value: the gradient of a key's bias is 0 but for rounding."""
    a, b = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]) for tree in (a, b))
    return float(np.abs(a - b).max() / np.abs(b).max())


def main():
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_platforms", "cpu")
    mesh = sharding.make_mesh(Mesh(2, 2, 2), jax.devices())
    thin = sharding.make_mesh(Mesh(2, 1, 4), jax.devices())
    found = {}
    cases = [("pallas", "rows and heads", mesh, 2, B), ("splash", "rows and heads", mesh, 2, B)]
    cases += [("splash", "one key head", thin, 1, B), ("pallas", "odd rows", mesh, 2, 3)]
    blockwise.CACHED_BYTES = 4 * T * N // 2 * H  # one row of a device's heads
    cases += [("blockwise", "rows and heads", mesh, 2, B), ("blockwise", "odd rows", mesh, 2, 3)]
    cases += [("blockwise", "heads that do not split", sharding.make_mesh(Mesh(1, 1, 8), jax.devices()), 2, B)]
    for impl, name, on, K, rows in cases:
        split = sharding.batch_sharding(on) if rows == B else NamedSharding(on, PartitionSpec())
        spread, alone = kernel_on(place_of(on, impl), impl, K, rows, split), kernel_on(ONE, "dense", K, rows, None)
        found[f"{impl}, {name}"] = [difference(spread, alone), spread[0].sharding.shard_shape(spread[0].shape)]
    found["model"] = difference(step_on(mesh, "pallas"), step_on(None, "dense"))
    found["model, rows in turn"] = difference(step_on(mesh, "blockwise"), step_on(None, "dense"))
    unknown = kernel_on(Place("cpu"), "blockwise", 2, B, sharding.batch_sharding(mesh))
    found["unknown mesh, plain"] = difference(unknown, kernel_on(ONE, "dense", 2, B, None))
    try:
        kernel_on(Place("gpu", interpret=True), "pallas", 2, B, sharding.batch_sharding(mesh))
    except ValueError as error:
        found["unknown mesh"] = str(error)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
