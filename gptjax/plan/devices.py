"""Compile-only devices: what JAX needs to compile for a machine that is not here."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import jax
from jax.experimental import topologies

from gptjax.config import ConfigError
from gptjax.plan.machines import GPUS_OF_HOST, Topology

WAY_OUT = "pip install 'gptjax[plan]'"
GPU_PACKAGES = ("jax_plugins.xla_cuda13", "nvidia.cudnn", "nvidia.cu13")
QUIET = {
    # libtpu would ask a metadata server what machine this is, and complain that it is none.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    # It also locks a file, as if there were a chip to guard.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    # The CUDA plugin would look for libraries that only a GPU needs.
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
}
"""Environment in which the compilers are quiet; what is set already stays."""


def prepare(virtual_cpus: int) -> None:
    """Make this process one that only compiles: the accelerators of this machine, if any, are left alone.

    To be called before JAX has started; after that the CPU devices are those there are, and `of` sees to them.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    with contextlib.suppress(RuntimeError):  # JAX has started
        jax.config.update("jax_platforms", "cpu")
        if virtual_cpus > 1:
            jax.config.update("jax_num_cpu_devices", virtual_cpus)


@contextlib.contextmanager
def overheard() -> Iterator[list[str]]:
    """What compilers write to stderr meanwhile, kept from it: the list that is given has each warning once, at the end.

    Where the work fails, all of it goes to stderr after all.
    """
    warnings: list[str] = []
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        failed = True
        try:
            yield warnings
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            written = file.read().decode("utf-8", "replace")
            if failed:
                sys.stderr.write(written)
            found = re.findall(r"^[WE]\d{4} .*?\] (.*)$", written, re.MULTILINE)
            warnings += dict.fromkeys(re.split(r"(?<=\w)\. ", line)[0] for line in found)


def of(topology: Topology) -> list[Any]:
    """The devices of a topology, in JAX's order; raises `ConfigError` where the packages to compile for it are missing.

    A machine with a real accelerator gives compile-only devices all the same.
    """
    found = {"cpu": _cpus, "tpu": _tpus, "gpu": _gpus}[topology.chip.platform](topology)
    if len(found) != topology.devices:
        raise ConfigError(f"--topology {topology.name}: the compiler sees {len(found)} devices, not {topology.devices}")
    return found


def missing(platform: str) -> list[str]:
    """Packages that compiling for this platform needs and that are not installed."""
    return [name for name in {"tpu": ("libtpu",), "gpu": GPU_PACKAGES}.get(platform, ()) if not _present(name)]


def _present(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _require(topology: Topology) -> None:
    if lacking := missing(topology.chip.platform):
        raise ConfigError(f"--topology {topology.name}: compiling for it needs {', '.join(lacking)}; {WAY_OUT}")


def _cpus(topology: Topology) -> list[Any]:
    found = jax.devices("cpu")
    if len(found) < topology.devices:
        raise ConfigError(f"--topology {topology.name}: JAX has started with {len(found)} CPU devices")
    return found[: topology.devices]


def _tpus(topology: Topology) -> list[Any]:
    _require(topology)
    # A host holds 2 x 2 chips; a shape that is thinner than that, one host a chip.
    bounds = [2 if n % 2 == 0 else 1 for n in topology.shape[:2]] + [1]
    try:
        return topologies.get_topology_desc(
            platform="tpu",
            topology_name=topology.name,
            chips_per_host_bounds=tuple(bounds),
            **dict(topology.chip.options),
        ).devices
    except jax.errors.JaxRuntimeError as error:
        raise ConfigError(f"--topology {topology.name}: {str(error).splitlines()[0]}") from None


def _gpus(topology: Topology) -> list[Any]:
    _require(topology)
    each = min(topology.chips, GPUS_OF_HOST)
    try:
        return topologies.get_topology_desc(
            platform="cuda",
            topology_name="",
            target_config=target_config(topology),
            topology=f"1x{topology.hosts}x{each}",
        ).devices
    except (jax.errors.JaxRuntimeError, NotImplementedError) as error:
        raise ConfigError(f"--topology {topology.name}: {str(error).splitlines()[0]}; {WAY_OUT}") from None


def target_config(topology: Topology) -> str:
    """What XLA asks of a GPU, as the text of its GpuTargetConfigProto; limits are those of every GPU since Ampere."""
    chip, silicon = topology.chip, topology.chip.silicon
    assert silicon is not None
    assert chip.memory_rate is not None
    name = f"NVIDIA {topology.kind.upper()}"
    major, minor = silicon.capability
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_core: {silicon.shared_bytes}
  shared_memory_per_block_optin: {silicon.shared_bytes - 1024}
  core_count: {silicon.cores} fpus_per_core: {silicon.float32_units} clock_rate_ghz: {silicon.clock_ghz}
  l2_cache_size: {silicon.cache_bytes}
  memory_bandwidth: {round(chip.memory_rate)} device_memory_size: {chip.memory_bytes}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  name: "{name}"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{name}"
"""
