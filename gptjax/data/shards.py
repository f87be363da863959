"""Text to token files, so that a build that is killed at any moment goes on and ends with the same bytes.

Files only grow, a batch of text at a time; `progress.json`, replaced atomically once a batch is safely on disk, says
how much of them counts. What a killed build wrote beyond that is written over.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gptjax.config import write_json
from gptjax.data.corpora import Piece
from gptjax.data.errors import DataError
from gptjax.data.tokenizers import Tokenizer

BATCH_BYTES = min(4 * (os.cpu_count() or 1), 32) << 20
"""Text that is encoded at once: a few pieces for each core, and the most that a killed build does again."""

Progress = Callable[[str, int, int], None]
"""`progress(split, bytes, tokens)` after each batch: how much of the split's text is done, and its tokens."""
Pieces = Callable[[], Iterable[tuple[int, Piece]]]


def told(every_seconds: float = 5.0) -> Progress:
    """A progress that says on stderr how far a long build is, and says nothing of a short one."""
    started = last = time.monotonic()

    def tell(split: str, size: int, tokens: int) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= every_seconds:
            last = now
            done = f"{size / 1e6:,.0f} MB of text, {tokens / 1e6:,.1f}M tokens"
            print(f"store: {split}: {done} in {now - started:.0f} s", file=sys.stderr)

    return tell


@dataclasses.dataclass
class _Part:
    """How much of one corpus of one split is safely on disk."""

    tokens: int = 0
    documents: int = 0
    bytes: int = 0


def write(
    folder: Path, splits: Mapping[str, Pieces], counts: dict[str, int], tokenizer: Tokenizer, progress: Progress | None
) -> dict[str, list[dict[str, Any]]]:
    """Write the token files of all splits of `counts[split]` corpora; the counts and SHA-256 sums of each file.

    Raises `DataError` for an id outside the vocabulary, and where files of an earlier start are damaged.
    """
    dtype = token_dtype(tokenizer.vocab_size)
    pieces_done, parts = _resume(folder, counts, dtype)
    for split, pieces in splits.items():
        rest = itertools.islice(pieces(), pieces_done[split], None)
        for batch in _batches(rest):
            encoded = tokenizer.encode_batch([piece.text for _, piece, _ in batch])
            for corpus in sorted({corpus for corpus, _, _ in batch}):
                mine = [(p, size, ids) for (c, p, size), ids in zip(batch, encoded, strict=True) if c == corpus]
                _append(folder / f"{split}-{corpus}", parts[split][corpus], mine, tokenizer, dtype)
            pieces_done[split] += len(batch)
            saved = {s: [dataclasses.asdict(part) for part in parts[s]] for s in parts}
            write_json(folder / "progress.json", {"pieces": pieces_done, "parts": saved})
            if progress:
                progress(split, sum(part.bytes for part in parts[split]), sum(part.tokens for part in parts[split]))
    return {s: [_finish(folder / f"{s}-{c}", part, dtype) for c, part in enumerate(parts[s])] for s in splits}


def token_dtype(vocab_size: int) -> np.dtype:
    """The dtype of ids below `vocab_size` on disk: little-endian, 16 bits where they suffice."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def sha256(path: Path) -> str:
    """The SHA-256 sum of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _resume(folder: Path, counts: dict[str, int], dtype: np.dtype) -> tuple[dict[str, int], dict[str, list[_Part]]]:
    """Pieces done of each split, and what is on disk of each corpus; all 0 for a build that starts."""
    path = folder / "progress.json"
    if not path.exists():
        return dict.fromkeys(counts, 0), {split: [_Part() for _ in range(n)] for split, n in counts.items()}
    saved = json.loads(path.read_text(encoding="utf-8"))
    parts = {split: [_Part(**part) for part in saved["parts"][split]] for split in counts}
    for split, corpus in ((s, c) for s in parts for c in range(len(parts[s]))):
        tokens = folder / f"{split}-{corpus}.tokens"
        committed = parts[split][corpus].tokens * dtype.itemsize
        if committed and (not tokens.exists() or tokens.stat().st_size < committed):
            raise DataError(f"{tokens}: shorter than progress.json says; delete {folder} and run again")
    return saved["pieces"], parts


def _batches(pieces: Iterable[tuple[int, Piece]]) -> Iterator[list[tuple[int, Piece, int]]]:
    """Lists of (corpus, piece, UTF-8 bytes), of about `BATCH_BYTES` each."""
    batch, total = [], 0
    for corpus, piece in pieces:
        size = len(piece.text.encode())
        batch.append((corpus, piece, size))
        total += size
        if total >= BATCH_BYTES:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def _append(
    stem: Path, part: _Part, pieces: list[tuple[Piece, int, np.ndarray]], tokenizer: Tokenizer, dtype: np.dtype
) -> None:
    """Put these pieces of one corpus behind what is on disk, with the document policy of the tokenizer."""
    before, after = ([] if id is None else [np.array([id], np.int32)] for id in (tokenizer.bos_id, tokenizer.eos_id))
    framed = [np.concatenate([*before * p.starts, ids, *after * p.ends]) for p, _, ids in pieces]
    tokens_N = np.concatenate(framed)
    if len(tokens_N) and (tokens_N.min() < 0 or tokens_N.max() >= tokenizer.vocab_size):
        outside = (tokens_N < 0) | (tokens_N >= tokenizer.vocab_size)
        raise DataError(
            f"{pieces[0][0].origin}: token id {tokens_N[outside][0]} is outside the vocabulary of "
            f"{tokenizer.vocab_size:,} ids; the tokenizer's files do not fit each other"
        )
    firsts_P = part.tokens + np.cumsum([0, *map(len, framed)])[:-1]
    starts_D = firsts_P[[p.starts for p, _, _ in pieces]]
    _put(stem.with_suffix(".tokens"), part.tokens, tokens_N.astype(dtype))
    _put(stem.with_suffix(".starts"), part.documents, starts_D.astype("<i8"))
    part.tokens += len(tokens_N)
    part.documents += len(starts_D)
    part.bytes += sum(size for _, size, _ in pieces)


def _put(path: Path, start: int, values: np.ndarray) -> None:
    """Write the values from item `start` of the file on, the last of it, and wait until they are on the disk."""
    path.touch()
    with path.open("r+b") as file:
        file.seek(start * values.itemsize)
        file.write(values.tobytes())
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def _finish(stem: Path, part: _Part, dtype: np.dtype) -> dict[str, Any]:
    """Close the list of document starts with the number of tokens; the counts and sums for the manifest."""
    tokens, starts = stem.with_suffix(".tokens"), stem.with_suffix(".starts")
    _put(tokens, part.tokens, np.zeros(0, dtype))
    _put(starts, part.documents, np.array([part.tokens], "<i8"))
    return {**dataclasses.asdict(part), "tokens_sha256": sha256(tokens), "starts_sha256": sha256(starts)}
