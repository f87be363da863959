"""From a configuration to a trained run: builds every part, hands them to the loop, and writes the run folder."""

import math
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from gptjax import trained
from gptjax.config import ConfigError, Run, Sources, to_json
from gptjax.data import tokenizers
from gptjax.data.stream import fingerprint, running, stream, unread
from gptjax.data.tokenizer import Tokenizer
from gptjax.data.tokenizers import SentencePiece
from gptjax.evals.sweep import Evaluator
from gptjax.interop import origin
from gptjax.judging import exam, judge
from gptjax.models.gpt import GPT
from gptjax.objectives.causal import Causal
from gptjax.report import page
from gptjax.train import allocator, checkpoint, log, loop, machine, sharding, virtual
from gptjax.train.folder import FolderError, check_data, claim, opened, remembered, write_json
from gptjax.train.hosts import agreed
from gptjax.train.optim import AdamW
from gptjax.train.progress import Progress
from gptjax.train.schedules import Cosine
from gptjax.train.state import TrainState, loss_of
from gptjax.train.stop import StopSignal
from gptjax.types import Objective

Say = Callable[[str], None]


class Trackers(NamedTuple):
    """Where metrics go besides metrics.jsonl."""

    tensorboard: bool = False
    wandb_project: str | None = None


def default_run() -> Run:
    """A run of the usual kind, for showing what can be set before a target is chosen."""
    return Run(model=GPT(), tokenizer=SentencePiece(), objective=Causal(), optimizer=AdamW(), schedule=Cosine())


NO_TRACKERS = Trackers()


def launch(run: Run, folder: Path, cache: Path, say: Say, trackers: Trackers = NO_TRACKERS) -> TrainState:
    """Train `run` in `folder`, or continue it there; on every process of a multi-host job alike.

    `cache` keeps token stores between runs. Raises `ConfigError`, `DataError` and `FolderError` for what a user can
    mend, `Stopped` after a signal, and what `loop.train` raises.
    """
    allocator.keep_freed_memory()
    with ExitStack() as stack:
        stop = stack.enter_context(StopSignal())
        mesh = sharding.make_mesh(*virtual.layout(run, say))
        sharding.check(run, mesh)
        ready = agreed(lambda: _prepare(run, folder, cache, mesh, say, stack))
        news = _observers(run, folder, ready.vocab_size, ready.row, trackers, stack)
        state = loop.train(ready.work, folder, news, stop)
        if jax.process_index() == 0:
            page.write([folder], folder / "report.html")
        return state


class _Ready(NamedTuple):
    """What is known of a run before its first update."""

    work: loop.Work
    vocab_size: int
    row: tuple[int, ...]
    """Shape of one row's tokens, [1, T] or [1, W, T]."""


def _prepare(run: Run, folder: Path, cache: Path, mesh: jax.sharding.Mesh, say: Say, stack: ExitStack) -> _Ready:
    """What the loop needs; on the first process also the folder, held until `stack` is left."""
    primary = jax.process_index() == 0
    if primary:
        stack.enter_context(opened(folder, run))
    begun = _begun(run, folder, say)
    if run.objective.plain() != run.objective and (run.init is None or run.transfer != "all"):
        say("adapters: what they are put into was never trained and stays as it is drawn; name a model with --init")
    tokenizer = _tokenizer(run, folder)
    place = sharding.place(mesh, run.mesh.gather)
    model, objective = trained.build(run, tokenizer, place)
    sources = run.objective.sources(run.data, tokenizer, model.context, run.seed, cache)
    # The tokens are the first leaf of every kind of batch: [1, T], or [1, W, T] for a task.
    batch = objective.batch(sources.train[0].take(np.arange(1), 0))
    row, packed = jax.tree.leaves(batch)[0], getattr(batch, "segments", None) is not None
    for note in (*sources.notes, *run.model.notes(row.shape[-1], packed, run.precision, place)):
        say(note)
    judged_by = judge.evaluator(run, model, objective, sources, tokenizer.bos_id, mesh)
    judged_by = exam.with_tasks(run, judged_by, model, tokenizer, mesh)
    exam.require_best(run, judged_by, objective.init)
    work = _work(run, mesh, objective, sources, judged_by, begun)
    if run.data.order == "running":
        say(unread(sources.train[0], run.batch_rows))
    if primary:
        check_data(folder, sources.identity)
        claim(folder, run, sources.identity)
        tokenizer.save(folder / "tokenizer")
        _remember(folder, begun)
    return _Ready(work, model.vocab_size, row.shape)


