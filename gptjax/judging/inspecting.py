"""One run on one short text, from inside: `gptjax inspect`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gptjax import counted, trained
from gptjax.config import ModelConfig
from gptjax.data.errors import DataError
from gptjax.data.tokenizer import Tokenizer
from gptjax.evals import similarity
from gptjax.evals.lens import Lens, lens
from gptjax.judging import judge
from gptjax.judging.judge import Say
from gptjax.models import ngram
from gptjax.models.gpt import GPT
from gptjax.models.vectors import Vectors
from gptjax.report.inspection import Inspection
from gptjax.types import Array, Inside, Params

MOST_TOKENS = 512
"""Longer texts do not fit a page that one reads."""
MOST_WEIGHTS = 4_000_000
"""Attention weights of a page, of all layers and heads; about a byte each."""
NEIGHBOURS = 10
HIDDEN_ROWS = 8
"""Copies of the text, each with one token hidden, that are read at once."""


def inspect(folder: Path, text: str, say: Say) -> Inspection:
    """All that a run shows of a text; what lies beyond the model's context is left out, and said.

    Raises `DataError` for an empty text and for one too long for a page, `ConfigError` for a run that reads no text.
    """
    if not text:
        raise DataError("--text is empty; give it some")
    if counted.holds(folder):
        return _counted(counted.load(folder), text)
    found = judge.language_model(folder, say)
    params = judge.in_precision(found.params["model"], found.run.precision)
    if isinstance(found.run.model, Vectors):
        return _vectors(found, text)
    return _two_sided(found, params, text) if not found.model.causal else _left_to_right(found, params, text)


def _counted(found: counted.Counted, text: str) -> Inspection:
    ids_T, beginning = _ids(found.tokenizer, text)
    _require_few(len(ids_T))
    rows = [ngram.distribution(found.model, ids_T[:t]) for t in range(beginning, len(ids_T) + 1)]
    true_T = np.append(ids_T[beginning:], -1)
    seen = lens(["counts"], lambda _: np.log(np.stack(rows)), true_T)
    notes = (
        f"counts of {found.counting.order}-grams: there are no layers, no attention and no embeddings to show",
        "each prediction is of the token in its row, from those before it",
    )
    names = _Names(found.tokenizer, ())
    bits, places = [None] * beginning + _bits(seen)[:-1], np.arange(beginning, len(ids_T) + 1)
    return _text(found.folder.name, names, ids_T, notes)._replace(bits=bits, lens=seen, places=places)


def _vectors(found: trained.Trained, text: str) -> Inspection:
    ids_T, _ = _ids(found.tokenizer, text)
    _require_few(len(ids_T))
    names = _Names(found.tokenizer, found.run.objective.specials())
    notes = ("a table of word vectors: there is no attention and no prediction to show, only neighbours",)
    return _text(_title(found), names, ids_T, notes)._replace(neighbours=_neighbours(found, ids_T, names))


def _left_to_right(found: trained.Trained, params: Params, text: str) -> Inspection:
    ids_T, beginning = _ids(found.tokenizer, text)
    ids_T, notes = _cut(ids_T, found.model.context)
    model, config, T = found.model, found.run.model, len(ids_T)
    _require_few(T, config)
    inside = _inside(config, params, ids_T[None])
    if inside is None:
        features_ATD: Array = model.features(params, jnp.asarray(ids_T[None]))
        layers, weights_LNTS = ["output"], None
        notes.append(f"a {type(config).__name__} has no attention and no stream of layers to show")
    else:
        features_ATD, weights_LNTS = inside.features_LBTD[:, 0], np.asarray(inside.weights_LBNTS[:, 0], np.float32)
        layers = _layers(len(weights_LNTS))
        notes.append(_reading(config))
    seen = lens(layers, lambda a: model.head(params, features_ATD[a]), np.append(ids_T[1:], -1))
    notes.append("each prediction is of the token in its row, from those before it")
    # The first token, with nothing before it, is charged ln V as everywhere; a beginning-of-text token is given.
    first = None if beginning else math.log2(model.vocab_size)
    names = _Names(found.tokenizer, found.run.objective.specials())
    return _text(_title(found), names, ids_T, notes)._replace(
        bits=[first, *_bits(seen)[:-1]],
        lens=seen,
        places=np.arange(1, T + 1),
        weights_LNTS=weights_LNTS,
        neighbours=_neighbours(found, ids_T, names),
    )


def _two_sided(found: trained.Trained, params: Params, text: str) -> Inspection:
    """A model that reads both sides predicts each token from all the others: from the text with that token hidden."""
    special = {s: found.tokenizer.vocab_size + i for i, s in enumerate(found.run.objective.specials())}
    before, after = ([special[name]] if name in special else [] for name in ("start", "extract"))
    ids_T, notes = _cut(_ids(found.tokenizer, text)[0], found.model.context - len(before) - len(after))
    row_T = np.array([*before, *ids_T, *after], np.int32)
    _require_few(len(row_T), found.run.model)
    inside = found.run.model.inside(params, row_T[None])
    weights_LNTS = np.asarray(inside.weights_LBNTS[:, 0], np.float32)
    names = _Names(found.tokenizer, found.run.objective.specials())
    near = _neighbours(found, ids_T, names)
    if "mask" not in special:
        notes.append("the run has no token that hides others, so there are no predictions to show")
        return _text(_title(found), names, row_T, notes)._replace(weights_LNTS=weights_LNTS, neighbours=near)
    places = len(before) + np.arange(len(ids_T))
    features_LTD = _hidden(found.run.model, params, row_T, places, special["mask"])
    seen = lens(_layers(len(weights_LNTS)), lambda a: found.model.head(params, features_LTD[a]), ids_T)
    notes.append(_reading(found.run.model))
    notes.append("each prediction is of the token in its row, which is hidden, from all the others")
    bits = [*[None] * len(before), *_bits(seen), *[None] * len(after)]
    return _text(_title(found), names, row_T, notes)._replace(
        bits=bits, lens=seen, places=places, weights_LNTS=weights_LNTS, neighbours=near
    )


def _text(title: str, names: "_Names", ids_T: np.ndarray, notes: Sequence[str]) -> Inspection:
    """A text of which nothing is known yet but its tokens."""
    return Inspection(
        title=title,
        pieces=names.all(ids_T),
        ids=ids_T.tolist(),
        bits=[None] * len(ids_T),
        lens=None,
        places=ids_T[:0],
        weights_LNTS=None,
        neighbours=None,
        names=names,
        notes=tuple(notes),
    )


def _hidden(config: ModelConfig, params: Params, row_T: np.ndarray, places: np.ndarray, mask: int) -> np.ndarray:
    """features_LTD at each of the places, when it is hidden."""
    features = jax.jit(lambda params, inputs_BT: config.inside(params, inputs_BT).features_LBTD)
    found = []
    for first in range(0, len(places), HIDDEN_ROWS):
        at = places[first : first + HIDDEN_ROWS]
        rows_BT = np.tile(row_T, (HIDDEN_ROWS, 1))
        rows_BT[np.arange(len(at)), at] = mask
        found.append(np.asarray(features(params, rows_BT))[:, np.arange(len(at)), at])
    return np.concatenate(found, axis=1)


def _inside(config: ModelConfig, params: Params, inputs_BT: np.ndarray) -> Inside | None:
    """None for a family that has no attention."""
    if type(config).inside is ModelConfig.inside:
        return None
    return config.inside(params, inputs_BT)


def _layers(layers: int) -> list[str]:
    return ["embedding", *(f"layer {n}" for n in range(1, layers + 1))]


def _reading(config: ModelConfig) -> str:
    """How the streams between the layers are read."""
    if isinstance(config, GPT) and config.norm_place == "pre":
        return "layers are read through the model's final norm and output matrix"
    return "layers end in norms of their own, so they are read through the model's head alone"


def _ids(tokenizer: Tokenizer, text: str) -> tuple[np.ndarray, int]:
    """A text's tokens behind a beginning-of-text token where the tokenizer has one, and how many such there are."""
    begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    ids = tokenizer.encode(text)
    if not len(ids):
        raise DataError("--text has no tokens; give it some words")
    return np.array([*begin, *ids], np.int32), len(begin)


