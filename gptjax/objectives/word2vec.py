"""word2vec: vectors by which a word tells the words around it (skip-gram) or is told by them (CBOW) from noise.

Skip-gram, for every centre t and every word j within its reach, and k noise words n a pair:

    -log sigmoid(x_t . y_j) - sum of k log sigmoid(-x_t . y_n),  x the model's vectors, y the contexts beside them

CBOW puts the mean of the x around t in the place of x_t, and t itself in that of j. The K noise words of a row are
shared by its centres, each weighted k * pairs / K, which keeps the expectation and makes all scores of a row one
product. Unlike the original program noise may draw a centre's own neighbour. (Mikolov et al., arXiv 1310.4546,
equation 4; Goldberg and Levy, arXiv 1402.3722.)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from gptjax.config import Data, ObjectiveConfig, Sources, Widest
from gptjax.data import corpora, store
from gptjax.data.errors import DataError
from gptjax.data.shards import told
from gptjax.models import products
from gptjax.objectives import blocks, nearby
from gptjax.objectives.blocks import Looked, Tables
from gptjax.objectives.causal import require_language_model, unknown_notes
from gptjax.objectives.nearby import Nearby, Reading, Text
from gptjax.types import Key, Metrics, Model, Objective, Params, Place


@dataclass(frozen=True)
class Word2Vec(ObjectiveConfig):
    """Skip-gram or CBOW with negative sampling, subsampling of frequent words and windows of random reach."""

    FITTED = True
    PARALLEL_ON_CPU = True

    predict: Literal["around", "centre"] = "around"
    """The words around a centre from it (skip-gram), or the centre from the mean of those around it (CBOW)."""
    window: int = 5
    """Furthest words to either side; each centre reaches 1 to this many, all alike often."""
    negatives: float = 5.0
    """Noise words a pair, in expectation."""
    shared: int = 16
    """Noise words that are drawn for a row and shared by its centres."""
    sample: float = 1e-3
    """Words above about this share of the text are thinned."""
    noise_power: float = 0.75
    """Noise is drawn in proportion to a word's count to this power."""

    def check(self) -> None:
        for name in ("window", "negatives", "shared", "sample"):
            self.require(getattr(self, name) > 0, f"{name}={getattr(self, name)} must be positive")
        self.require(self.noise_power >= 0, f"noise_power={self.noise_power} must not be negative")

    def texts(self, data: Data, splits: tuple[str, ...]) -> Iterator[str]:
        """The documents of these splits."""
        return (piece.text for name, read in corpora.splits(data).items() if name in splits for _, piece in read())

    def build(self, model: Model, tokenizer: Any) -> Objective:
        """The objective; the context vectors y, which start at 0, are its own parameter `contexts`.

        Raises `ConfigError` for a model that is more than one vector a word.
        """
        require_language_model(self, model)
        held = jax.eval_shape(model.init, jax.random.key(0))
        paths = (path for path, _ in jax.tree_util.tree_leaves_with_path(held))
        names = {jax.tree_util.keystr(path, simple=True, separator="/") for path in paths}
        others = ", ".join(sorted(names - {"embed/tokens"})[:3])
        self.require(not others, f"Word2Vec learns one table of vectors, and the model has {others} too; take Vectors")
        summed = around_loss if self.predict == "around" else centre_loss

        def init(key: Key) -> Params:
            params = model.init(key)
            return {"model": params, "contexts": jnp.zeros_like(params["embed"]["tokens"])}

        def loss(params: Params, batch: Nearby, key: Key | None) -> tuple[jax.Array, jax.Array, Metrics]:
            tables = params["model"]["embed"]["tokens"], params["contexts"]
            total, count = summed(model.place, tables, batch, self.negatives)
            return total, count, {}

        return Objective(init, lambda rows: rows, loss)

    def sources(self, data: Data, tokenizer: Any, context: int, seed: int, cache: Path) -> Sources:
        """Rows of `context` centres; held-out text meets the noise and the thinning of the training text.

        Unknown words and ends of documents and of lines (where the tokenizer has one token for it) are left out, and
        the ends part sentences. Raises `DataError` where no two words are left.
        """
        tokens = store.build(data, tokenizer, cache, told())
        line = tuple(tokenizer.encode("\n").tolist())
        ends = tuple(id for id in (tokenizer.bos_id, tokenizer.eos_id, *line[: len(line) == 1]) if id is not None)
        unknown = () if tokenizer.unknown_id is None else (tokenizer.unknown_id,)
        texts = {
            name: [nearby.parted(np.asarray(part.tokens), np.asarray(part.starts), unknown, ends) for part in parts]
            for name, parts in tokens.splits.items()
        }
        every_N = np.concatenate([text.tokens_N for text in texts["train"]])
        counts_V = np.bincount(every_N, minlength=tokenizer.vocab_size)
        shares_V = nearby.keep_shares(counts_V, self.sample)
        cdf_V = nearby.noise_cdf(counts_V, self.noise_power)
        names = [corpus.source for corpus in data.corpora] + [data.validation or "held out"]
        parts = texts["train"] + ([nearby.joined(texts["validation"])] if "validation" in texts else [])
        rows, notes = [], unknown_notes(tokens.splits, tokenizer.unknown_id)
        for number, (name, text) in enumerate(zip(names, parts, strict=False)):
            if len(text.tokens_N) < 2:
                raise DataError(
                    f"{name}: no two of its words are in the vocabulary; give more text, or lower min_count"
                )
            # Held-out rows are the same whatever the run's seed, so that runs can be compared.
            key = (seed if number < len(data.corpora) else 0, number)
            how = nearby.Reading(shares_V, cdf_V, context, self.window, self.shared, key)
            rows.append(nearby.rows(text, how))
            stay = int(nearby.quotas(text.tokens_N, shares_V)[1].sum())
            notes.append(f"{name}: {stay:,} of {len(text.tokens_N):,} words stay an epoch, in {rows[-1].rows:,} rows")
        count = len(data.corpora)
        weights = tuple(corpus.weight for corpus in data.corpora)
        held_out = rows[count] if len(rows) > count else None
        return Sources(tuple(rows[:count]), weights, held_out, None, tokens.identity, tuple(notes))

    def widest(self, data: Data, tokenizer: Any, context: int) -> Widest:
        """Any row: all have `context` centres."""
        one_word = np.ones(1)
        how = Reading(one_word, one_word, context, self.window, self.shared, (0, 0))
        text = Text(np.zeros(context, np.int32), np.ones(context, np.int32))
        return Widest(nearby.rows(text, how).take(np.arange(1), 0))


