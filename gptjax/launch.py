"""From a configuration to a trained run: builds every part, hands them to the loop, and writes the run folder."""

import json
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import jax

from gptjax import judge, trained
from gptjax.config import ConfigError, Run, Sources, to_json
from gptjax.data import tokenizers
from gptjax.data.stream import fingerprint, stream
from gptjax.data.tokenizer import Tokenizer
from gptjax.data.tokenizers import SentencePiece
from gptjax.evals.sweep import Evaluator
from gptjax.models.gpt import GPT
from gptjax.objectives.causal import Causal
from gptjax.report import page
from gptjax.train import log, loop, sharding
from gptjax.train.folder import check_data, opened, write_json
from gptjax.train.optim import AdamW
from gptjax.train.schedules import Cosine
from gptjax.train.state import TrainState
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
    primary = jax.process_index() == 0
    with ExitStack() as stack:
        stop = stack.enter_context(StopSignal())
        mesh = sharding.make_mesh(run.mesh, jax.devices())
        sharding.check_rows(run, mesh)
        if primary:
            stack.enter_context(opened(folder, run))
        tokenizer, source = _tokenizer(run, folder, say)
        model, objective = trained.build(run, tokenizer)
        sources = run.objective.sources(run.data, tokenizer, model.context, run.seed, cache)
        for note in sources.notes:
            say(note)
        if primary:
            check_data(folder, sources.identity)
            _remember(folder)
        work = _work(run, mesh, objective, sources, judge.evaluator(run, model, objective, sources, mesh), source)
        news = _observers(run, folder, model.vocab_size, model.context, trackers, stack)
        state = loop.train(work, folder, news, stop)
        if primary:
            page.write([folder], folder / "report.html")
        return state


def _tokenizer(run: Run, folder: Path, say: Say) -> tuple[Tokenizer, trained.Trained | None]:
    """The run's tokenizer (its own from before, its init's, or a new one), and the run that it starts from."""
    source = None
    if run.init is not None:
        source = trained.load(Path(run.init), say, flag="--init")
        if source.run.tokenizer != run.tokenizer:
            raise ConfigError(f"--init {run.init}: its tokenizer is {source.run.tokenizer}, this run's {run.tokenizer}")
    home = folder / "tokenizer"
    if home.is_dir():
        return tokenizers.load(home), source
    if source is not None:
        tokenizer = source.tokenizer
    else:
        tokenizer = run.tokenizer.build(lambda: run.objective.texts(run.data, run.tokenizer.LEARNS_FROM))
    if jax.process_index() == 0:
        tokenizer.save(home)
    return tokenizer, source


def _work(
    run: Run,
    mesh: jax.sharding.Mesh,
    objective: Objective,
    sources: Sources,
    judged_by: Evaluator | None,
    source: trained.Trained | None,
) -> loop.Work:
    rows = stream(sources.train, sources.weights, run.seed, run.batch_rows, sharding.process_share(mesh))
    whole = stream(sources.train, sources.weights, run.seed, run.batch_rows)
    schedule = run.schedule.build(run.steps)
    transfer = trained.grafting(source, run.transfer) if source is not None and run.transfer != "none" else None
    return loop.Work(
        run=run,
        objective=objective,
        mesh=mesh,
        batch=lambda step: objective.batch(rows(step)),
        describe=lambda step: fingerprint(objective.batch(whole(step))),
        learning_rate=lambda step: run.optimizer.learning_rate * float(schedule(step)),
        evaluator=judged_by,
        transfer=transfer,
    )


def _remember(folder: Path) -> None:
    """Add this start's environment to `environment.json`, one entry for every time the run was started."""
    path = folder / "environment.json"
    starts = json.loads(path.read_text(encoding="utf-8"))["starts"] if path.exists() else []
    write_json(path, {"starts": [*starts, log.environment()]})


def _observers(
    run: Run, folder: Path, vocab_size: int, row_tokens: int, trackers: Trackers, stack: ExitStack
) -> loop.Observers:
    """metrics.jsonl, the progress line and the trackers, on the first process; silence on the others."""
    if jax.process_index() != 0:
        return loop.Observers(lambda step: None, lambda row: None, lambda done, row: None, lambda line: None)
    read = run.batch_rows * row_tokens
    progress = stack.enter_context(log.Progress(run.steps, read))
    metrics = stack.enter_context(closing(log.MetricsFile(folder / "metrics.jsonl")))
    others = [log.tensorboard(folder / "tensorboard")] if trackers.tensorboard else []
    if trackers.wandb_project is not None:
        others.append(log.wandb(trackers.wandb_project, folder.name, to_json(run)))
    for other in others:
        stack.callback(other.close)
    whole, causal = run.model.flops_per_token(vocab_size, row_tokens)
    peak = log.peak_flops(jax.devices()[0].device_kind)
    peak = None if peak is None else peak * jax.device_count()

    def resumed(step: int) -> None:
        metrics.truncate_after(step)
        progress.resumed(step)

    def row(values: loop.Row) -> None:
        if "step_seconds" in values:
            rate = read / values["step_seconds"]
            shares = {"mfu": log.mfu(whole, rate, peak), "mfu_causal": log.mfu(causal, rate, peak)}
            values = {**values, "tokens_per_second": rate, **shares}
        metrics.append(values)
        progress.row(values)
        for other in others:
            other(values)

    return loop.Observers(resumed, row, progress.tick, progress.say)
