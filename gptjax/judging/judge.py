"""What a checkpoint is worth: held-out likelihood, and prompts continued."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from gptjax import counted, trained
from gptjax.config import SEEDS, ConfigError, Corpus, Data, Run, Sources
from gptjax.data import store
from gptjax.data.errors import DataError
from gptjax.data.tokenizer import Tokenizer
from gptjax.evals import carried, classify, heldout, likelihood, pseudo
from gptjax.evals.sweep import Evaluator, Place
from gptjax.infer import beam
from gptjax.infer.beam import Beam
from gptjax.infer.sample import Decoding, generate
from gptjax.interop import origin
from gptjax.objectives import examples, masked
from gptjax.objectives.causal import Causal
from gptjax.objectives.masked import Masked
from gptjax.train import sharding
from gptjax.train.folder import check_data
from gptjax.train.step import cast
from gptjax.types import Model, Objective, Params, TokenSplit

Say = Callable[[str], None]
Summary = Callable[[np.ndarray, np.ndarray], dict[str, float]]
"""`summary(scores_EC, labels_E)`: what is measured of predictions."""

PSEUDO_TOKENS = 2000
"""Tokens at the start of the held-out text whose pseudo-likelihood is judged: each costs a whole row."""


in_precision = jax.jit(cast, static_argnums=1)
"""The parameters as a run computes with them: an attention kernel may know no other dtype."""


def evaluator(
    run: Run,
    model: Model,
    objective: Objective,
    sources: Sources,
    bos_id: int | None = None,
    mesh: Mesh | None = None,
    summary: Summary = classify.summary,
) -> Evaluator | None:
    """What judges a run's validation split: every token of it where it is running text, else every row once.

    Computes in `run.precision`, on rows that split evenly over the mesh, with adapters put into the model. An objective
    that predicts adds its scores (accuracy, Matthews, F1, or Pearson, Spearman: `summary`) to its means.
    """
    asked, run = run.objective, replace(run, objective=run.objective.plain())
    parts = 1 if mesh is None else sharding.row_shards(mesh)
    rows = -(-run.evaluation.rows // parts) * parts
    place = jax.device_put if mesh is None else sharding.placer(mesh, whole=True)
    found = _evaluator(run, model, objective, sources, bos_id, rows, place, summary)
    if found is None:
        return None

    def ready(params: Params) -> Params:
        params = asked.merged(params)
        return params if run.precision == "float32" else in_precision(params, run.precision)

    return Evaluator(
        lambda params, between: found.judge(ready(params), between),
        lambda params: found.warm(ready(params)),
        lambda params: found.names(jax.eval_shape(lambda tree: cast(asked.merged(tree), run.precision), params)),
    )


def _evaluator(
    run: Run,
    model: Model,
    objective: Objective,
    sources: Sources,
    bos_id: int | None,
    rows: int,
    place: Place,
    summary: Summary,
) -> Evaluator | None:
    fetch = sharding.fetch
    if sources.split is not None and model.causal:
        apart, how = run.data.packing == "documents", replace(run.evaluation, rows=rows)
        if how.state == "carried":
            # As many parts as the run says, on any mesh: they are what the number depends on.
            return carried.evaluator(model, sources.split, run.evaluation, apart, place, fetch, bos_id)
        return likelihood.evaluator(model, sources.split, model.context, how, apart, place, fetch, bos_id)
    if sources.validation is None:
        return None
    source = sources.validation
    if isinstance(run.objective, Masked) and run.evaluation.max_tokens is not None:
        source = source._replace(rows=min(source.rows, -(-run.evaluation.max_tokens // (model.context - 2))))
    means = heldout.evaluator(objective, source, rows, place, fetch)
    predictor = run.objective.predictor(model)
    if predictor is None:
        return means
    predict = jax.jit(predictor)
    labels_E = np.asarray(objective.batch(source.take(np.arange(source.rows), 0)).targets)

    def judge(params: Params, between: Callable[[], None]) -> dict[str, float]:
        scores_EC = heldout.predictions(predict, params, objective.batch, source, rows, place, fetch, between)
        return means.judge(params, between) | summary(scores_EC, labels_E)

    def warm(params: Params) -> None:
        means.warm(params)
        some = objective.batch(source.take(np.zeros(rows, np.int64), 0))
        jax.block_until_ready(predict(params, place(some)))

    def names(params: Params) -> tuple[str, ...]:
        C = jax.eval_shape(predictor, params, objective.batch(source.take(np.zeros(1, np.int64), 0))).shape[1]
        return tuple(dict.fromkeys([*means.names(params), *summary(np.eye(2, C), np.zeros(2))]))

    return Evaluator(judge, warm, names)


def held_out(
    folder: Path, data: str | None, stride: int | None, cache: Path, say: Say, whole: bool = False
) -> dict[str, Any]:
    """`gptjax eval`: how well a checkpoint predicts all of `data`, or else what its run was judged by in training.

    Gives tokens, bytes, nats_per_token, perplexity, bits_per_byte, and the stride and context that they depend on; for
    a run fine-tuned on examples the means of its objective, for a task its scores and their 95% intervals over the
    examples (accuracy, accuracy_low, accuracy_high), and for hidden tokens the means and the text's pseudo-likelihood
    (`PSEUDO_TOKENS`), in their place. Without `data` it is training's own number, or with
    `whole` that of the whole split; raises `FolderError` where the run's data have changed since.
    """
    if counted.holds(folder):
        return counted.held_out(folder, data, stride, cache)
    if data is None and origin.foreign(folder):
        raise DataError(f"RUN {folder}: a Hugging Face folder has no text of its own; name some with --data")
    found = origin.load(folder, say)
    run = found.run
    most = run.evaluation.max_tokens if data is None and not whole else None
    evaluation = replace(run.evaluation, max_tokens=most)
    if stride is not None:  # windows, however the run was judged in training
        evaluation = replace(evaluation, stride=stride, state="fresh")
    run = replace(run, evaluation=evaluation)
    sources = _judged_by(found, data, cache)
    for note in sources.notes:
        say(note)
    if stride is not None and (sources.split is None or not found.model.causal):
        kind = type(run.objective).__name__
        raise ConfigError(f"--stride {stride}: {kind} is judged by whole rows, not in windows; leave it out")
    if sources.split is not None and most is not None and most < len(sources.split.tokens):
        say(f"evaluation.max_tokens: the first {most:,} of {len(sources.split.tokens):,} held-out tokens are judged")
    bos_id, summary = found.tokenizer.bos_id, classify.intervals
    judge = evaluator(run, found.model, found.objective, sources, bos_id, summary=summary)
    if judge is None:
        raise DataError(f"RUN {folder}: holds no data out; name some with --data")
    values = {"step": found.step, **judge(found.params)}
    if isinstance(run.objective, Masked) and sources.split is not None:
        values |= _pseudo_likelihood(found, sources.split, say)
    return values


def _pseudo_likelihood(found: trained.Trained, split: TokenSplit, say: Say) -> dict[str, float]:
    say(f"pseudo-perplexity: the first {min(PSEUDO_TOKENS, len(split.tokens)):,} of {len(split.tokens):,} tokens")
    params, ids = in_precision(found.params["model"], found.run.precision), masked.marks(found.tokenizer)
    tokens_N = np.asarray(split.tokens[:PSEUDO_TOKENS])
    nats_N = pseudo.token_nats(found.model, params, tokens_N, ids, found.run.evaluation.rows)
    # Ends of documents were never hidden in training, so the model was never asked for them.
    ends = [id for id in (found.tokenizer.bos_id, found.tokenizer.eos_id) if id is not None]
    return pseudo.summary(nats_N[~np.isin(tokens_N, ends)])


def _judged_by(found: trained.Trained, data: str | None, cache: Path) -> Sources:
    """The run's own sources, or `data` alone: nothing that was trained on need be there any more."""
    run, tokenizer, context = found.run, found.tokenizer, found.model.context
    if data is None:
        sources = run.objective.sources(run.data, tokenizer, context, run.seed, cache)
        check_data(found.folder, sources.identity, "RUN")
        return sources
    if isinstance(run.objective, Causal):
        return Sources((), (), None, text(data, found, cache), "", ())
    if isinstance(run.objective, Masked):
        split = text(data, found, cache)
        rows, notes = run.objective.judged(split, tokenizer, context, run.data.packing == "documents")
        return Sources((), (), rows, split, "", notes)
    if run.objective.FITTED:
        return run.objective.sources(replace(run.data, validation=data), tokenizer, context, run.seed, cache)
    alone = Data(corpora=(Corpus(examples.held_out(data)),), validation_fraction=0.0)
    sources = run.objective.sources(alone, tokenizer, context, run.seed, cache)
    return sources._replace(validation=sources.train[0])


