"""A text as a run reads it: what every token of it costs, read as the run was judged."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gptjax import counted, trained
from gptjax.data.tokenizer import Tokenizer
from gptjax.evals import carried, likelihood
from gptjax.evals.windows import read_before, windows
from gptjax.judging import judge
from gptjax.judging.judge import Say
from gptjax.types import TokenSplit


class Read(NamedTuple):
    """A text, token by token, under one run."""

    tokenizer: Tokenizer
    split: TokenSplit
    nats_N: np.ndarray
    """-log p of every token; 0 for one that is given."""
    given: np.ndarray
    """Indices of tokens that are given to the model, not predicted (beginnings of text)."""
    before_N: np.ndarray | None
    """Tokens that the run had read when it predicted each; None where it reads the text through, not in windows."""
    summary: dict[str, float]
    """What `gptjax eval` says of the same text."""

    def pieces(self) -> list[str]:
        """What each token shows as."""
        return self.tokenizer.pieces(np.asarray(self.split.tokens))

    def to_json(self) -> dict[str, Any]:
        """{"summary": ..., "tokens": [{"text", "id", "bits"}, ...]}."""
        rows = zip(self.pieces(), np.asarray(self.split.tokens).tolist(), self.bits(), strict=True)
        return {"summary": self.summary, "tokens": [{"text": t, "id": i, "bits": b} for t, i, b in rows]}

    def bits(self) -> list[float]:
        """-log2 p of every token."""
        bits: list[float] = (self.nats_N / np.log(2)).tolist()
        return bits


def read(folder: Path, data: str, stride: int | None, cache: Path, say: Say) -> Read:
    """All of `data` as a run reads it, each token predicted once.

    Windows start `stride` tokens apart, or as they did when the run was judged in training; a recurrent run that was
    judged with its state carried is read so, unless a stride is asked for. Raises `ConfigError` for a model that gives
    no left-to-right likelihood.
    """
    if counted.holds(folder):
        return _counted(counted.load(folder), data, stride, cache)
    found = judge.language_model(folder, say)
    split = judge.text(data, found, cache)
    if stride is None and found.run.evaluation.state == "carried":
        return _carried(found, split)
    return _windowed(found, split, stride)


def _counted(found: counted.Counted, data: str, stride: int | None, cache: Path) -> Read:
    counted.refuse_stride(stride)
    split, bos_id = counted.text(found, data, cache), found.tokenizer.bos_id
    nats_N, given = counted.nats(found.model, split, bos_id), likelihood.given(split, False, bos_id)
    about = likelihood.summary(nats_N, split.bytes, len(given)) | {"step": counted.STEP}
    return Read(found.tokenizer, split, nats_N, given, None, about)


def _carried(found: trained.Trained, split: TokenSplit) -> Read:
    parts, context = found.run.evaluation.rows, found.model.context
    params = judge.in_precision(found.params["model"], found.run.precision)
    nats_N = carried.token_nats(found.model, params, np.asarray(split.tokens), parts)
    given = likelihood.given(split, False, found.tokenizer.bos_id)
    nats_N[given] = 0.0
    how = {"parts": parts, "context": context, "step": found.step}
    return Read(found.tokenizer, split, nats_N, given, None, likelihood.summary(nats_N, split.bytes, len(given)) | how)


def _windowed(found: trained.Trained, split: TokenSplit, stride: int | None) -> Read:
    run, context, bos_id = found.run, found.model.context, found.tokenizer.bos_id
    stride = next(s for s in (stride, run.evaluation.stride, context) if s is not None)
    apart = run.data.packing == "documents"
    params = judge.in_precision(found.params["model"], run.precision)
    nats_N = likelihood.token_nats(
        found.model, params, split, context, stride, run.evaluation.rows, apart, bos_id=bos_id
    )
    given = likelihood.given(split, apart, bos_id)
    units = split.starts if apart else np.array([0, len(split.tokens)])
    before_N = read_before(windows(units, context, stride), len(split.tokens))
    about = likelihood.summary(nats_N, split.bytes, len(given)) | {"stride": stride, "context": context}
    return Read(found.tokenizer, split, nats_N, given, before_N, about | {"step": found.step})
