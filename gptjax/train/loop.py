"""The training loop: the only orchestration. It knows batches, an objective and a state, and nothing of any model."""

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from gptjax.config import ConfigError, Run
from gptjax.data.prefetch import prefetch
from gptjax.train import checkpoint, sharding, snapshot
from gptjax.train.hosts import agreed
from gptjax.train.state import TrainState, init_state, joined, loss_of, parted
from gptjax.train.step import jitted, make_step
from gptjax.train.stop import Stopped, StopSignal
from gptjax.types import Objective, Params

Row = Mapping[str, Any]

UNJUDGED: Row = {"judged_step": -1, "metrics": {}}
AGREE_EVERY = 10
"""Updates after which many processes ask one another for signals; asking waits for the device."""


class Diverged(RuntimeError):
    """Too many updates in a row had a non-finite loss, gradient or result; the message is one line."""


class Evaluator(Protocol):
    """Judges parameters; compiled before training starts, so that a stop never waits for a compiler."""

    def compile(self, params: Params) -> None:
        """Compile for parameters of these shapes and shardings."""

    def __call__(self, params: Params, between: Callable[[], None]) -> Mapping[str, float]:
        """Metrics of `params`; `between()` is called after each batch and may raise."""


@dataclass(frozen=True)
class Work:
    """What is to be trained, ready to go."""

    run: Run
    objective: Objective
    mesh: jax.sharding.Mesh
    batch: Callable[[int], Any]
    """`batch(step)`: this process's rows of update `step` (from 0), host arrays."""
    describe: Callable[[int], str]
    """`describe(step)`: fingerprint of an update's whole batch, the same on any number of hosts."""
    learning_rate: Callable[[int], float]
    """After so many applied updates, for the log."""
    evaluator: Evaluator | None
    """Of the validation split."""
    transfer: Callable[[Params], Params] | None
    """Puts pretrained values into freshly initialised parameters; None starts from those."""


class Observers(NamedTuple):
    """Where the loop's news goes; on processes other than the first, nowhere."""

    resumed: Callable[[int], None]
    """Called once, with the step that the run continues from, before anything of a later step."""
    row: Callable[[Row], None]
    """Called with every row of metrics, in order."""
    tick: Callable[[int, Row], None]
    """Called after every update with the number of updates done, its loss_nats, tokens and step_seconds."""
    say: Callable[[str], None]
    """One line for a person."""


def train(work: Work, folder: Path, observers: Observers, stop: StopSignal) -> TrainState:
    """Train to `run.steps`, from the newest intact checkpoint in `folder` if there is one.

    Bitwise the same however often it is interrupted: the state holds all that the future depends on, and batch and
    dropout are functions of the step. Raises `Stopped` (after saving), `Diverged`, `checkpoint.CheckpointError`.
    """
    run = work.run
    optimizer = run.optimizer.build(run.schedule.build(run.steps))
    state, shardings, about = _first_state(work, optimizer, folder / "checkpoints", observers.say)
    done = int(state.step)
    observers.resumed(done)
    if done == run.steps == about["judged_step"]:
        observers.say(f"already trained: {done} of {run.steps} updates")
        return state
    step = make_step(run, loss_of(run, work.objective), optimizer, sharding.layout(work.mesh, run.mesh.gather))
    update = jitted(step, shardings)
    place = sharding.placer(work.mesh)
    started = time.perf_counter()
    compiled = update.lower(state, place(work.batch(0))).compile()
    if work.evaluator is not None:
        work.evaluator.compile(snapshot.judged(state))
    observers.say(f"compiled in {time.perf_counter() - started:.1f} s")
    writer = checkpoint.Writer(
        folder / "checkpoints", run.checkpoints.keep_last, run.checkpoints.keep_best, jax.process_index() == 0
    )
    try:
        return _Loop(work, observers, stop, writer).run(compiled, place, state, about)
    finally:
        writer.close()


def _first_state(
    work: Work, optimizer: Any, checkpoints: Path, say: Callable[[str], None]
) -> tuple[TrainState, TrainState, dict[str, Any]]:
    """The state to go on from, how it is laid out, and what its checkpoint says of it."""

    def begin(key: jax.Array) -> TrainState:
        return init_state(work.run, work.objective, optimizer, key)

    key = jax.random.key(work.run.seed)
    abstract = jax.eval_shape(begin, key)
    shardings, notes = sharding.state_shardings(abstract, work.mesh)
    for note in notes:
        say(note)
    found = snapshot.newest(checkpoints, say)
    if found is not None:
        say(f"continuing from {found}")
        return snapshot.restore(found, abstract, shardings), shardings, checkpoint.about(found)
    state = jax.jit(begin, out_shardings=shardings)(key)
    if work.transfer is not None:
        begun = parted(work.transfer(joined(state.params, state.frozen)), work.objective.frozen)
        params, frozen = jax.jit(lambda trees: trees, out_shardings=(shardings.params, shardings.frozen))(begun)
        ema = None if state.ema is None else jax.tree.map(jnp.copy, params)
        state = replace(state, params=params, ema=ema, frozen=frozen)
    return state, shardings, {}


