"""Examples of supervised fine-tuning: the records of files, split into those to learn from and those held out."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from gptjax.config import Data
from gptjax.data.errors import DataError
from gptjax.data.records import field, records, text

E = TypeVar("E")
Record = dict[str, Any]
Parse = Callable[[Record, str], list[E]]
"""`parse(record, origin)`: the examples in a record; `origin` is its "file:line", for errors."""


SUFFIXES = (".jsonl", ".json", ".tsv", ".csv", ".parquet")
TRAIN, HELD_OUT = ("train",), ("dev", "validation", "valid")
"""Names of the files in a folder of records (`SST-2/train.tsv`, `SST-2/dev.tsv`)."""


class Split(NamedTuple, Generic[E]):
    """What was read: examples in the order of the files."""

    train: list[list[E]]
    """One list for each corpus of the data."""
    validation: list[E]
    identity: str
    """SHA-256 of the records, and of which were held out."""

    def of(self, splits: tuple[str, ...]) -> Iterator[E]:
        """All examples of the splits named, among "train" and "validation"."""
        for name, parts in (("train", self.train), ("validation", [self.validation])):
            if name in splits:
                yield from chain(*parts)


def read(data: Data, parse: Parse[E], columns: tuple[str, ...] = ()) -> Split[E]:
    """Every record of the corpora, each a file or a folder with a file named train.

    Held out is `data.validation` (a file, or a folder with one named dev or validation), else the file of that name in
    the corpora's folders, else `data.validation_fraction` of the records: by a hash of their content, so that equal
    records fall on the same side, or the last of each file, by `data.split`. `columns` names those of a table without
    a header. Raises `DataError` where a record cannot be used, or nothing is left to train on or to hold out.
    """
    digest = hashlib.sha256()
    apart = [held_out(data.validation)] if data.validation else _beside(data)
    train: list[list[E]] = []
    validation: list[E] = []
    for corpus in data.corpora:
        found = list(_records(to_learn_from(corpus.source), columns))
        held = _held_out(found, data.split, 0.0 if apart else data.validation_fraction)
        train.append([])
        for (origin, record, content), out in zip(found, held, strict=True):
            (validation if out else train[-1]).extend(parse(record, origin))
            digest.update(f"{'validation' if out else len(train)} {content}\n".encode())
        if not train[-1]:
            raise DataError(f"{corpus.source}: no example to train on; give more records or a smaller held-out share")
    for origin, record, content in chain(*(_records(source, columns) for source in apart)):
        validation += parse(record, origin)
        digest.update(f"validation {content}\n".encode())
    if not validation and (apart or data.validation_fraction):
        where = ", ".join(apart) or f"validation_fraction={data.validation_fraction} of the records"
        way_out = "give more records, a validation file, or validation_fraction=0 to hold out nothing"
        raise DataError(f"{where}: no example to validate on; {way_out}")
    return Split(train, validation, digest.hexdigest())


def held_out(source: str) -> str:
    """The file to be judged by: the one named dev or validation in a folder, or what is no folder as it is."""
    return _named(source, HELD_OUT)


def to_learn_from(source: str) -> str:
    """The file to be learnt from: the one named train in a folder, or what is no folder as it is."""
    return _named(source, TRAIN)


def _named(source: str, names: tuple[str, ...]) -> str:
    """The file in a folder that has one of these names; what is no folder is taken as it is."""
    if not Path(source).is_dir():
        return source
    found = _inside(source, names)
    if len(found) != 1:
        wanted = f"one of {', '.join(SUFFIXES)} named {' or '.join(names)}"
        raise DataError(f"{source}: a folder of records has {wanted}; there are {len(found)}; name the file instead")
    return found[0]


def _inside(folder: str, names: tuple[str, ...]) -> list[str]:
    paths = Path(folder).iterdir() if Path(folder).is_dir() else ()
    return sorted(str(path) for path in paths if path.stem in names and path.suffix in SUFFIXES)


def _beside(data: Data) -> list[str]:
    sources = [corpus.source for corpus in data.corpora]
    return [held_out(source) for source in sources if _inside(source, HELD_OUT)]


def _records(source: str, columns: tuple[str, ...]) -> Iterator[tuple[str, Record, str]]:
    for origin, record in records(source, columns or None):
        yield origin, record, json.dumps(record, sort_keys=True, default=str)


def _held_out(found: Sequence[tuple[str, Record, str]], split: str, fraction: float) -> list[bool]:
    if split == "position":
        kept = int((1 - fraction) * len(found))
        return [i >= kept for i in range(len(found))]
    return [int.from_bytes(hashlib.sha256(content.encode()).digest()[:8]) < fraction * 2**64 for _, _, content in found]


def at(record: Record, origin: str, path: str) -> Any:
    """The value of a field; "question.stem" is the field stem of the field question. Raises `DataError`."""
    value: Any = record
    for name in path.split("."):
        value = field(_object(value, origin, path), origin, name)
    return value


def text_at(record: Record, origin: str, path: str) -> str:
    """The text of a field; anything but text is refused with a `DataError`."""
    parent, _, name = path.rpartition(".")
    return text(_object(at(record, origin, parent) if parent else record, origin, path), origin, name)


def _object(value: Any, origin: str, path: str) -> Record:
    if not isinstance(value, dict):
        raise DataError(f'{origin}: field "{path}" is missing; {shown(value)} has no fields')
    return value


def shown(value: Any) -> str:
    """A value in an error: JSON, and no more of it than a line bears."""
    spelled = json.dumps(value, default=str)
    return spelled if len(spelled) <= 60 else spelled[:57] + "..."
