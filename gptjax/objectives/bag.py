"""Classification of a text by which tokens it has, wherever they stand: logistic and softmax regression, and MLPs.

    scores = sum over the text's tokens i of value_i W[i] + b,  or  act(that) U + c  with a hidden layer

W is the model's table of vectors, so that the first layer is a sum of rows and no row of V numbers is ever built.
Axes beside the alphabet's: J tokens of a bag.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gptjax.config import ConfigError, Data, ObjectiveConfig, Sources, Widest
from gptjax.objectives import examples
from gptjax.objectives.causal import require_language_model
from gptjax.objectives.loss import token_nats, weighted
from gptjax.objectives.task import Example
from gptjax.objectives.tasks import Classification
from gptjax.types import Array, Key, Metrics, Model, Objective, Params, RowSource

ROUND_TOKENS = 8
"""Bags are padded to a multiple of this, so that adding a few examples does not change compiled shapes."""
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
}


class BagBatch(NamedTuple):
    """Bags of tokens; every leaf has a leading B."""

    ids: Array
    """[B, J] int32, each token of a text once."""
    values: Array
    """[B, J] float32; 0 in padding."""
    targets: Array
    """[B] int32 class."""
    weights: Array
    """[B] float32; 0 where an example does not count."""


@dataclass(frozen=True)
class Bag(ObjectiveConfig):
    """Classes of texts from the tokens in them; the model is `Vectors`.

    Without a hidden layer its width is the number of labels (softmax regression), or 1 for two labels (logistic).
    """

    FITTED = True

    text: str = "sentence"
    """Column of the text; a dot reaches into a nested field."""
    label: str = "label"
    """Column of the label."""
    labels: tuple[str, ...] = ("0", "1")
    """The labels as the file writes them, in the order of the classes."""
    columns: tuple[str, ...] = ()
    """Column names of a table without a header (CoLA: source label mark sentence); none where the file has one."""
    value: Literal["presence", "count", "tfidf"] = "presence"
    """A token's value: 1, how often it is there, or that times its idf, each text at length 1."""
    hidden: Literal["none", "sigmoid", "tanh", "relu"] = "none"
    """Nonlinearity of a hidden layer, as wide as the vectors; none is linear."""
    dropout: float = 0.0
    """Share dropped of the hidden layer during training."""
    l2: float = 0.0
    """Weight of half the sum of squared weights (no biases), beside the mean loss."""

    def check(self) -> None:
        self._reader()
        self.require(0 <= self.dropout < 1, f"dropout={self.dropout} is not in [0, 1)")
        self.require(self.hidden != "none" or self.dropout == 0, "dropout is of the hidden layer, and hidden is none")
        self.require(self.l2 >= 0, f"l2={self.l2} must not be negative")

    def _reader(self) -> Classification:
        return Classification(text=self.text, label=self.label, labels=self.labels, columns=self.columns)

    def _read(self, data: Data) -> examples.Split[Example]:
        reader = self._reader()
        return examples.read(data, lambda record, origin: [reader.example(record, origin)], self.columns)

    def texts(self, data: Data, splits: tuple[str, ...]) -> Iterator[str]:
        """The texts of the examples of these splits."""
        return (example.texts[0][0] for example in self._read(data).of(splits))

    def build(self, model: Model, tokenizer: Any) -> Objective:
        """The objective; raises `ConfigError` where the vectors' width cannot be the scores of the labels."""
        require_language_model(self, model)
        C = len(self.labels)
        shape = jax.eval_shape(model.init, jax.random.key(0))["embed"]["tokens"].shape
        width = shape[1]
        if self.hidden == "none" and width != C and (width, C) != (1, 2):
            raise ConfigError(f"width={width}: without a hidden layer it is one number a label, {C}, or 1 for two")

        def init(key: Key) -> Params:
            own, head = model.init(key), {"bias": jnp.zeros(width)}
            if self.hidden == "none":
                # Nothing has to be told apart, and a word that is never read keeps its start: it is to say nothing.
                own = jax.tree.map(jnp.zeros_like, own)
            else:
                # Variance 1 / width keeps the scores' scale whatever the width is.
                kernel_DC = jax.random.normal(jax.random.fold_in(key, 1), (width, C)) * width**-0.5
                head |= {"kernel": kernel_DC, "out_bias": jnp.zeros(C)}
            return {"model": own, "head": head}

        def loss(params: Params, batch: BagBatch, key: Key | None) -> tuple[jax.Array, jax.Array, Metrics]:
            scores_BC = self._scores(model, params, batch, key)
            count = jnp.sum(jnp.asarray(batch.weights))
            nats = weighted(batch.weights, token_nats(scores_BC, batch.targets))
            matrices = [params["model"]["embed"]["tokens"], params["head"].get("kernel", jnp.zeros(()))]
            squares = sum(jnp.sum(jnp.square(matrix.astype(jnp.float32))) for matrix in matrices)
            return nats + count * self.l2 / 2 * squares, count, {"cross_entropy": (nats, count)}

        return Objective(init, lambda rows: rows, loss)

    def predictor(self, model: Model) -> Callable[[Params, BagBatch], jax.Array]:
        """`predict(params, batch) -> scores_BC`."""
        return lambda params, batch: self._scores(model, params, batch, None)

    def _scores(self, model: Model, params: Params, batch: BagBatch, key: Key | None) -> jax.Array:
        head, rows_BJD = params["head"], model.features(params["model"], batch.ids)
        summed_BD = jnp.einsum("bj,bjd->bd", jnp.asarray(batch.values).astype(rows_BJD.dtype), rows_BJD)
        summed_BD = (summed_BD + head["bias"]).astype(jnp.float32)
        if self.hidden == "none":
            alone = summed_BD.shape[1] == 1
            return jnp.concatenate([jnp.zeros_like(summed_BD), summed_BD], axis=1) if alone else summed_BD
        hidden_BD = ACTIVATIONS[self.hidden](summed_BD)
        if key is not None and self.dropout:
            keep_BD = jax.random.bernoulli(key, 1 - self.dropout, hidden_BD.shape)
            hidden_BD = jnp.where(keep_BD, hidden_BD / (1 - self.dropout), 0.0)
        return hidden_BD @ head["kernel"].astype(jnp.float32) + head["out_bias"].astype(jnp.float32)

    def sources(self, data: Data, tokenizer: Any, context: int, seed: int, cache: Path) -> Sources:
        """One row an example, `BagBatch`, as wide as the largest bag: every token counts, whatever `context` is.

        Unknown words are left out and counted. The idf is that of the training texts of all corpora.
        """
        found = self._read(data)
        parts = [part for part in (*found.train, found.validation) if part]
        names = [corpus.source for corpus in data.corpora] + [data.validation or "held out"]
        bags = [[_bag(ids, tokenizer.unknown_id) for ids in _encoded(part, tokenizer)] for part in parts]
        weight_V = None
        if self.value == "tfidf":
            weight_V = idf([bag for part in bags[: len(data.corpora)] for bag in part], tokenizer.vocab_size)
        widest = max(len(bag.ids) for part in bags for bag in part)
        J = _padded(widest)
        rows = [self._rows(b, [int(e.target) for e in part], J, weight_V) for b, part in zip(bags, parts, strict=True)]
        notes = [note for name, part in zip(names, bags, strict=False) for note in _notes(name, part)]
        count, weights = len(data.corpora), tuple(corpus.weight for corpus in data.corpora)
        held_out = rows[count] if len(rows) > count else None
        return Sources(tuple(rows[:count]), weights, held_out, None, found.identity, tuple(notes))

    def widest(self, data: Data, tokenizer: Any, context: int) -> Widest:
        """A bag of `context` tokens, or of all that there are: no text is cut, so the data may have larger ones."""
        tokens = min(context, tokenizer.vocab_size)
        bag = Counted(np.arange(tokens), np.ones(tokens, np.int64), 0)
        rows = self._rows([bag], [0], _padded(tokens), np.ones(tokenizer.vocab_size))
        note = f"bags of {tokens} different tokens, by model.context; no text is cut, and the data may have larger ones"
        return Widest(rows.take(np.arange(1), 0), (note,))

    def _rows(self, bags: Sequence["Counted"], targets: list[int], J: int, weight_V: np.ndarray | None) -> RowSource:
        ids_EJ, values_EJ = np.zeros((len(bags), J), np.int32), np.zeros((len(bags), J), np.float32)
        for e, bag in enumerate(bags):
            ids_EJ[e, : len(bag.ids)] = bag.ids
            values_EJ[e, : len(bag.ids)] = values(bag, self.value, weight_V)
        targets_E = np.array(targets, np.int32)

        def take(indices_B: np.ndarray, epoch: int) -> BagBatch:
            ones_B = np.ones(len(indices_B), np.float32)
            return BagBatch(ids_EJ[indices_B], values_EJ[indices_B], targets_E[indices_B], ones_B)

        return RowSource(len(bags), take)