def _cut(ids_T: np.ndarray, context: int) -> tuple[np.ndarray, list[str]]:
    if len(ids_T) <= context:
        return ids_T, []
    return ids_T[:context], [f"the first {context:,} of {len(ids_T):,} tokens: no more fit the model's context"]


def _require_few(tokens: int, config: ModelConfig | None = None) -> None:
    """Raise `DataError` where a page would be too large, saying how many tokens fit."""
    heads = getattr(config, "layers", 0) * getattr(config, "heads", 0)
    most = min(MOST_TOKENS, math.isqrt(MOST_WEIGHTS // heads) if heads else MOST_TOKENS)
    if tokens > most:
        raise DataError(
            f"--text has {tokens:,} tokens, and a page holds {most:,} for this model; give it a shorter one"
        )


def _neighbours(
    found: trained.Trained, ids_T: np.ndarray, names: "_Names"
) -> list[tuple[str, list[tuple[str, float]]]]:
    table_VD = np.asarray(found.params["model"]["embed"]["tokens"], np.float32)[: found.model.vocab_size]
    unit_VD = similarity.table((), table_VD).unit_VD
    near = [(id, similarity.neighbours(unit_VD, id, NEIGHBOURS)) for id in dict.fromkeys(ids_T.tolist())]
    return [(names(id), [(names(row), cosine) for row, cosine in rows]) for id, rows in near]


def _bits(seen: Lens) -> list[float | None]:
    return [None if math.isnan(nats) else nats / math.log(2) for nats in seen.nats_T.tolist()]


def _title(found: trained.Trained) -> str:
    return f"{found.folder.name}, step {found.step:,}"


@dataclass(frozen=True)
class _Names:
    """What tokens show as."""

    tokenizer: Tokenizer
    specials: tuple[str, ...]

    def __call__(self, id: int) -> str:
        """One token by itself."""
        own = id - self.tokenizer.vocab_size
        if own >= 0:
            return f"<{self.specials[own]}>"
        piece = self.tokenizer.pieces(np.array([id]))[0]
        return piece if piece and "\ufffd" not in piece else f"<{id}>"

    def all(self, ids_T: np.ndarray) -> list[str]:
        """Each of several."""
        return [self(id) for id in ids_T.tolist()]