def text(source: str, found: trained.Trained, cache: Path) -> TokenSplit:
    """All of a source of text as tokens, under the run's tokenizer and document policy."""
    whole = Data(corpora=(Corpus(source),), validation_fraction=0.0, packing=found.run.data.packing)
    return store.build(whole, found.tokenizer, cache).splits["train"][0]


def language_model(folder: Path, say: Say) -> trained.Trained:
    """A run whose model reads and continues a text by itself; raises `ConfigError` for one that does something else."""
    found = origin.load(folder, say)
    if not isinstance(found.model, Model):
        kind = type(found.run.model).__name__
        raise ConfigError(f"RUN {folder}: a {kind} has no text to continue or score by itself; it needs a source")
    return found


class _Writer(NamedTuple):
    """What continues prompts."""

    tokenizer: Tokenizer
    step: int
    generate: Callable[[list[np.ndarray], int, Decoding, jax.Array], list[np.ndarray]]
    """`generate(prompts, max_tokens, decoding, key)` gives the new tokens of each prompt."""


def _writer(folder: Path, say: Say) -> _Writer:
    if counted.holds(folder):
        counts = counted.load(folder)
        return _Writer(counts.tokenizer, counted.STEP, partial(counted.generate, counts))
    found = language_model(folder, say)
    params = in_precision(found.params["model"], found.run.precision)
    eos_id = found.tokenizer.eos_id
    return _Writer(found.tokenizer, found.step, partial(generate, found.model, params, eos_id=eos_id))


