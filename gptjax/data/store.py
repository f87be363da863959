"""Token stores: a corpus as token ids on disk, built once per tokenizer and split, and read through memory maps.

A store is a folder: for each split and corpus `train-0.tokens` (little-endian uint16, or uint32 where the vocabulary
needs it) and `train-0.starts` (int64: where each document starts, then the number of tokens), and `manifest.json`,
which is written last and holds what the store was made from, the counts, and the SHA-256 sums of the files.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gptjax.config import Data, write_json
from gptjax.data import corpora, shards
from gptjax.data.errors import DataError
from gptjax.data.tokenizers import Tokenizer
from gptjax.types import TokenSplit

FORMAT = 1
HASHED_BYTES = 4 << 30
"""Files up to this size are checked against their SHA-256 sum whenever they are opened, larger ones by size alone."""


class Store(NamedTuple):
    """A built store, open for reading."""

    folder: Path
    splits: dict[str, list[TokenSplit]]
    """"train" and "validation": a memory-mapped split for each corpus."""
    manifest: dict[str, Any]
    """What the store was made from and holds; the content of `manifest.json`."""
    identity: str
    """SHA-256 of tokens, documents, tokenizer and split: equal for equal content, wherever it was built."""


def build(data: Data, tokenizer: Tokenizer, cache: Path, progress: shards.Progress | None = None) -> Store:
    """The store of these corpora, built under `cache` unless it is there.

    A build that was killed goes on where it was, to the same bytes; a second process waits for the first; memory stays
    flat. Raises `DataError` where the text cannot be used, the disk is full, or an id is outside the vocabulary.
    """
    origin = _origin(data, tokenizer)
    folder = _place(origin, cache)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        if not (folder / "manifest.json").exists():
            try:
                _write(folder, origin, data, tokenizer, progress)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise DataError(f"{folder}: the disk is full; free some space and run again to go on") from error
    return open(folder, tokenizer, data)


def built(data: Data, tokenizer: Tokenizer, cache: Path) -> Store | None:
    """The store of these corpora where there is one under `cache`; None where it would have to be built first.

    Raises `DataError` where a corpus is missing, and as `open` does.
    """
    folder = _place(_origin(data, tokenizer), cache)
    return open(folder, tokenizer, data) if (folder / "manifest.json").exists() else None


def open(folder: Path, tokenizer: Tokenizer, data: Data) -> Store:
    """Open a built store.

    Raises `DataError` where it was made with another tokenizer, document policy or split, or from other text, and where
    its files are not those that were written.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found, parts = manifest["origin"], manifest["splits"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not the manifest of a token store ({error}); delete {folder} and run again") from None
    for name, wanted in _origin(data, tokenizer).items():
        if found.get(name) != wanted:
            raise DataError(
                f"{folder}: {name} of this store is {found.get(name)!r}, and {wanted!r} is asked for; "
                "use the tokenizer and data that it was built with, or build another store"
            )
    dtype = shards.token_dtype(tokenizer.vocab_size)
    splits = {s: [_open_part(folder / f"{s}-{c}", part, dtype) for c, part in enumerate(parts[s])] for s in parts}
    content = {name: value for name, value in found.items() if name not in ("corpora", "validation")}
    return Store(folder, splits, manifest, _digest([content, parts]))


def _origin(data: Data, tokenizer: Tokenizer) -> dict[str, Any]:
    """What a store is made from: with another value of any of these it is another store."""
    own = data.validation is not None
    return {
        "format": FORMAT,
        "tokenizer": tokenizer.hash,
        "vocab_size": tokenizer.vocab_size,
        "bos_id": tokenizer.bos_id,
        "eos_id": tokenizer.eos_id,
        "split": None if own else data.split,
        "validation_fraction": None if own else data.validation_fraction,
        "corpora": [corpora.fingerprint(corpus.source) for corpus in data.corpora],
        "validation": corpora.fingerprint(data.validation) if data.validation is not None else None,
    }


def _place(origin: dict[str, Any], cache: Path) -> Path:
    return cache / "stores" / _digest(origin)[:20]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _write(
    folder: Path, origin: dict[str, Any], data: Data, tokenizer: Tokenizer, progress: shards.Progress | None
) -> None:
    splits = corpora.splits(data)
    counts = {s: 1 if s == "validation" and data.validation is not None else len(data.corpora) for s in splits}
    parts = shards.write(folder, splits, counts, tokenizer, progress)
    sources = [corpus.source for corpus in data.corpora]
    write_json(folder / "manifest.json", {"origin": origin, "sources": sources, "splits": parts})
    (folder / "progress.json").unlink(missing_ok=True)


def _open_part(stem: Path, part: dict[str, Any], dtype: np.dtype) -> TokenSplit:
    tokens_N = _mapped(stem.with_suffix(".tokens"), dtype, part["tokens"], part["tokens_sha256"])
    starts_D = _mapped(stem.with_suffix(".starts"), np.dtype("<i8"), part["documents"] + 1, part["starts_sha256"])
    return TokenSplit(tokens_N, starts_D, part["bytes"])


def _mapped(path: Path, dtype: np.dtype, count: int, sha256: str) -> np.ndarray:
    size = count * dtype.itemsize
    if not path.exists() or path.stat().st_size != size or (size <= HASHED_BYTES and shards.sha256(path) != sha256):
        raise DataError(f"{path}: not the file that was written; delete {path.parent} and run again to build it anew")
    return np.memmap(path, dtype, "r") if count else np.zeros(0, dtype)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system gives back when a process ends, however it ends."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{folder}: another process builds this store; waiting for it", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
