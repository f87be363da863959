"""Next-token prediction: max sum_i log P(u_i | u_1 .. u_{i-1}; theta)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gptjax.config import ConfigError, Data, ObjectiveConfig, Sources, Widest
from gptjax.data import corpora, packing, store
from gptjax.data.shards import told
from gptjax.objectives.head import TileTokens, weighted_nats
from gptjax.objectives.loss import PLAIN, Regular
from gptjax.types import Batch, Carried, Key, Metrics, Model, Objective, Params, Rows, RowSource, TokenSplit


@dataclass(frozen=True)
class Causal(ObjectiveConfig):
    """Predict every token of a text from those before it (GPT-1's pretraining)."""

    z_loss: float = 0.0
    """Weight of log(Z)^2, which keeps the normaliser of the softmax near 1 (PaLM: 1e-4)."""
    label_smoothing: float = 0.0
    """Probability that is spread evenly over the vocabulary instead of on the target."""
    tile_tokens: TileTokens = "auto"
    """Tokens whose logits exist at once: fewer take less memory; auto is all but on a CPU, where caches are small."""

    def check(self) -> None:
        self.require(self.z_loss >= 0, f"z_loss={self.z_loss} must not be negative")
        s = self.label_smoothing
        self.require(0 <= s < 1, f"label_smoothing={s} is not in [0, 1)")
        require_tile(self, self.tile_tokens)

    def build(self, model: Model, tokenizer: Any) -> Objective:
        """The objective; its metric "nats" is the plain negative log-likelihood beside the regularised loss."""
        require_language_model(self, model)
        return next_token(model, self.tile_tokens, Regular(self.z_loss, self.label_smoothing))

    def texts(self, data: Data, splits: tuple[str, ...]) -> Iterator[str]:
        """The documents of these splits."""
        return (piece.text for name, read in corpora.splits(data).items() if name in splits for _, piece in read())

    def sources(self, data: Data, tokenizer: Any, context: int, seed: int, cache: Path) -> Sources:
        """Rows of every corpus by `data.packing`; the held-out text is judged as running tokens (`split`)."""
        tokens = store.build(data, tokenizer, cache, told())
        rows, notes = [], []
        for corpus, split in zip(data.corpora, tokens.splits["train"], strict=True):
            if data.packing == "contiguous":
                rows.append(running(split, context))
                if over := (len(split.tokens) - 1) % context:
                    notes.append(f"{corpus.source}: the last {over:,} tokens fill no row and are left out of an epoch")
            else:
                source, said = packing.documents(split, context)
                rows.append(source)
                notes += [f"{corpus.source}: {note}" for note in said]
        notes += unknown_notes(tokens.splits, tokenizer.unknown_id)
        weights = tuple(corpus.weight for corpus in data.corpora)
        held_out = joined(tokens.splits.get("validation", []))
        return Sources(tuple(rows), weights, None, held_out, tokens.identity, tuple(notes))

    def widest(self, data: Data, tokenizer: Any, context: int) -> Widest:
        """Any row: all have `context` + 1 tokens."""
        return Widest(full_row(context, data.packing == "documents", data.order == "running"))


def require_language_model(config: ObjectiveConfig, model: Model) -> None:
    """Raise `ConfigError` for what has no features of a text by itself, such as a translator."""
    what = "needs a model that reads a text by itself, and this one turns one text into another"
    config.require(isinstance(model, Model), f"{type(config).__name__} {what}; take objectives.seq2seq for it")


def require_tile(config: ObjectiveConfig, tile_tokens: TileTokens) -> None:
    """Raise `ConfigError` where a tile is to have no tokens."""
    good = isinstance(tile_tokens, str) or tile_tokens > 0
    config.require(good, f"tile_tokens={tile_tokens} must be positive, auto or all")


Nats = Callable[[Params, jax.Array, Batch, Key | None], tuple[jax.Array, jax.Array]]
"""`nats(params, features_BTD, batch, key) -> (loss, plain nats)`: weighted sums; params are the model's own."""


def next_token(model: Model, tile_tokens: TileTokens = "auto", regular: Regular = PLAIN) -> Objective:
    """The objective of `Rows`: weighted nats of each next token, as a sum and a count; metric "nats", unregularised."""

    def nats(own: Params, features_BTD: jax.Array, batch: Batch, key: Key | None) -> tuple[jax.Array, jax.Array]:
        return weighted_nats(model, own, features_BTD, batch.targets, batch.weights, tile_tokens, regular)

    return over_features(model, nats)


def over_features(model: Model, nats: Nats) -> Objective:
    """The objective of `Rows` whose loss is some function of the features before each next token; metric "nats".

    A recurrent model's state can be carried from update to update: then a row goes on from the state in which its
    predecessor left it, or from none where its position is 0. Raises `ConfigError` for a model that would see the token
    it is to predict.
    """
    if not model.causal:
        raise ConfigError(
            "the model reads both sides of a token, so it cannot learn the next one; use Masked, or a GPT"
        )

    def init(key: Key) -> Params:
        return {"model": model.init(key)}

    def sums(
        own: Params, features_BTD: jax.Array, batch: Batch, key: Key | None
    ) -> tuple[jax.Array, jax.Array, Metrics]:
        count = jnp.sum(jnp.asarray(batch.weights, jnp.float32))
        total, plain = nats(own, features_BTD, batch, key)
        return total, count, {"nats": (plain, count)}

    def loss(params: Params, batch: Batch, key: Key | None) -> tuple[jax.Array, jax.Array, Metrics]:
        own = params["model"]
        features_BTD = model.features(own, batch.inputs, batch.segments, batch.positions, key=key)
        return sums(own, features_BTD, batch, key)

    def carried(params: Params, batch: Batch, key: Key | None, carry: Any) -> tuple[jax.Array, jax.Array, Metrics, Any]:
        if batch.segments is not None:
            raise ConfigError("data.order='running' carries a state through running text; these rows hold documents")
        own, continues_B = params["model"], jnp.asarray(batch.positions)[:, 0] > 0
        before = jax.tree.map(lambda x: jnp.where(continues_B.reshape(-1, *[1] * (x.ndim - 1)), x, 0), carry)
        features_BTD, after = model.extend(own, batch.inputs, before, key=key)
        return *sums(own, features_BTD, batch, key), jax.lax.stop_gradient(after)

    going_on = Carried(lambda rows: model.cache(rows, 0, jnp.float32), carried) if model.recurrent else None
    return Objective(init, to_batch, loss, carried=going_on)


def to_batch(rows: Rows) -> Batch:
    """Inputs and the tokens that follow; rows without segments are one running text each.

    Positions of rows that continue others are distances from the start of the text that they continue.
    """
    if rows.segments is not None:
        return packing.to_batch(rows)
    inputs_BT, targets_BT, weights_BT = map(
        np.ascontiguousarray, (rows.tokens[:, :-1], rows.tokens[:, 1:], rows.weights[:, 1:])
    )
    if rows.starts is None:
        return Batch(inputs_BT, targets_BT, weights_BT, None, None)
    positions_BT = rows.starts[:, None] + np.arange(inputs_BT.shape[1], dtype=np.int32)
    return Batch(inputs_BT, targets_BT, weights_BT, None, positions_BT)


def full_row(context: int, packed: bool, in_order: bool = False) -> Rows:
    """A row that is one document, without padding; `packed` rows have segments, those in running order a start."""
    ones = np.ones((1, context + 1), np.int32)
    starts = np.zeros(1, np.int32) if in_order else None
    return Rows(ones, ones.astype(np.float32), ones if packed else None, starts)


def unknown_notes(splits: dict[str, list[TokenSplit]], unknown_id: int | None) -> list[str]:
    """How many tokens of each split stand for words that the vocabulary does not have: their spelling is lost."""
    notes = []
    for name, parts in splits.items() if unknown_id is not None else ():
        unknown, tokens = sum(int(np.sum(p.tokens == unknown_id)) for p in parts), sum(len(p.tokens) for p in parts)
        if unknown:
            notes.append(f"{name}: {unknown:,} of {tokens:,} tokens ({unknown / tokens:.1%}) are unknown words")
    return notes


def running(split: TokenSplit, context: int) -> RowSource:
    """`packing.contiguous` rows, marked as running text: their segments are None."""
    source = packing.contiguous(split, context)

    def take(indices_B: np.ndarray, epoch: int) -> Rows:
        return source.take(indices_B, epoch)._replace(segments=None)

    return RowSource(source.rows, take)


def joined(splits: list[TokenSplit]) -> TokenSplit | None:
    """Several corpora's held-out tokens as one split, in order; None where nothing is held out."""
    splits = [split for split in splits if len(split.tokens)]
    if len(splits) < 2:
        return splits[0] if splits else None
    offsets = np.cumsum([0] + [len(split.tokens) for split in splits])
    starts = [split.starts[:-1] + offset for split, offset in zip(splits, offsets[:-1], strict=True)]
    tokens_N = np.concatenate([split.tokens for split in splits])
    return TokenSplit(tokens_N, np.concatenate([*starts, offsets[-1:]]), sum(split.bytes for split in splits))
