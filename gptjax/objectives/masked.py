"""BERT's pretraining: hidden tokens from both sides of them, and whether one text follows another.

    loss = mean nats of the hidden tokens + next_sentence_weight * mean nats of "follows"

Both means are over hidden tokens, a row's second term counting once for each of its own, so that one count serves
accumulation and sharding; rows of full length all have the same number. (Devlin et al., arXiv 1810.04805.)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gptjax.config import ConfigError, Data, ObjectiveConfig, Sources, Widest
from gptjax.data import corpora, store
from gptjax.data.shards import told
from gptjax.models.bidirectional import next_sentence
from gptjax.objectives.causal import joined, require_language_model, require_tile
from gptjax.objectives.head import TileTokens, weighted_nats
from gptjax.objectives.loss import token_nats, weighted
from gptjax.objectives.masked_text import Layout, Marks, MaskedBatch, row_source
from gptjax.objectives.task_text import token_types
from gptjax.types import Array, Key, Metrics, Model, Objective, Params, RowSource, TokenSplit

VALIDATION_SEED = 0
"""Held-out masks are the same whatever the run's seed, so that runs can be compared."""


@dataclass(frozen=True)
class Masked(ObjectiveConfig):
    """Predict hidden tokens from those on both sides of them (BERT's pretraining)."""

    fraction: float = 0.15
    """Share of the text's tokens that are chosen; of these 80% are hidden, 10% replaced by any token, 10% left."""
    next_sentence_weight: float = 1.0
    """Weight of telling whether a row's second text follows its first; 0: rows are one text, and nothing is asked."""
    tile_tokens: TileTokens = "auto"
    """Tokens whose logits exist at once: fewer take less memory; auto is all but on a CPU, where caches are small."""

    def check(self) -> None:
        self.require(0 < self.fraction < 1, f"fraction={self.fraction} is not between 0 and 1")
        weight = self.next_sentence_weight
        self.require(weight >= 0, f"next_sentence_weight={weight} must not be negative")
        require_tile(self, self.tile_tokens)

    def specials(self) -> tuple[str, ...]:
        """The tasks' start, delimiter and extract, and the mask: four new ids behind the tokenizer's."""
        return Marks._fields

    def build(self, model: Model, tokenizer: Any) -> Objective:
        """The objective of `MaskedBatch`; raises `ConfigError` for a model that does not read both sides."""
        require_language_model(self, model)
        if model.causal:
            raise ConfigError("Masked asks what stands between tokens, and this model reads one side; use models.bert")
        return objective(model, marks(tokenizer), self.next_sentence_weight, self.tile_tokens)

    def texts(self, data: Data, splits: tuple[str, ...]) -> Iterator[str]:
        """The documents of these splits."""
        return (piece.text for name, read in corpora.splits(data).items() if name in splits for _, piece in read())

    def sources(self, data: Data, tokenizer: Any, context: int, seed: int, cache: Path) -> Sources:
        """Rows of every corpus, of running text or of single documents by `data.packing`.

        The masks of held-out rows are fixed. That text is there as running tokens too, for its pseudo-likelihood.
        """
        layout = self.layout(tokenizer, context)
        tokens, documents = store.build(data, tokenizer, cache, told()), data.packing == "documents"
        rows, notes = [], []
        for corpus, split in zip(data.corpora, tokens.splits["train"], strict=True):
            source, said = row_source(split, layout, documents, seed)
            rows.append(source)
            notes += [f"{corpus.source}: {note}" for note in said]
        held_out = joined(tokens.splits.get("validation", []))
        validation = None if held_out is None else self.judged(held_out, tokenizer, context, documents)[0]
        weights = tuple(corpus.weight for corpus in data.corpora)
        return Sources(tuple(rows), weights, validation, held_out, tokens.identity, tuple(notes))

    def widest(self, data: Data, tokenizer: Any, context: int) -> Widest:
        """Any row: all have `context` tokens, and as many places for hidden ones."""
        layout = self.layout(tokenizer, context)
        # Two documents, for a pair is of two.
        text = TokenSplit(np.zeros(2 * layout.room, np.int32), layout.room * np.arange(3), 0)
        return Widest(row_source(text, layout, True, VALIDATION_SEED)[0].take(np.arange(1), 0))

    def judged(
        self, split: TokenSplit, tokenizer: Any, context: int, documents: bool
    ) -> tuple[RowSource, tuple[str, ...]]:
        """Rows of a held-out text, the same whatever the run's seed, and notes of what is left out."""
        return row_source(split, self.layout(tokenizer, context), documents, VALIDATION_SEED)

    def layout(self, tokenizer: Any, context: int) -> Layout:
        """How rows of `context` tokens are made of this tokenizer's; raises `ConfigError` where they are too short."""
        self.require(
            context >= 5, f"context={context} leaves no room for text between the special tokens; take 5 or more"
        )
        ends = tuple(id for id in (tokenizer.bos_id, tokenizer.eos_id) if id is not None)
        pairs = self.next_sentence_weight > 0
        return Layout(context, self.fraction, pairs, marks(tokenizer), tokenizer.vocab_size, ends)


