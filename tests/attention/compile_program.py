"""Compiles attention, forward and backward, for a machine that is not here, and prints what came of it as JSON; a
process of its own, since compilers for other machines must not meet those of this one.

python compile_program.py h200|v5e|cpu
"""

import json
import math
import os
import re
import sys

os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from gptjax.attention import Visible, attend
from gptjax.train import sharding

H200 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 4800000000000 l2_cache_size: 52428800
  clock_rate_ghz: 1.98 device_memory_size: 150000000000 shared_memory_per_block_optin: 232448
  registers_per_core_limit: 65536 registers_per_block_limit: 65536 cuda_compute_capability { major: 9 minor: 0 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 12 patch: 0 }
device_description_str: "NVIDIA H200"
"""
DOCUMENTS, WINDOW = {"packed": True}, {"packed": True, "window": 300}
# Tokens, heads, key heads, head size, dtype, mask.
CASES = {
    "h200": [(4096, 2, 2, 64, "bfloat16", DOCUMENTS), (2000, 4, 2, 128, "float32", WINDOW)],
    "v5e": [(4096, 2, 2, 64, "bfloat16", DOCUMENTS), (2000, 4, 2, 128, "float32", WINDOW)],
    "cpu": [(4096, 2, 2, 64, "float32", DOCUMENTS), (2000, 4, 2, 64, "float32", WINDOW)],
}


def devices(machine):
    if machine == "cpu":
        return jax.devices()
    how = {"h200": {"platform": "cuda", "topology_name": "", "target_config": H200, "topology": "1x1x1"}}
    return topologies.get_topology_desc(**how.get(machine, {"platform": "tpu", "topology_name": "v5e:2x2"})).devices


def compiled(devices, T, N, K, H, dtype, mask):
    mesh = Mesh(np.array(devices).reshape(-1, 1, 1), sharding.AXES)
    place, rows = sharding.place(mesh), sharding.batch_sharding(mesh)
    q, k = (jax.ShapeDtypeStruct((len(devices), T, n, H), dtype, sharding=rows) for n in (N, K))
    segments = jax.ShapeDtypeStruct((len(devices), T), jnp.int32, sharding=rows)

    def loss(q, k, v, segments_BT):
        visible = Visible(window=mask.get("window"), segments_BT=segments_BT)
        return jnp.square(attend(q, k, v, visible, place=place).astype(jnp.float32)).sum()

    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # as `plan` does
        lowered = jax.jit(jax.grad(loss, (0, 1, 2))).lower(q, k, k, segments)
    return lowered.compile()


def main():
    machine, found = sys.argv[1], []
    for case in CASES[machine]:
        made = compiled(devices(machine), *case)
        text = made.as_text()
        shapes = re.findall(r"\b(?:pred|[a-z]+\d+)\[([\d,]+)\]", text)
        found.append(
            {
                "tokens": case[0],
                "elements": max(math.prod(map(int, shape.split(","))) for shape in shapes),
                "kernels": len(re.findall(r'custom_call_target="(?:__gpu\$xla.gpu.triton|tpu_custom_call)"', text)),
            }
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
