"""Translation: max sum_t log P(y_t | y_1 .. y_{t-1}, x; theta) over pairs of a source x and a target y."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gptjax.config import ConfigError, Data, ObjectiveConfig, Sources, Widest
from gptjax.data.errors import DataError
from gptjax.objectives import pairs
from gptjax.objectives.causal import require_tile
from gptjax.objectives.forcing import Forcing, Teacher
from gptjax.objectives.head import TileTokens, weighted_nats
from gptjax.objectives.pairs import Pair, PairRows
from gptjax.types import Array, Key, Metrics, Objective, Params


class PairBatch(NamedTuple):
    """B pairs; every leaf has a leading B."""

    inputs: Array
    """[B, T] int32: beginning-of-text, then the target but for its last token."""
    targets: Array
    """[B, T] int32: the token that follows each input; the last that counts is end-of-text."""
    weights: Array
    """[B, T] float32; 0 where a target is padding."""
    source: Array
    """[B, S] int32."""
    source_lengths: Array
    """[B] int32; the source's tokens, padding left out."""
    forcing: Array
    """[B] float32: the probability that a row's decoder reads a true token, where training reads its own at all."""


@dataclass(frozen=True)
class Seq2Seq(ObjectiveConfig):
    """Predict every token of the target from the source and the target tokens before it."""

    source: str = "source"
    """Field of a record that holds the source; a table without a header has it first."""
    target: str = "target"
    """Field of a record that holds the target; a table without a header has it second."""
    forcing: Forcing = field(default_factory=Teacher)
    """How often the decoder reads the true previous token in training; evaluation always does."""
    tile_tokens: TileTokens = "auto"
    """Tokens whose logits exist at once: fewer take less memory; auto is all but on a CPU, where caches are small."""

    def check(self) -> None:
        require_tile(self, self.tile_tokens)

    def build(self, model: Any, tokenizer: Any) -> Objective:
        """The objective over a `Translator`; metric "nats" is that of the target's tokens.

        Raises `ConfigError` for a model of another kind, or a tokenizer without ends of text.
        """
        self.require(hasattr(model, "encode"), "a translation needs a translator as its model, as RecurrentTranslator")
        _require_ends(tokenizer)
        teacher = isinstance(self.forcing, Teacher)

        def init(key: Key) -> Params:
            return {"model": model.init(key)}

        def loss(params: Params, batch: PairBatch, key: Key | None) -> tuple[jax.Array, jax.Array, Metrics]:
            own, count = params["model"], jnp.sum(jnp.asarray(batch.weights, jnp.float32))
            reading, writing = (None, None) if key is None else jax.random.split(key)
            memory = model.encode(own, batch.source, batch.source_lengths, reading)
            if teacher or writing is None:
                features_BTD = model.decode(own, memory, batch.inputs, writing)
            else:
                features_BTD = written(model, own, memory, batch, writing)
            total, nats = weighted_nats(model, own, features_BTD, batch.targets, batch.weights, self.tile_tokens)
            return total, count, {"nats": (nats, count)}

        def scheduled(batch: PairBatch, step: int) -> PairBatch:
            return batch._replace(forcing=np.full_like(batch.forcing, self.forcing.probability(step)))

        return Objective(init, to_batch, loss, scheduled)

    def texts(self, data: Data, splits: tuple[str, ...]) -> Iterator[str]:
        """Both sides of the pairs of these splits, for one vocabulary."""
        found = pairs.read(data, self.source, self.target)
        for name, parts in (("train", found.train), ("validation", [found.validation])):
            if name in splits:
                yield from (text for part in parts for pair in part for text in pair)

    def sources(self, data: Data, tokenizer: Any, context: int, seed: int, cache: Path) -> Sources:
        """One row a pair, as wide as the longest, which is at most the context; longer pairs are left out and counted.

        Raises `ConfigError` where the tokenizer has no ends of text, `DataError` where a file has no usable pair.
        """
        _require_ends(tokenizer)
        found = pairs.read(data, self.source, self.target)
        notes = list(found.notes)
        names = [corpus.source for corpus in data.corpora] + [data.validation or "held out"]
        parts = [*found.train, *([found.validation] if found.validation else [])]
        kept = [_kept(part, tokenizer, context, name, notes) for part, name in zip(parts, names, strict=False)]
        widths = [max(len(row) for sides in kept for row in sides[side]) for side in (0, 1)]
        rows = [pairs.row_source(*sides, *widths) for sides in kept]
        count = len(data.corpora)
        weights = tuple(corpus.weight for corpus in data.corpora)
        held_out = rows[count] if len(rows) > count else None
        return Sources(tuple(rows[:count]), weights, held_out, None, found.identity, tuple(notes))

    def widest(self, data: Data, tokenizer: Any, context: int) -> Widest:
        """The longest pair that is not left out."""
        source, target = np.zeros(context, np.int32), np.zeros(context + 1, np.int32)
        rows = pairs.row_source([source], [target], len(source), len(target))
        note = f"rows of {context} tokens on both sides, the longest that are not left out; the data's may be shorter"
        return Widest(rows.take(np.arange(1), 0), (note,))


