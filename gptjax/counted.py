"""Language models that are counted, not trained: their configuration, their folder, and what they are worth.

A counted run folder holds `config.json` (with its hash), `tokenizer/`, `counts.npz` with its SHA-256 sum in
`counts.json`, and one row of `metrics.jsonl`: what the held-out text costs. It is judged as every other model is:
nats of every token of the split, the documents one after another as one running text.
"""

import time
import zipfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gptjax import config
from gptjax.config import Config, ConfigError, Corpus, Data, TokenizerConfig
from gptjax.data import store, tokenizers
from gptjax.data.errors import DataError
from gptjax.data.shards import sha256
from gptjax.data.tokenizer import Tokenizer
from gptjax.evals import likelihood
from gptjax.infer.sample import Decoding, next_token
from gptjax.models import ngram, smoothing
from gptjax.models.ngram import NGram, Smoothing
from gptjax.objectives.causal import Causal, joined
from gptjax.train.folder import check_data, opened, remembered, write_json
from gptjax.train.log import MetricsFile, rows
from gptjax.types import TokenSplit

COUNTS = "counts.npz"
STEP = 1
"""Counting is one step."""


@dataclass(frozen=True)
class Counting(Config):
    """An n-gram model: what counting alone knows of a text."""

    tokenizer: TokenizerConfig
    """How text becomes token ids."""
    order: int = 5
    """Tokens of the longest n-gram, the predicted one included."""
    smoothing: Smoothing = "kneser_ney"
    """Interpolated modified Kneser-Ney; or, for comparison, back-off with absolute discounts, or add-k."""
    add: float = 1.0
    """The k of add-k; unused by the others."""
    data: Data = field(default_factory=Data)
    """The text."""

    def check(self) -> None:
        self.require(1 <= self.order <= ngram.MAX_ORDER, f"order={self.order} is not in 1..{ngram.MAX_ORDER}")
        self.require(self.add > 0, f"add={self.add} must be positive")


class Counted(NamedTuple):
    """A counted run, read back from its folder."""

    counting: Counting
    tokenizer: Tokenizer
    model: NGram
    folder: Path


def holds(folder: Path) -> bool:
    """Whether the folder is that of a counted run."""
    path = folder / "config.json"
    return path.is_file() and not config.foreign(path) and isinstance(config.read(path), Counting)


def count(counting: Counting, folder: Path, cache: Path) -> dict[str, Any]:
    """Count the training text into `folder` and judge the held-out text; once: a finished folder is only read.

    Gives the row of `metrics.jsonl`. Raises `ConfigError`, `DataError` and `FolderError` for what a user can mend.
    """
    with opened(folder, counting):
        if (done := _finished(folder)) is not None:
            return done
        if (folder / "tokenizer").is_dir():
            tokenizer = tokenizers.load(folder / "tokenizer")
        else:
            read = Causal()
            tokenizer = counting.tokenizer.build(lambda: read.texts(counting.data, counting.tokenizer.LEARNS_FROM))
        tokens = store.build(counting.data, tokenizer, cache)
        check_data(folder, tokens.identity)
        train, held_out = joined(tokens.splits["train"]), joined(tokens.splits.get("validation", []))
        if train is None:
            raise DataError("the training text has no tokens; name a corpus with text in it")
        started = time.perf_counter()
        model = _fitted(counting, np.asarray(train.tokens), tokenizer.vocab_size)
        seconds = time.perf_counter() - started
        judged = {} if held_out is None else judge(model, held_out, tokenizer.bos_id)
        if not (folder / "config.json").exists():
            config.save(counting, folder / "config.json")
        write_json(folder / "data.json", {"identity": tokens.identity})
        tokenizer.save(folder / "tokenizer")
        _save(model, folder)
        row = {"step": STEP, "split": "validation", **judged, "train_tokens": len(train.tokens), "seconds": seconds}
        with closing(MetricsFile(folder / "metrics.jsonl")) as metrics:
            metrics.truncate_after(0)
            metrics.append(row)
        return row


def _finished(folder: Path) -> dict[str, Any] | None:
    """What was logged of a folder that has been counted to the end."""
    path = folder / "metrics.jsonl"
    found = rows(path) if path.exists() else []
    return found[-1] if found and (folder / "counts.json").exists() else None


def _fitted(counting: Counting, tokens_N: np.ndarray, vocab_size: int) -> NGram:
    try:
        return smoothing.fit(tokens_N, counting.order, vocab_size, counting.smoothing, counting.add)
    except ValueError as error:
        raise DataError(str(error)) from None