class _Loop:
    """The mutable part: clocks, the row whose numbers are still on the device, what was judged and saved last."""

    def __init__(self, work: Work, observers: Observers, stop: StopSignal, writer: checkpoint.Writer) -> None:
        self._work, self._observers, self._stop, self._writer = work, observers, stop, writer
        self._about: Mapping[str, Any] = UNJUDGED
        self._saved, self._checks = -1, 0
        self._pending: tuple[int, Row, float] | None = None
        self._clock = time.perf_counter()
        self._spent = 0.0  # seconds in updates since the last row of metrics

    def run(self, update: Callable, place: Callable, state: TrainState, about: dict[str, Any]) -> TrainState:
        """All updates from `state` on; `about` is what its checkpoint says of it (nothing for a new run)."""
        run, first = self._work.run, int(state.step)
        self._saved = first if about else -1
        try:
            if first and self._due(first, run.evaluation.every_steps) and about["judged_step"] != first:
                self._judge(first, state)  # the run was stopped just before
                self._save(state, again=True)
            if not about and self._work.transfer is not None:
                self._save(state)  # from here on it is this run's own, whatever becomes of where it came from
            with prefetch(self._work.batch, range(first, run.steps), place) as batches:
                self._clock = time.perf_counter()
                for step, batch, waited in batches:
                    self._check()
                    state, metrics = update(state, batch)
                    self._stop.unsaved = True
                    self._log()  # the update before: its numbers arrive while the device is busy with this one
                    self._pending = (step + 1, metrics, waited)
                    self._between(step + 1, state)
        except Stopped:
            self._log()
            self._save(state)
            raise
        agreed(self._writer.wait)
        self._stop.unsaved = False
        self._stop.check()
        return state

    def _check(self) -> None:
        """Raise `Stopped` after a signal; on many processes on all at the same update, for they save together."""
        if jax.process_count() == 1:
            self._stop.check()
            return
        self._checks += 1
        if self._checks % AGREE_EVERY == 0 and multihost_utils.process_allgather(np.int32(self._stop.asked)).any():
            raise Stopped

    def _due(self, done: int, every_steps: int) -> bool:
        return done % every_steps == 0 or done == self._work.run.steps

    def _between(self, done: int, state: TrainState) -> None:
        """What is due after `done` updates: first the judging, so that the checkpoint knows its worth."""
        judging = self._due(done, self._work.run.evaluation.every_steps)
        saving = self._due(done, self._work.run.checkpoints.every_steps)
        if judging or saving:
            self._log()
            if judging:
                self._judge(done, state)
            if saving:
                self._save(state)
            self._clock = time.perf_counter()
        if jax.process_count() == 1:  # of many, all learn of it at the next save
            self._writer.check()

    def _judge(self, done: int, state: TrainState) -> None:
        metrics: Row = {}
        if self._work.evaluator is not None:
            metrics = self._work.evaluator(snapshot.judged(state), self._check)
            self._observers.row({"step": done, "split": "validation", **metrics})
        best = self._work.run.checkpoints.keep_best
        if best is not None and best not in metrics:
            found = ", ".join(metrics) or "none, for nothing is held out"
            raise ConfigError(f"checkpoints.keep_best={best!r} is no metric of this run's evaluation; it has {found}")
        self._about = {"judged_step": done, "metrics": dict(metrics)}

    def _save(self, state: TrainState, again: bool = False) -> None:
        done = int(state.step)
        if done != self._saved or again:
            agreed(self._writer.wait)
            snapshot.save(self._writer, state, self._about if self._about["judged_step"] == done else UNJUDGED)
            self._saved = done

    def _log(self) -> None:
        if self._pending is None:
            return
        run, (done, metrics, waited) = self._work.run, self._pending
        self._pending = None
        values = {name: value.item() for name, value in jax.device_get(metrics).items()}
        now = time.perf_counter()
        seconds, self._clock = now - self._clock, now
        self._spent += seconds
        self._observers.tick(done, values | {"step_seconds": seconds})
        # Updates applied before this one, which is itself among the skipped where it was.
        applied = done - 1 - values["skipped"] + (values["skipped_in_a_row"] > 0)
        if done % run.log_every_steps == 0 or done in (1, run.steps):
            row = values | {
                "learning_rate": self._work.learning_rate(applied),
                "step_seconds": seconds,
                "update_seconds": self._spent,
                "host_wait_share": min(1.0, waited / seconds),
                "memory_bytes": memory_bytes(),
                "batch": self._work.describe(done - 1),
            }
            self._observers.row({"step": done, **row})
            self._spent = 0.0
        if values["skipped_in_a_row"] >= run.abort_after_skips:
            raise Diverged(
                f"step {done}: loss, gradient or result was not finite in {run.abort_after_skips} updates in a row; "
                "the parameters are those before them; try a lower learning rate, or look at the batches in the log"
            )


def memory_bytes() -> int:
    """Peak memory: of the first device where it keeps count, else of this process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return int(stats.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