def continued(
    folder: Path,
    prompts: list[str],
    max_tokens: int,
    decoding: Decoding,
    seed: int,
    say: Say,
    special_tokens: bool = False,
) -> dict[str, Any]:
    """`gptjax sample`: every prompt with its continuation, the same for the same seed.

    With `special_tokens`, what a prompt writes for a special token becomes that token, as in a chat by a template.
    """
    if not prompts:
        raise ConfigError("there is nothing to continue; ask for one sample at least")
    if not 0 <= seed < SEEDS:
        raise ConfigError(f"seed={seed} is not in [0, 2**32)")
    writer = _writer(folder, say)
    tokenizer = writer.tokenizer
    encoded = _encoded(tokenizer, prompts, special_tokens)
    made = writer.generate(encoded, max_tokens, decoding, jax.random.key(seed))
    samples = [
        {"prompt": prompt, "text": tokenizer.decode(ids), "tokens": len(ids)}
        for prompt, ids in zip(prompts, made, strict=True)
    ]
    how = {"temperature": decoding.temperature, "top_k": decoding.top_k, "top_p": decoding.top_p}
    return {"step": writer.step, "seed": seed, "decoding": how, "samples": samples}


def _encoded(tokenizer: Tokenizer, prompts: list[str], special_tokens: bool) -> list[np.ndarray]:
    """Ids of the prompts, behind a beginning-of-text token where there is one; an empty one follows some text's end."""
    begin = [tokenizer.bos_id] if tokenizer.bos_id is not None else []
    if not all(prompts) and not begin:
        begin = [tokenizer.eos_id] if tokenizer.eos_id is not None else []
    encode = tokenizer.encode_written if special_tokens else tokenizer.encode
    return [np.array([*begin, *encode(prompt)], np.int32) for prompt in prompts]


def searched(
    folder: Path, prompt: str, max_tokens: int, how: Beam, say: Say, special_tokens: bool = False
) -> dict[str, Any]:
    """`gptjax sample --beams`: the hypotheses that a beam search ends with, the best first, with their nats."""
    found = language_model(folder, say)
    if not found.model.causal:
        raise ConfigError("the model reads both sides of a token and cannot continue a text; search with a GPT")
    tokenizer, params = found.tokenizer, in_precision(found.params["model"], found.run.precision)
    encoded = _encoded(tokenizer, [prompt], special_tokens)
    [best] = beam.continuations(found.model, params, encoded, max_tokens, how, tokenizer.eos_id)
    samples = [
        {"prompt": prompt, "text": tokenizer.decode(h.tokens), "tokens": len(h.tokens), "nats": -h.log_probability}
        for h in best
    ]
    decoding = {"beams": how.beams, "length_power": how.length_power}
    return {"step": found.step, "decoding": decoding, "samples": samples[:1] if how.beams == 1 else samples}
