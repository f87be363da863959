"""Pairs of a source and a target text: read from files, split so that no source is on both sides, padded to rows."""

import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gptjax.config import Data
from gptjax.data import utf8
from gptjax.data.errors import DataError
from gptjax.data.records import records
from gptjax.objectives.examples import text_at
from gptjax.types import RowSource

TABLES = (".tsv", ".txt")


class Pair(NamedTuple):
    """A text and what it is to become."""

    source: str
    target: str


class Split(NamedTuple):
    """What was read, in the order of the files."""

    train: list[list[Pair]]
    """One list for each corpus of the data."""
    validation: list[Pair]
    identity: str
    """SHA-256 of the pairs, and of which were held out."""
    notes: tuple[str, ...]


class PairRows(NamedTuple):
    """Padded rows of token ids, on the host."""

    source_BS: np.ndarray
    """int32; end-of-text behind each source, zeros behind that."""
    source_lengths_B: np.ndarray
    """int32; tokens of each source, end-of-text included."""
    target_BU: np.ndarray
    """int32; beginning-of-text, the target, end-of-text, zeros: U = T + 1 columns."""
    target_lengths_B: np.ndarray
    """int32; tokens of each target, both ends included; 0 is a row of padding."""


def read(data: Data, source_field: str, target_field: str) -> Split:
    """All pairs of the corpora. Held out are those of `data.validation`, else of `validation_fraction` of the sources.

    The share is drawn by a hash of the source, letter case and spaces aside, so that every translation of a sentence
    falls on one side; with a file of its own, training pairs whose source is in it are left out and counted. Raises
    `DataError` where a line is no pair, or nothing is left to train on or to hold out.
    """
    digest, notes = hashlib.sha256(), []
    apart = list(pairs(data.validation, source_field, target_field)) if data.validation else []
    known = {plain(pair.source) for pair in apart}
    validation, train = list(apart), []
    for number, corpus in enumerate(data.corpora):
        kept, dropped = [], 0
        for pair in pairs(corpus.source, source_field, target_field):
            if not data.validation and _drawn(plain(pair.source)) < data.validation_fraction:
                validation.append(pair)
            elif plain(pair.source) in known:
                dropped += 1
            else:
                kept.append(pair)
                digest.update(f"{number} {json.dumps(pair)}\n".encode())
        if dropped:
            notes.append(f"{corpus.source}: {dropped:,} pairs left out whose source is in {data.validation}")
        if not kept:
            raise DataError(f"{corpus.source}: no pair to train on; give more pairs or a smaller held-out share")
        train.append(kept)
    for pair in validation:
        digest.update(f"validation {json.dumps(pair)}\n".encode())
    if not validation and (data.validation or data.validation_fraction):
        where = data.validation or f"validation_fraction={data.validation_fraction} of the sources"
        raise DataError(f"{where}: no pair to validate on; give more pairs, or validation_fraction=0 to hold out none")
    return Split(train, validation, digest.hexdigest(), tuple(notes))


def plain(text: str) -> str:
    """A text without what does not make it another sentence: letter case and the amount of space."""
    return " ".join(text.casefold().split())


def pairs(source: str, source_field: str, target_field: str) -> Iterator[Pair]:
    """Every pair of a file: a table without a header (.tsv, .txt, or the one in a .zip) or records with both fields.

    A line of a table is source, TAB, target; a third column (whose sentence it is) is not read. Blank lines are no
    pairs. Raises `DataError` naming the line where one is missing, or a side is empty.
    """
    path = Path(source)
    if path.suffix == ".zip":
        return _table(_member(path))
    if path.suffix in TABLES:
        return _table(path)
    return _records(source, source_field, target_field)


def _records(source: str, source_field: str, target_field: str) -> Iterator[Pair]:
    for origin, record in records(source):
        pair = Pair(*(text_at(record, origin, name).strip() for name in (source_field, target_field)))
        yield _whole(pair, origin)


def _table(path: Any) -> Iterator[Pair]:
    for number, line in utf8.lines(path):
        if line.strip():
            cells = [cell.strip() for cell in line.split("\t")]
            if not 2 <= len(cells) <= 3:
                raise DataError(f"{path}:{number}: {len(cells) - 1} TABs; a line is source, TAB, target")
            yield _whole(Pair(*cells[:2]), f"{path}:{number}")


def _whole(pair: Pair, origin: str) -> Pair:
    for name, text in pair._asdict().items():
        if not text:
            raise DataError(f"{origin}: the {name} is empty")
    return pair


def _member(path: Path) -> zipfile.Path:
    """The one table in an archive; files whose name begins with _ or . are about it."""
    try:
        inside = list(zipfile.Path(path).iterdir())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path}: not a readable zip file ({error})") from None
    tables = [p for p in inside if p.suffix in TABLES and not p.name.startswith(("_", "."))]
    if len(tables) != 1:
        raise DataError(f"{path}: holds {len(tables)} tables (.tsv, .txt); unpack the one that is meant and name it")
    return tables[0]


def _drawn(text: str) -> float:
    """In [0, 1), the same for the same text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


# --- rows ---


def tokenized(part: Sequence[Pair], tokenizer: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(sources, each with its end-of-text; targets between beginning and end of text), int32."""
    encoded = tokenizer.encode_batch(list(chain.from_iterable(part)))
    begin, end = np.array([tokenizer.bos_id], np.int32), np.array([tokenizer.eos_id], np.int32)
    sources = [np.concatenate([ids, end]) for ids in encoded[::2]]
    return sources, [np.concatenate([begin, ids, end]) for ids in encoded[1::2]]


def fitting(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], context: int) -> list[int]:
    """The pairs of which neither row is longer than the context."""
    return [i for i, (s, t) in enumerate(zip(sources, targets, strict=True)) if max(len(s), len(t) - 1) <= context]


def row_source(
    sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], columns: int, target_columns: int
) -> RowSource:
    """One row a pair, `PairRows` of these many columns; held as running tokens, padded when they are taken."""
    from_source, from_target = _Ragged.of(sources), _Ragged.of(targets)

    def take(indices_B: np.ndarray, epoch: int) -> PairRows:
        return PairRows(*from_source.rows(indices_B, columns), *from_target.rows(indices_B, target_columns))

    return RowSource(len(sources), take)


class _Ragged(NamedTuple):
    """Sequences of different lengths, one behind the other."""

    tokens: np.ndarray
    starts: np.ndarray

    @staticmethod
    def of(sequences: Sequence[np.ndarray]) -> "_Ragged":
        starts = np.cumsum([0, *map(len, sequences)])
        return _Ragged(np.concatenate([np.zeros(0, np.int32), *sequences]), starts)

    def rows(self, indices_B: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows padded with zeros, their lengths)."""
        starts_B, lengths_B = self.starts[indices_B], np.diff(self.starts)[indices_B]
        at_BS = starts_B[:, None] + np.arange(columns)
        real_BS = np.arange(columns) < lengths_B[:, None]
        rows_BS = np.where(real_BS, self.tokens[np.minimum(at_BS, len(self.tokens) - 1)], 0)
        return rows_BS.astype(np.int32), lengths_B.astype(np.int32)