def marks(tokenizer: Any) -> Marks:
    """The ids that follow the tokenizer's own, in the order of `Marks`."""
    return Marks(*range(tokenizer.vocab_size, tokenizer.vocab_size + len(Marks._fields)))


def objective(model: Model, ids: Marks, next_sentence_weight: float, tile_tokens: TileTokens = "auto") -> Objective:
    """The objective of `MaskedBatch`: the sum over hidden tokens, and their number.

    Metrics: "masked_nats"; "masked_accuracy", in evaluation only, since training needs no logits beside the loss; with
    pairs "next_sentence_nats" and "next_sentence_accuracy" a row.
    """

    def init(key: Key) -> Params:
        return {"model": model.init(key)}

    def loss(params: Params, batch: MaskedBatch, key: Key | None) -> tuple[jax.Array, jax.Array, Metrics]:
        own, weights_BK = params["model"], jnp.asarray(batch.weights)
        features_BTD = _features(model, own, ids, batch, key)
        hidden_BKD = jnp.take_along_axis(features_BTD, jnp.asarray(batch.slots)[..., None], axis=1)
        total, nats = weighted_nats(model, own, hidden_BKD, batch.targets, weights_BK, tile_tokens)
        count = jnp.sum(weights_BK)
        metrics = {"masked_nats": (nats, count)}
        if key is None:
            hits_BK = _hits(model.head(own, hidden_BKD), batch.targets)
            metrics["masked_accuracy"] = (weighted(weights_BK, hits_BK), count)
        if next_sentence_weight:
            logits_B2, hidden_B = next_sentence(own, features_BTD), jnp.sum(weights_BK, axis=1)
            answer_B = 1 - jnp.asarray(batch.follows)
            nats_B, real_B = token_nats(logits_B2, answer_B), (hidden_B > 0).astype(jnp.float32)
            total = total + next_sentence_weight * weighted(hidden_B, nats_B)
            metrics["next_sentence_nats"] = (weighted(real_B, nats_B), jnp.sum(real_B))
            metrics["next_sentence_accuracy"] = (weighted(real_B, _hits(logits_B2, answer_B)), jnp.sum(real_B))
        return total, count, metrics

    return Objective(init, lambda rows: rows, loss)


def _features(model: Model, params: Params, ids: Marks, batch: MaskedBatch, key: Key | None) -> jax.Array:
    inputs_BT = jnp.asarray(batch.inputs)
    real_BT = jnp.arange(inputs_BT.shape[1]) < jnp.asarray(batch.lengths)[:, None]
    types_BT = token_types(inputs_BT, ids.delimiter)
    return model.features(params, inputs_BT, real_BT.astype(jnp.int32), key=key, types_BT=types_BT)


def _hits(logits: jax.Array, targets: Array) -> jax.Array:
    """1.0 where the target's logit is above every other; a tie is an error."""
    at_target = jnp.take_along_axis(logits, jnp.asarray(targets)[..., None], axis=-1)
    return (jnp.sum(logits >= at_target, axis=-1) == 1).astype(jnp.float32)
