"""A CPU as two devices, for runs whose updates leave one of its cores idle otherwise."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import jax

from gptjax.config import Mesh, Run

DEVICES = 2
"""Always as many, whatever cores there are: the last bits of an update depend on it."""
_split: Literal["done", "as the user said", "too late"] | None = None
"""What came of splitting the CPU, for the whole process; None where nobody asked for it yet."""


def layout(run: Run, say: Callable[[str], None]) -> tuple[Mesh, Sequence[jax.Device]]:
    """The mesh of a run and the devices that it lies on: all there are, or two that are made of the CPU.

    One device runs an update's operations one after the other, and divides the larger ones among cores. Where they are
    many and small, handing them over takes as long as they do, and two devices that each have half of the rows need two
    thirds of the time. `split` must have been asked before anything asked for devices.
    """
    split([run])
    devices = jax.devices()
    if devices[0].platform != "cpu" or _split is None:
        return run.mesh, devices
    if wanted(run) and _split == "too late":
        say("devices were asked for before the run began, so the CPU stays one, and updates take longer than they need")
    if _split != "done":
        return run.mesh, devices
    if not wanted(run):
        return run.mesh, devices[:1]
    say(f"the CPU is {DEVICES} devices, which keeps two cores busy; with one core, --mesh.data 1 is faster")
    # Along tensor, so that each device keeps half of the tables.
    return Mesh(data=1, tensor=DEVICES), devices


def split(runs: Iterable[Run]) -> None:
    """Make the CPU `DEVICES` devices if the objective of any of these runs asks for it (`PARALLEL_ON_CPU`).

    Not for a run that names a mesh, nor where the user has said how many devices the CPU is (JAX_NUM_CPU_DEVICES,
    XLA_FLAGS), nor in a job of several processes. What was done holds for the whole process.
    """
    global _split
    if _split is not None or jax.distributed.is_initialized() or not any(map(wanted, runs)):
        return
    _split = "done"
    if jax.config.values["jax_num_cpu_devices"] > 0 or "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        _split = "as the user said"
        return
    try:
        jax.config.update("jax_num_cpu_devices", DEVICES)
    except RuntimeError:
        _split = "too late"


def wanted(run: Run) -> bool:
    """Whether a run is to have two devices of a CPU: its objective asks for them, and it names no mesh."""
    return run.objective.PARALLEL_ON_CPU and run.mesh == Mesh()