def to_batch(rows: PairRows) -> PairBatch:
    """Inputs and the tokens that follow them; every true token is read until a schedule says otherwise."""
    inputs_BT, targets_BT = (np.ascontiguousarray(x) for x in (rows.target_BU[:, :-1], rows.target_BU[:, 1:]))
    weights_BT = (np.arange(targets_BT.shape[1]) < rows.target_lengths_B[:, None] - 1).astype(np.float32)
    forcing_B = np.ones(len(inputs_BT), np.float32)
    return PairBatch(inputs_BT, targets_BT, weights_BT, rows.source_BS, rows.source_lengths_B, forcing_B)


def written(model: Any, params: Params, memory: Any, batch: PairBatch, key: Key) -> jax.Array:
    """features_BTD of a decoder that reads, at every step, the true token or else the likeliest by its own count.

    The draw is each row's and each step's own; the first input is always the true one. What was likeliest is taken
    as given: no gradient goes through the choice. (Bengio et al. 2015, arXiv 1506.03099.)
    """
    B, T = batch.inputs.shape

    def step(carry: tuple[jax.Array, Any], now: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
        (own_B, state), (t, true_B) = carry, now
        draw_key, drop_key = jax.random.split(jax.random.fold_in(key, t))
        forced_B = (t == 0) | (jax.random.uniform(draw_key, (B,)) < batch.forcing)
        read_B = jnp.where(forced_B, true_B, own_B)
        features_BTD, state = model.extend(params, memory, read_B[:, None], state, drop_key)
        logits_BV = model.head(params, jax.lax.stop_gradient(features_BTD[:, 0]))
        return (jnp.argmax(logits_BV, axis=-1).astype(true_B.dtype), state), features_BTD[:, 0]

    inputs_TB = jnp.asarray(batch.inputs).T
    start = inputs_TB[0], model.start(params, memory, T)
    _, features_TBD = jax.lax.scan(step, start, (jnp.arange(T), inputs_TB))
    return features_TBD.swapaxes(0, 1)


def _kept(
    part: Sequence[Pair], tokenizer: Any, context: int, name: str, notes: list[str]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The pairs that fit into the context, as tokens."""
    sources, targets = pairs.tokenized(part, tokenizer)
    fits = pairs.fitting(sources, targets, context)
    if not fits:
        raise DataError(f"{name}: none of {len(part):,} pairs fits into context={context} tokens; raise model.context")
    if len(fits) < len(part):
        lost = len(part) - len(fits)
        notes.append(f"{name}: {lost:,} of {len(part):,} pairs left out, longer than context={context} tokens")
    return [sources[i] for i in fits], [targets[i] for i in fits]


def _require_ends(tokenizer: Any) -> None:
    if tokenizer.bos_id is None or tokenizer.eos_id is None:
        raise ConfigError("a translation begins and ends with a token; turn tokenizer.bos and tokenizer.eos on")