class Counted(NamedTuple):
    """The tokens of one text."""

    ids: np.ndarray
    """Each once, ascending."""
    counts: np.ndarray
    """How often each is there."""
    unknown: int
    """Unknown words that were left out."""


def _padded(tokens: int) -> int:
    """J, for bags of so many tokens at most."""
    return max(1, -(-tokens // ROUND_TOKENS)) * ROUND_TOKENS


def _encoded(part: Sequence[Example], tokenizer: Any) -> list[np.ndarray]:
    return tokenizer.encode_batch([example.texts[0][0] for example in part])


def _bag(ids: np.ndarray, unknown_id: int | None) -> Counted:
    known = ids if unknown_id is None else ids[ids != unknown_id]
    return Counted(*np.unique(known, return_counts=True), len(ids) - len(known))


def idf(bags: Sequence[Counted], vocab_size: int) -> np.ndarray:
    """ln((1 + E) / (1 + how many of the E texts have the token)) + 1, [V], as scikit-learn smooths it."""
    have_V = np.bincount(np.concatenate([bag.ids for bag in bags]).astype(np.int64), minlength=vocab_size)
    return np.log((1 + len(bags)) / (1 + have_V)) + 1


def values(bag: Counted, value: str, weight_V: np.ndarray | None) -> np.ndarray:
    """A bag's values: 1, counts, or with `weight_V` counts times it at length 1."""
    if weight_V is not None:
        weighed = bag.counts * weight_V[bag.ids]
        return weighed / max(float(np.linalg.norm(weighed)), 1e-30)
    return np.ones(len(bag.ids)) if value == "presence" else bag.counts.astype(np.float64)


def _notes(name: str, bags: Sequence[Counted]) -> list[str]:
    unknown, empty = sum(bag.unknown for bag in bags), sum(len(bag.ids) == 0 for bag in bags)
    notes = [f"{name}: {unknown:,} unknown words left out of {len(bags):,} texts"] if unknown else []
    return [*notes, f"{name}: {empty:,} of {len(bags):,} texts have no known word"] if empty else notes