def judge(model: NGram, split: TokenSplit, bos_id: int | None) -> dict[str, float]:
    """tokens, bytes, nats_per_token, perplexity and bits_per_byte of a split, read as one running text."""
    nats_N = nats(model, split, bos_id)
    return likelihood.summary(nats_N, split.bytes, len(likelihood.given(split, False, bos_id)))


def nats(model: NGram, split: TokenSplit, bos_id: int | None) -> np.ndarray:
    """-log p of every token of a split, [N] float64; a beginning-of-text token at its start is given and costs 0."""
    nats_N = -ngram.log_probability(model, np.asarray(split.tokens))
    nats_N[likelihood.given(split, False, bos_id)] = 0.0
    return nats_N


def load(folder: Path) -> Counted:
    """A counted run; raises `ConfigError` where the folder holds none, `DataError` where its counts are damaged."""
    counting = config.read(folder / "config.json")
    if not isinstance(counting, Counting):
        raise ConfigError(f"RUN {folder}: is not a counted model")
    path = folder / COUNTS
    if not path.is_file() or sha256(path) != remembered(folder / "counts.json", "sha256"):
        raise DataError(f"{path}: is missing or damaged; count again into another folder")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            vocab_size = int(arrays["vocab_size"])
            tables = tuple(_table(arrays, n) for n in range(1, counting.order + 1))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: is damaged ({error}); count again into another folder") from None
    model = NGram(vocab_size, tables, counting.smoothing)
    return Counted(counting, tokenizers.load(folder / "tokenizer"), model, folder)


def _save(model: NGram, folder: Path) -> None:
    """The tables, whole or not at all: the sum is written last."""
    arrays: dict[str, Any] = {
        f"{name}_{n}": np.asarray(value)
        for n, table in enumerate(model.orders, start=1)
        for name, value in table._asdict().items()
    }
    temporary = folder / f"{COUNTS}.tmp"
    with temporary.open("wb") as file:
        np.savez(file, vocab_size=np.asarray(model.vocab_size), **arrays)
    temporary.replace(folder / COUNTS)
    write_json(folder / "counts.json", {"sha256": sha256(folder / COUNTS)})


def _table(arrays: Any, n: int) -> ngram.Counts:
    found = {name: arrays[f"{name}_{n}"] for name in ngram.Counts._fields}
    discounts = tuple(found.pop("discounts").tolist())
    return ngram.Counts(**found | {"discounts": discounts, "estimated": bool(found["estimated"])})


# --- what a counted run is worth ---


def held_out(folder: Path, data: str | None, stride: int | None, cache: Path) -> dict[str, Any]:
    """What `gptjax eval` prints: all of `data`, or the held-out text of the run."""
    refuse_stride(stride)
    found = load(folder)
    split: TokenSplit | None
    if data is not None:
        split = text(found, data, cache)
    else:
        tokens = store.build(found.counting.data, found.tokenizer, cache)
        check_data(folder, tokens.identity, "RUN")
        split = joined(tokens.splits.get("validation", []))
    if split is None:
        raise DataError(f"RUN {folder}: holds no data out; name some with --data")
    return {"step": STEP, **judge(found.model, split, found.tokenizer.bos_id), "context": found.counting.order - 1}


def refuse_stride(stride: int | None) -> None:
    """Raise `ConfigError` where windows are asked for: counts read one running text."""
    if stride is not None:
        raise ConfigError(f"--stride {stride}: a counted model reads the text as a whole, not in windows; leave it out")


def text(found: Counted, source: str, cache: Path) -> TokenSplit:
    """All of a source of text as tokens."""
    whole = Data(corpora=(Corpus(source),), validation_fraction=0.0)
    return store.build(whole, found.tokenizer, cache).splits["train"][0]


def generate(
    found: Counted, prompts: list[np.ndarray], max_tokens: int, decoding: Decoding, key: jax.Array
) -> list[np.ndarray]:
    """New tokens of each prompt, at most `max_tokens`, up to an end-of-text token; the same for the same key."""
    if max_tokens < 1:
        raise ConfigError(f"max_tokens={max_tokens} must be positive")
    return [_one(found, p, max_tokens, decoding, jax.random.fold_in(key, row)) for row, p in enumerate(prompts)]


def _one(found: Counted, prompt: np.ndarray, max_tokens: int, decoding: Decoding, key: jax.Array) -> np.ndarray:
    tokens = prompt.tolist()
    for step in range(max_tokens):
        p_V = ngram.distribution(found.model, np.array(tokens[-ngram.MAX_ORDER :], np.int64))
        logits_BV = jnp.log(jnp.asarray(p_V, jnp.float32))[None]
        token = int(next_token(logits_BV, jax.random.fold_in(key, step), decoding)[0])
        if token == found.tokenizer.eos_id:
            break
        tokens.append(token)
    return np.array(tokens[len(prompt) :], np.int32)
