"""A CPU as two devices, for runs whose updates leave one of its cores idle otherwise."""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Literal

import jax

from gptjax.config import Mesh, Run

DEVICES = 2
"""Always as many, whatever cores there are: the last bits of an update depend on it."""


def layout(run: Run, say: Callable[[str], None]) -> tuple[Mesh, Sequence[jax.Device]]:
    """The mesh of a run and the devices that it lies on: all there are, or two that are made of the CPU.

    One device runs an update's operations one after the other, and divides the larger ones among cores. Where they are
    many and small, handing them over takes as long as they do, and two devices that each have half of the rows need two
    thirds of the time. They are made where the objective asks for it (`PARALLEL_ON_CPU`), unless the run names a mesh
    or the user has said how many devices the CPU is (JAX_NUM_CPU_DEVICES, XLA_FLAGS); to be called before anything asks
    for devices.
    """
    wanted = run.objective.PARALLEL_ON_CPU and run.mesh == Mesh() and not jax.distributed.is_initialized()
    how = split() if wanted or split.cache_info().currsize else None
    devices = jax.devices()
    if devices[0].platform != "cpu":
        return run.mesh, devices
    if wanted and how == "too late":
        say("devices were asked for before the run began, so the CPU stays one, and updates take longer than they need")
    if how != "done":
        return run.mesh, devices
    # Along tensor, so that each device keeps half of the tables.
    return (Mesh(data=1, tensor=DEVICES), devices) if wanted else (run.mesh, devices[:1])


@functools.cache
def split() -> Literal["done", "as the user said", "too late"]:
    """Make the CPU `DEVICES` devices, unless the user has said how many; once in a process, which it holds for."""
    if jax.config.values["jax_num_cpu_devices"] > 0 or "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return "as the user said"
    try:
        jax.config.update("jax_num_cpu_devices", DEVICES)
    except RuntimeError:
        return "too late"
    return "done"