def _begun(run: Run, folder: Path, say: Say) -> trained.Trained | None:
    """The run whose parameters to start from, at the same checkpoint every time.

    None where only its model and tokenizer are taken, and once there is a checkpoint of one's own. Raises `FolderError`
    where that checkpoint is not what it was when this run was first started.
    """
    if run.init is None or run.transfer == "none" or checkpoint.steps(folder / "checkpoints"):
        return None
    path, record = Path(run.init), folder / "init.json"
    if record.exists():
        path = origin.at_step(path, remembered(record, "step"), "--init")
    found = origin.load(path, say, flag="--init")
    if record.exists() and remembered(record, "sha256") != origin.sums(found):
        raise FolderError(f"--init {path}: is not the checkpoint that this run began with; start another run")
    return found


def _tokenizer(run: Run, folder: Path) -> Tokenizer:
    """The run's tokenizer: its own from before, its init's, or a new one."""
    if (folder / "tokenizer").is_dir():
        return tokenizers.load(folder / "tokenizer")
    if run.init is not None:
        theirs, tokenizer, _ = origin.recall(Path(run.init), "--init")
        if theirs.tokenizer != run.tokenizer:
            raise ConfigError(f"--init {run.init}: its tokenizer is {theirs.tokenizer}, this run's {run.tokenizer}")
        return tokenizer
    return run.tokenizer.build(lambda: run.objective.texts(run.data, run.tokenizer.LEARNS_FROM))


def _work(
    run: Run,
    mesh: jax.sharding.Mesh,
    objective: Objective,
    sources: Sources,
    judged_by: Evaluator | None,
    begun: trained.Trained | None,
) -> loop.Work:
    loss_of(run, objective)  # is there a state to carry where rows continue rows?
    rows, whole = _ordered(run, sources, sharding.process_share(mesh)), _ordered(run, sources, (0, 1))
    schedule = run.schedule.build(run.steps)

    def batch(rows: Any, step: int) -> Any:
        return objective.scheduled(objective.batch(rows), step)

    transfer = None
    if begun is not None and run.transfer != "none":
        transfer = trained.grafting(begun, run.transfer, run.objective.specials())
        jax.eval_shape(transfer, jax.eval_shape(objective.init, jax.random.key(0)))  # do all the shapes fit?
    return loop.Work(
        run=run,
        objective=objective,
        mesh=mesh,
        batch=lambda step: batch(rows(step), step),
        describe=lambda step: fingerprint(batch(whole(step), step)),
        learning_rate=lambda step: run.optimizer.learning_rate * float(schedule(step)),
        evaluator=judged_by,
        transfer=transfer,
    )


def _ordered(run: Run, sources: Sources, shard: tuple[int, int]) -> Callable[[int], Any]:
    """This part of the rows of every update."""
    if run.data.order == "running":
        return running(sources.train[0], run.batch_rows, shard)
    return stream(sources.train, sources.weights, run.seed, run.batch_rows, shard)


def _remember(folder: Path, begun: trained.Trained | None) -> None:
    """Add this start's environment to `environment.json`, and note in `init.json` where the parameters came from."""
    path = folder / "environment.json"
    starts = remembered(path, "starts") if path.exists() else []
    write_json(path, {"starts": [*starts, machine.environment()]})
    if begun is not None:
        write_json(folder / "init.json", {"step": begun.step, "sha256": origin.sums(begun)})


def _observers(
    run: Run, folder: Path, vocab_size: int, row: tuple[int, ...], trackers: Trackers, stack: ExitStack
) -> loop.Observers:
    """metrics.jsonl, the progress line and the trackers, on the first process; silence on the others."""
    if jax.process_index() != 0:
        return loop.Observers(lambda step: None, lambda row: None, lambda done, row: None, lambda line: None)
    read = run.batch_rows * math.prod(row)
    progress = stack.enter_context(Progress(run.steps, read))
    metrics = stack.enter_context(closing(log.MetricsFile(folder / "metrics.jsonl")))
    others = [log.tensorboard(folder / "tensorboard")] if trackers.tensorboard else []
    if trackers.wandb_project is not None:
        others.append(log.wandb(trackers.wandb_project, folder.name, to_json(run)))
    for other in others:
        stack.callback(other.close)
    whole, causal = run.model.flops_per_token(vocab_size, row[-1])
    peak = machine.peak_flops(jax.devices()[0].device_kind)
    peak = None if peak is None else peak * jax.device_count()

    def resumed(step: int) -> None:
        metrics.truncate_after(step)
        progress.resumed(step)

    def write(values: loop.Row) -> None:
        if "step_seconds" in values:
            rate = read / values["step_seconds"]
            shares = {"mfu": machine.mfu(whole, rate, peak), "mfu_causal": machine.mfu(causal, rate, peak)}
            values = {**values, "tokens_per_second": rate, **shares}
        metrics.append(values)
        progress.row(values)
        for other in others:
            other(values)

    return loop.Observers(resumed, write, progress.tick, progress.say)
