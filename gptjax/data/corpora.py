"""Corpora: documents by source, streamed in pieces, and which of them are held out."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import NamedTuple, TypeVar

from gptjax.config import Data
from gptjax.data import cuts, hub, records, utf8
from gptjax.data.errors import DataError
from gptjax.data.sources import STDLIB, files, fingerprint

__all__ = ["Piece", "fingerprint", "pieces", "splits"]

T = TypeVar("T")

PART_CHARACTERS = 1 << 20
"""Longer documents of JSONL, Parquet and hub sets come in parts of this size."""

FIELD = "text"
"""The field that holds a document in JSONL, Parquet and hub sets."""


class Piece(NamedTuple):
    """A document, or a part of one: memory stays flat however long a document is."""

    text: str
    """Never empty."""
    starts: bool
    """The document starts here."""
    ends: bool
    """The document ends here."""
    origin: str
    """Where it was read: a file, `file:line`, or a row; what an error names."""


Split = Callable[[], Iterator[tuple[int, Piece]]]
"""Reads a split from its start: (index of the corpus, piece), corpora one after another."""


def pieces(source: str) -> Iterator[Piece]:
    """Every document of a source in order; an empty document is none.

    A text file is one document, and so is each line of a `.jsonl` and each row of a `.parquet` or hub set (field
    "text"). Raises `DataError` with file and line or byte where the source is missing, wrong, or holds no text.
    """
    empty = True
    for origin, parts in _documents(source):
        for piece in _marked(origin, parts):
            empty = False
            yield piece
    if empty:
        raise DataError(f"{source}: the corpus is empty; name a source with text in it")


def splits(data: Data) -> dict[str, Split]:
    """The readers of "train" and "validation"; without "validation" where nothing is held out.

    By document: those whose hash falls below the fraction are held out, so equal documents are never apart. By
    position: the first int((1 - fraction) * characters) characters of each corpus train, the rest is held out. A
    `data.validation` of its own comes as corpus 0 of the validation split. Readers raise `DataError` at their end where
    a split has no text: the training split of any corpus, or the validation split of all together.
    """
    corpora = [corpus.source for corpus in data.corpora]
    if data.validation is not None:
        held_out = data.validation
        return {"train": lambda: _numbered(map(pieces, corpora)), "validation": lambda: _numbered([pieces(held_out)])}
    if data.validation_fraction == 0:
        return {"train": lambda: _numbered(map(pieces, corpora))}
    divide = _by_document if data.split == "document" else _by_position
    divided = [divide(source, data.validation_fraction) for source in corpora]
    return {
        "train": lambda: _numbered(
            _full(train(), corpus, data) for corpus, (train, _) in zip(corpora, divided, strict=True)
        ),
        "validation": lambda: _full(_numbered(held_out() for _, held_out in divided), " + ".join(corpora), data),
    }


# --- documents ---


def _documents(source: str) -> Iterator[tuple[str, Iterable[str]]]:
    """(origin, parts of the text) of each document."""
    if source.startswith(hub.PREFIX):
        yield from _texts(hub.rows(source))
        return
    for path in files(source):
        if source == STDLIB:
            try:
                yield str(path), [path.read_bytes().decode()]
            except UnicodeDecodeError:
                continue  # a few modules of some versions are in the encodings that they demonstrate
        elif path.suffix == ".jsonl":
            yield from _texts(records.jsonl(path))
        elif path.suffix == ".parquet":
            yield from _texts(records.parquet(path, FIELD))
        else:
            yield str(path), utf8.parts(path)


def _texts(rows: Iterable[records.Record]) -> Iterator[tuple[str, Iterable[str]]]:
    for origin, fields in rows:
        yield origin, cuts.cut(records.text(fields, origin, FIELD), PART_CHARACTERS)


def _marked(origin: str, parts: Iterable[str]) -> Iterator[Piece]:
    """The parts as pieces: the last is known for such by looking one ahead."""
    held, starts = None, True
    for part in filter(None, parts):
        if held is not None:
            yield Piece(held, starts, False, origin)
            starts = False
        held = part
    if held is not None:
        yield Piece(held, starts, True, origin)


# --- splits ---

Halves = tuple[Callable[[], Iterator[Piece]], Callable[[], Iterator[Piece]]]
"""Readers of what trains and of what is held out."""


def _by_document(source: str, fraction: float) -> Halves:
    def chosen(wanted: bool) -> Iterator[Piece]:
        held_out = False
        for piece in pieces(source):
            if piece.starts:
                draw = int.from_bytes(hashlib.sha256(piece.text.encode()).digest()[:8], "big") / 2**64
                held_out = draw < fraction
            if held_out == wanted:
                yield piece

    return lambda: chosen(False), lambda: chosen(True)


def _by_position(source: str, fraction: float) -> Halves:
    @cache
    def boundary() -> int:
        return int((1 - fraction) * sum(len(piece.text) for piece in pieces(source)))

    return lambda: _before(pieces(source), boundary()), lambda: _after(pieces(source), boundary())


def _before(stream: Iterator[Piece], limit: int) -> Iterator[Piece]:
    for piece in stream:
        if limit <= 0:
            return
        cut = len(piece.text) >= limit
        yield piece._replace(text=piece.text[:limit], ends=piece.ends or cut)
        limit -= len(piece.text)


def _after(stream: Iterator[Piece], limit: int) -> Iterator[Piece]:
    begun = False
    for piece in stream:
        if len(piece.text) > limit:
            yield piece._replace(text=piece.text[limit:], starts=piece.starts or not begun)
            begun = True
        limit = max(0, limit - len(piece.text))


def _numbered(streams: Iterable[Iterator[Piece]]) -> Iterator[tuple[int, Piece]]:
    for corpus, stream in enumerate(streams):
        for piece in stream:
            yield corpus, piece


def _full(stream: Iterator[T], sources: str, data: Data) -> Iterator[T]:
    """The stream; raises `DataError` at its end where nothing came."""
    empty = True
    for item in stream:
        empty = False
        yield item
    if empty:
        raise DataError(
            f"{sources}: split={data.split!r} with validation_fraction={data.validation_fraction} leaves one side "
            "without text; hold out by position, change the fraction, or give validation a source of its own"
        )
