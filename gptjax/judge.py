"""What a checkpoint is worth: held-out likelihood, continued prompts, the surprisal of every token."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from gptjax import trained
from gptjax.config import Corpus, Data, Run, Sources
from gptjax.data import store
from gptjax.data.errors import DataError
from gptjax.evals import classify, heldout, likelihood
from gptjax.evals.sweep import Evaluator
from gptjax.infer.sample import Decoding, generate
from gptjax.objectives.causal import Causal
from gptjax.objectives.task import Task
from gptjax.train import sharding
from gptjax.types import Model, Objective, Params, TokenSplit

Say = Callable[[str], None]


def evaluator(
    run: Run, model: Model, objective: Objective, sources: Sources, mesh: Mesh | None = None
) -> Evaluator | None:
    """What judges a run's validation split: every token of it where it is running text, else every row once.

    A task adds its scores (accuracy, Matthews, F1, or Pearson, Spearman) to the means of the objective.
    """
    place = jax.device_put if mesh is None else sharding.placer(mesh, whole=True)
    if sources.split is not None:
        apart = run.data.packing == "documents"
        return likelihood.evaluator(model, sources.split, model.context, run.evaluation, apart, place, sharding.fetch)
    if sources.validation is None:
        return None
    rows, source = run.evaluation.rows, sources.validation
    means = heldout.evaluator(objective, source, rows, place, sharding.fetch)
    if not isinstance(run.objective, Task):
        return means
    predict = jax.jit(run.objective.predictor(model))
    labels_E = np.asarray(objective.batch(source.take(np.arange(source.rows), 0)).targets)

    def judge(params: Params, between: Callable[[], None]) -> dict[str, float]:
        scores_EC = heldout.predictions(predict, params, objective.batch, source, rows, place, sharding.fetch, between)
        return means.judge(params, between) | classify.summary(scores_EC, labels_E)

    def warm(params: Params) -> None:
        means.warm(params)
        some = objective.batch(source.take(np.zeros(rows, np.int64), 0))
        jax.block_until_ready(predict(params, place(some)))

    return Evaluator(judge, warm)


def held_out(folder: Path, data: str | None, stride: int | None, cache: Path, say: Say) -> dict[str, Any]:
    """`gptjax eval`: how well a checkpoint predicts all of `data`, or else its run's own validation split.

    Gives tokens, bytes, nats_per_token, perplexity, bits_per_byte, and the stride and context that they depend on; for
    a run fine-tuned on examples the means of its objective, and for a task its scores, in their place.
    """
    found = trained.load(folder, say)
    run = found.run
    evaluation = replace(run.evaluation, max_tokens=None, stride=run.evaluation.stride if stride is None else stride)
    run = replace(run, evaluation=evaluation)
    if data is not None and isinstance(run.objective, Causal):
        sources = Sources((), (), None, text(data, found, cache), "", ())
    else:
        judged = run.data if data is None else replace(run.data, validation=data)
        sources = run.objective.sources(judged, found.tokenizer, found.model.context, run.seed, cache)
    for note in sources.notes:
        say(note)
    judge = evaluator(run, found.model, found.objective, sources)
    if judge is None:
        raise DataError(f"RUN {folder}: holds no data out; name some with --data")
    return {"step": found.step, **judge(found.params)}


def text(source: str, found: trained.Trained, cache: Path) -> TokenSplit:
    """All of a source of text as tokens, under the run's tokenizer and document policy."""
    whole = Data(corpora=(Corpus(source),), validation_fraction=0.0, packing=found.run.data.packing)
    return store.build(whole, found.tokenizer, cache).splits["train"][0]


def continued(
    folder: Path, prompts: list[str], max_tokens: int, decoding: Decoding, seed: int, say: Say
) -> dict[str, Any]:
    """`gptjax sample`: every prompt with its continuation, the same for the same seed."""
    found = trained.load(folder, say)
    tokenizer = found.tokenizer
    begin = [tokenizer.bos_id] if tokenizer.bos_id is not None else []
    if not all(prompts) and not begin:
        begin = [tokenizer.eos_id] if tokenizer.eos_id is not None else []
    encoded = [np.array([*begin, *tokenizer.encode(prompt)], np.int32) for prompt in prompts]
    key = jax.random.key(seed)
    made = generate(found.model, found.params["model"], encoded, max_tokens, decoding, key, tokenizer.eos_id)
    samples = [
        {"prompt": prompt, "text": tokenizer.decode(ids), "tokens": len(ids)}
        for prompt, ids in zip(prompts, made, strict=True)
    ]
    how = {"temperature": decoding.temperature, "top_k": decoding.top_k, "top_p": decoding.top_p}
    return {"step": found.step, "seed": seed, "decoding": how, "samples": samples}


class Surprisal(NamedTuple):
    """The tokens of a text, each with its surprisal."""

    pieces: list[str]
    ids: list[int]
    bits: list[float]
    summary: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """{"summary": ..., "tokens": [{"text", "id", "bits"}, ...]}."""
        rows = zip(self.pieces, self.ids, self.bits, strict=True)
        return {"summary": self.summary, "tokens": [{"text": t, "id": i, "bits": b} for t, i, b in rows]}


def surprisal(folder: Path, data: str, stride: int | None, cache: Path, say: Say) -> Surprisal:
    """`gptjax score`: -log2 p of every token of all of `data`, each predicted once."""
    found = trained.load(folder, say)
    run, context = found.run, found.model.context
    split = text(data, found, cache)
    stride = stride or run.evaluation.stride or context
    apart = run.data.packing == "documents"
    nats_N = likelihood.token_nats(
        found.model, found.params["model"], split, context, stride, run.evaluation.rows, apart
    )
    summary = {**likelihood.summary(nats_N, split.bytes), "stride": stride, "context": context, "step": found.step}
    ids = np.asarray(split.tokens).tolist()
    bits = (nats_N / np.log(2)).tolist()
    return Surprisal(found.tokenizer.pieces(np.asarray(split.tokens)), ids, bits, summary)
