"""What a compiled update would cost on its machine: memory by kind, FLOPs, collectives, and a predicted time."""

import re
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax

from gptjax.config import ConfigError, Run
from gptjax.plan import flops, roofline
from gptjax.plan.compiled import Compiled, bytes_on_device
from gptjax.plan.devices import WAY_OUT
from gptjax.plan.machines import Topology, capacity
from gptjax.plan.program import Collective, Program
from gptjax.plan.roofline import Times


class Memory(NamedTuple):
    """Bytes on one device while an update runs."""

    params: int
    """Master weights, float32."""
    optimizer: int
    """The optimizer's state."""
    average: int
    """Moving average of the parameters."""
    batch: int
    """The batch."""
    temporaries: int | None
    """Activations, gradients, the compute copy of the parameters: all that the compiler allocates besides."""
    code: int | None
    """The program."""
    needed: int | None
    """All of these, with what the compiler pads; None where it gave up without saying."""
    capacity: int
    """What a run may fill."""
    reserve: str
    """What is kept back, in words."""

    @property
    def fits(self) -> bool:
        """There is room for all of it."""
        return self.needed is not None and self.needed <= self.capacity


@dataclass(frozen=True)
class Estimate:
    """All that is known of a run on a topology before it is queued."""

    target: str
    topology: str
    devices: int
    """As JAX counts them."""
    chips: int
    """As they are paid for."""
    mesh: dict[str, int]
    batch_rows: int
    tokens: int
    """Of one update."""
    steps: int
    parameters: int
    vocabulary: str
    """Its size, and where that is from."""
    notes: tuple[str, ...]
    """How wide rows are where the data may have narrower ones, the attention kernel, what is not split."""
    memory: Memory
    refusal: str | None
    """What the compiler said where it ran out of memory."""
    flops: flops.Flops
    """Of one update, all devices together, recomputation included."""
    collectives: tuple[Collective, ...]
    uncounted: tuple[str, ...]
    """What the program does not say: the length of a loop, who calls a collective."""
    step_seconds: Times | None
    basis: str
    """What the times are made of."""
    compile_seconds: float
    advice: tuple[str, ...] = ()
    """What would fit, found by compiling."""

    @property
    def tokens_per_second(self) -> float | None:
        """Of all devices, as expected."""
        return None if self.step_seconds is None else self.tokens / self.step_seconds.expected

    @property
    def hours(self) -> Times | None:
        """Of the whole run."""
        return None if self.step_seconds is None else self.step_seconds.times(self.steps / 3600)

    @property
    def chip_hours(self) -> Times | None:
        """Of the whole run, all chips together."""
        return None if self.hours is None else self.hours.times(self.chips)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, in bytes, seconds and FLOPs; memory is that of one device."""
        values = asdict(self) | {"tokens_per_second": self.tokens_per_second}
        values["memory"] = self.memory._asdict() | {"fits": self.memory.fits}
        values["flops"] = self.flops._asdict() | {"of_device": self.flops.all / self.devices}
        for name in ("step_seconds", "hours", "chip_hours"):
            times = getattr(self, name)
            values[name] = None if times is None else times._asdict()
        return values


def estimate(
    target: str, run: Run, topology: Topology, compiled: Compiled, vocabulary: str, pool: float | None
) -> Estimate:
    """The estimate of a compiled run; `pool` is the share of a GPU's memory that it may fill (None: JAX's own).

    Raises `ConfigError` where the program cannot be read: its compiler is of another release than JAX.
    """
    seen = flops.seen(compiled.row_tokens, getattr(run.model, "window", None), compiled.causal)
    counted = flops.count(compiled.jaxpr, seen, compiled.lowered_as)
    collectives: tuple[Collective, ...] = ()
    uncounted: tuple[str, ...] = ()
    times, basis = None, "no prediction: the program does not fit"
    if compiled.executable is not None:
        program = Program(_text(compiled.executable, topology), topology.devices)
        collectives, uncounted = program.collectives(), program.uncounted()
        work = roofline.Work(counted.times(1 / topology.devices), program.traffic(), collectives)
        times = roofline.predict(topology, run.precision, work)
        basis = roofline.UNKNOWN if times is None else roofline.BASIS
    return Estimate(
        target=target,
        topology=topology.name,
        devices=topology.devices,
        chips=topology.chips,
        mesh={str(name): size for name, size in compiled.mesh.shape.items()},
        batch_rows=run.batch_rows,
        tokens=compiled.tokens,
        steps=run.steps,
        parameters=sum(leaf.size for leaf in jax.tree.leaves((compiled.state.params, compiled.state.frozen))),
        vocabulary=vocabulary,
        notes=compiled.notes,
        memory=memory(compiled, topology, pool),
        refusal=compiled.refusal,
        flops=counted,
        collectives=collectives,
        uncounted=uncounted,
        step_seconds=times,
        basis=basis,
        compile_seconds=compiled.seconds,
    )


def _text(executable: jax.stages.Compiled, topology: Topology) -> str:
    try:
        return executable.as_text() or ""
    except jax.errors.JaxRuntimeError as error:
        raise ConfigError(
            f"--topology {topology.name}: jax {jax.__version__} cannot read what the compiler made; install the "
            f"one that goes with it: {WAY_OUT} ({str(error).splitlines()[0]})"
        ) from None


def memory(compiled: Compiled, topology: Topology, pool: float | None) -> Memory:
    """Memory of one device by kind: the state by its shapes and shardings, the rest as the compiler allocates it."""
    state = compiled.state
    kinds = {
        "params": bytes_on_device((state.params, state.frozen)),
        "optimizer": bytes_on_device(state.opt_state),
        "average": bytes_on_device(state.ema),
        "batch": bytes_on_device(compiled.batch),
    }
    temporaries = code = needed = None
    if said := re.search(r"temporaries \(([\d.]+)G\)", compiled.refusal or ""):
        temporaries = round(float(said[1]) * 2**30)
        needed = sum(kinds.values()) + temporaries
    if compiled.executable is not None:
        found: Any = compiled.executable.memory_analysis()
        temporaries, code = found.temp_size_in_bytes, found.generated_code_size_in_bytes
        arrays = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
        needed = arrays + temporaries + code
    room, reserve = capacity(topology, pool)
    return Memory(**kinds, temporaries=temporaries, code=code, needed=needed, capacity=room, reserve=reserve)