def around_loss(place: Place | None, tables: Tables, batch: Nearby, negatives: float) -> tuple[jax.Array, jax.Array]:
    """Skip-gram: (sum over all pairs, number of pairs); `tables` are the vectors and the contexts, both [V, D]."""
    beside_BC = jnp.concatenate([batch.around, batch.noise], axis=1)
    rest = (batch.sentences, batch.reach)
    return blocks.summed(partial(_around_nats, negatives), place, tables, ((batch.centres,), (beside_BC,)), rest)


def _around_nats(negatives: float, looked: Looked, rest: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """All scores of a row are one product of its centres with the words around and the noise, C = U + K."""
    (x_BTD,), (y_BCD,) = looked
    pairs_BTU = pairs(*rest).astype(jnp.float32)
    count_BT, K = pairs_BTU.sum(2), y_BCD.shape[1] - pairs_BTU.shape[2]
    noise_BTK = jnp.broadcast_to(negatives / K * count_BT[..., None], (*count_BT.shape, K))
    weights_BTC = jnp.concatenate([pairs_BTU, noise_BTK], axis=2)
    sign_C = np.where(np.arange(y_BCD.shape[1]) < pairs_BTU.shape[2], -1.0, 1.0).astype(np.float32)
    return jnp.sum(weights_BTC * softplus(products.scores(x_BTD, y_BCD) * sign_C)), jnp.sum(count_BT)


def centre_loss(place: Place | None, tables: Tables, batch: Nearby, negatives: float) -> tuple[jax.Array, jax.Array]:
    """CBOW: (sum over all centres that have a word around them, number of these centres); `tables` as above."""
    ids = ((batch.around,), (batch.centres, batch.noise))
    return blocks.summed(partial(_centre_nats, negatives), place, tables, ids, (batch.sentences, batch.reach))


def _centre_nats(negatives: float, looked: Looked, rest: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x_BUD,), (y_BTD, y_BKD) = looked
    pairs_BTU = pairs(*rest).astype(jnp.float32)
    count_BT, K = pairs_BTU.sum(2), y_BKD.shape[1]
    mean_BTD = products.mixed(pairs_BTU / jnp.maximum(count_BT, 1.0)[..., None], x_BUD)
    own_BT = jnp.sum(mean_BTD.astype(jnp.float32) * y_BTD.astype(jnp.float32), axis=-1)
    noise_BTK = products.scores(mean_BTD, y_BKD)
    counts_BT = (count_BT > 0).astype(jnp.float32)
    nats_BT = softplus(-own_BT) + negatives / K * jnp.sum(softplus(noise_BTK), axis=2)
    return jnp.sum(counts_BT * nats_BT), jnp.sum(counts_BT)


def pairs(sentences_BU: jax.Array, reach_BT: jax.Array) -> jax.Array:
    """Which words around are within a centre's reach and in its sentence, [B, T, U]; a centre is no pair of itself."""
    T, U = reach_BT.shape[1], sentences_BU.shape[1]
    window = (U - T) // 2
    distance_TU = np.abs(np.arange(U) - window - np.arange(T)[:, None])
    same_BTU = sentences_BU[:, None] == sentences_BU[:, window : window + T, None]
    # Padding has no reach as a centre, and no sentence's number as a word around one.
    return same_BTU & (distance_TU > 0) & (distance_TU <= reach_BT[..., None])


@jax.custom_jvp
def softplus(x: jax.Array) -> jax.Array:
    """log(1 + exp(x)), -log sigmoid(-x); a quarter of the time of `jax.nn.softplus` on a CPU, gradient included."""
    return jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


softplus.defjvps(lambda dx, _, x: dx * jax.nn.sigmoid(x))
