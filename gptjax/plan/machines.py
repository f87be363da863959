"""Machines that a run may be planned for: what one device of each can do, from its maker's data sheet."""

import math
import os
import re
from dataclasses import dataclass
from typing import NamedTuple

from gptjax.config import ConfigError, nearest

GiB = 2**30
GPU_POOL = 0.75
"""Share of a GPU's memory that JAX takes for arrays unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise."""


@dataclass(frozen=True)
class Silicon:
    """What XLA's GPU compiler must know of a chip that is not here (CUDA programming guide, maker's white paper)."""

    capability: tuple[int, int]
    """CUDA compute capability."""
    cores: int
    """Streaming multiprocessors."""
    float32_units: int
    """float32 units of one of them."""
    clock_ghz: float
    """Boost clock."""
    cache_bytes: int
    """Second-level cache."""
    shared_bytes: int
    """Shared memory of one multiprocessor."""


@dataclass(frozen=True)
class Chip:
    """One device, as JAX counts devices; rates are those on paper, per second."""

    platform: str
    """cpu, gpu or tpu."""
    memory_bytes: int
    """What the device has."""
    usable: float
    """Share of it that a program can have, before any pool."""
    peak_flops: float | None
    """Dense bf16 FLOP/s; None is not known."""
    memory_rate: float | None
    """Bytes from and to memory."""
    link_rate: float | None
    """Bytes that leave the device for its neighbours, all links together, one way."""
    network_rate: float | None = None
    """Bytes that leave the device for another host; None is as fast as the links."""
    chips_of_device: float = 1.0
    """Chips that one device is: 1/2 where a chip shows as two."""
    float32_share: float = 1.0
    """Rate of products in float32 (as JAX multiplies by default) against bf16's."""
    axes: int = 0
    """Axes of a TPU's torus."""
    silicon: Silicon | None = None
    """For GPUs."""
    options: tuple[tuple[str, str], ...] = ()
    """What libtpu must be told besides the name."""


_HOPPER = (9, 0), 132, 128, 1.98, 50 * 2**20, 228 * 2**10
CHIPS: dict[str, Chip] = {
    # Cloud TPU documentation, "System architecture" of each version. The usable share is what libtpu itself says is
    # available when a program does not fit; interconnect is half of the documented bidirectional rate.
    "v4": Chip(
        "tpu", 32 * GiB, 0.953, 275e12, 1228e9, 300e9, axes=3, options=(("chip_config_name", "megacore"),)
    ),
    "v5e": Chip("tpu", 16 * GiB, 15.75 / 16, 197e12, 819e9, 200e9, axes=2),
    "v5p": Chip("tpu", 96 * GiB, 95.74 / 96, 459e12, 2765e9, 600e9, axes=3),
    "v6e": Chip("tpu", 32 * GiB, 31.25 / 32, 918e12, 1638e9, 400e9, axes=2),
    "tpu7x": Chip("tpu", 96 * GiB, 94.75 / 96, 2307e12 / 2, 7380e9 / 2, 300e9, chips_of_device=0.5, axes=3),
    # NVIDIA's data sheets of the SXM modules (without sparsity); NVLink one way; one 400 Gb/s (A100: 200, B200: 400)
    # network port a GPU as in the maker's DGX. float32 products are TF32.
    "a100": Chip(
        "gpu", 80 * 10**9, 1.0, 312e12, 2039e9, 300e9, 25e9, float32_share=0.5,
        silicon=Silicon((8, 0), 108, 64, 1.41, 40 * 2**20, 164 * 2**10),
    ),
    "h100": Chip(
        "gpu", 80 * 10**9, 1.0, 989e12, 3352e9, 450e9, 50e9, float32_share=0.5, silicon=Silicon(*_HOPPER)
    ),
    "h200": Chip(
        "gpu", 141 * 10**9, 1.0, 989e12, 4800e9, 450e9, 50e9, float32_share=0.5, silicon=Silicon(*_HOPPER)
    ),
    "b200": Chip(
        "gpu", 180 * 10**9, 1.0, 2250e12, 7700e9, 900e9, 50e9, float32_share=0.5,
        silicon=Silicon((10, 0), 148, 128, 1.965, 126 * 2**20, 228 * 2**10),
    ),
}  # fmt: skip
"""Chips by the names that --topology takes; cpu, this machine's own, is besides."""
GPUS_OF_HOST = 8


class Topology(NamedTuple):
    """How many of which device, and how they hang together."""

    name: str
    """As it was asked for: v5e:4x4, h200:8."""
    kind: str
    """The chip's name."""
    chip: Chip
    """One device."""
    shape: tuple[int, ...]
    """Chips along each axis of the torus, or how many there are in all."""

    @property
    def devices(self) -> int:
        """Devices as JAX counts them."""
        return round(self.chips / self.chip.chips_of_device)

    @property
    def chips(self) -> int:
        """Chips as they are paid for."""
        return math.prod(self.shape)

    @property
    def hosts(self) -> int:
        """Machines that GPUs are spread over; a TPU's are of one fabric."""
        return -(-self.chips // GPUS_OF_HOST) if self.chip.platform == "gpu" else 1


def parse(name: str) -> Topology:
    """`"v5e:4x4"` -> the topology; raises `ConfigError` for a chip or a shape that there is not."""
    kind, _, size = name.partition(":")
    known = [*CHIPS, "cpu"]
    if kind not in known:
        listed = ", ".join(known)
        raise ConfigError(f"--topology {name}: there is no chip {kind!r}{nearest(kind, known)}; chips are {listed}")
    example = {"tpu": "4x4" if kind in ("v5e", "v6e") else "2x2x1"}.get(_chip(kind, 1).platform, "8")
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", size):
        raise ConfigError(f"--topology {name}: says not how many chips, as {kind}:{example} does")
    shape = tuple(map(int, size.split("x")))
    chip = _chip(kind, math.prod(shape))
    if len(shape) != (chip.axes or 1):
        raise ConfigError(f"--topology {name}: {kind} has {chip.axes or 1} axes, as in {kind}:{example}")
    if chip.platform == "tpu" and any(n > 1 and n % 2 for n in shape):
        raise ConfigError(f"--topology {name}: a slice has 1 or an even number of chips along each axis")
    if chip.platform == "gpu" and shape[0] > GPUS_OF_HOST and shape[0] % GPUS_OF_HOST:
        raise ConfigError(f"--topology {name}: more than {GPUS_OF_HOST} GPUs are whole hosts of {GPUS_OF_HOST}")
    return Topology(name, kind, chip, shape)


def _chip(kind: str, count: int) -> Chip:
    """The chip; cpu's memory is this machine's, shared by all `count` virtual devices."""
    if kind != "cpu":
        return CHIPS[kind]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Chip("cpu", memory // count, 1.0, None, None, None)


def capacity(topology: Topology, pool: float | None) -> tuple[int, str]:
    """(bytes of one device that a run may fill, what of it is kept back in words)."""
    chip = topology.chip
    if pool is not None and not 0 < pool <= 1:
        raise ConfigError(f"--memory-fraction {pool:g}: is not in (0, 1]")
    if chip.platform == "gpu":
        share = GPU_POOL if pool is None else pool
        whose = "JAX's default pool" if pool is None else "--memory-fraction"
        return round(chip.memory_bytes * share), f"{share:.0%} of {chip.memory_bytes / 1e9:.0f} GB, {whose}"
    said = f"{chip.usable:.1%} of {chip.memory_bytes / GiB:.0f} GiB, the rest is the system's"
    return round(chip.memory_bytes * chip.usable), said
