"""Records: the named fields of one example, from the files that fine-tuning sets come in."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gptjax.data import hub, utf8
from gptjax.data.errors import DataError

Record = tuple[str, dict[str, Any]]
"""(origin, fields); the origin is what an error names, `file:line` where the file has lines."""


def records(source: str | Path, names: tuple[str, ...] | None = None) -> Iterator[Record]:
    """Every record of a file or hub set, in order, streamed where the format allows it.

    `.jsonl` (an object a line), `.json` (a list of objects), `.tsv` (no quoting), `.csv`, `.parquet`, `hf://...`.
    `names` are the columns of a `.tsv` or `.csv` that has no header. Raises `DataError` with file and line.
    """
    if str(source).startswith(hub.PREFIX):
        return hub.rows(str(source))
    path = Path(source)
    readers = {".jsonl": jsonl, ".json": _json, ".parquet": parquet}
    if path.suffix in (".tsv", ".csv"):
        return _table(path, names)
    if path.suffix not in readers:
        raise DataError(f"{path}: records are read from {', '.join(readers)}, .tsv, .csv and {hub.PREFIX}")
    return readers[path.suffix](path)


def field(record: dict[str, Any], origin: str, name: str) -> Any:
    """The value of field `name`; raises `DataError` that names the fields there are."""
    if name not in record:
        raise DataError(f'{origin}: field "{name}" is missing; fields are {", ".join(map(str, record)) or "none"}')
    return record[name]


def text(record: dict[str, Any], origin: str, name: str) -> str:
    """The text in field `name`; raises `DataError` where it is missing, no string, or not encodable."""
    value = field(record, origin, name)
    if not isinstance(value, str):
        raise DataError(f'{origin}: field "{name}" is {json.dumps(value, default=str)[:40]}, not a string')
    return utf8.check(value, f'{origin}: field "{name}"')


def jsonl(path: Path) -> Iterator[Record]:
    """One JSON object a line; blank lines are no records."""
    for number, line in utf8.lines(path):
        if line.strip():
            origin = f"{path}:{number}"
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{origin}: not JSON ({error.msg} at column {error.colno})") from None
            yield origin, _object(value, origin)


def parquet(path: Path, column: str | None = None) -> Iterator[Record]:
    """The rows of a Parquet file in batches, all columns or the one named; the origin counts rows from 0."""
    import pyarrow
    import pyarrow.parquet

    with utf8.opened(path) as file:
        try:
            table = pyarrow.parquet.ParquetFile(file)
            if column is not None:
                field(dict.fromkeys(table.schema_arrow.names), str(path), column)
            number = 0
            for batch in table.iter_batches(1024, columns=None if column is None else [column]):
                for row in batch.to_pylist():
                    yield f"{path} row {number}", row
                    number += 1
        except pyarrow.ArrowException as error:
            raise DataError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None


def _json(path: Path) -> Iterator[Record]:
    try:
        values = json.loads("".join(line for _, line in utf8.lines(path)))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(values, list):
        raise DataError(f"{path}: holds {_kind(values)}, not a list of objects; use .jsonl for an object a line")
    for number, value in enumerate(values):
        yield f"{path}[{number}]", _object(value, f"{path}[{number}]")


def _table(path: Path, names: tuple[str, ...] | None) -> Iterator[Record]:
    for number, cells in _tsv_rows(path) if path.suffix == ".tsv" else _csv_rows(path):
        origin = f"{path}:{number}"
        if names is None:
            names = tuple(cells)
            if len(set(names)) < len(names):
                raise DataError(f"{origin}: the header names a column twice: {', '.join(names)}")
            continue
        if len(cells) != len(names):
            raise DataError(f"{origin}: {len(cells)} fields where there are {len(names)} columns: {', '.join(names)}")
        yield origin, dict(zip(names, cells, strict=True))


def _tsv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in utf8.lines(path):
        if line.strip():
            yield number, line.rstrip("\r\n").split("\t")


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((line for _, line in utf8.lines(path)), strict=True)
    while True:
        start = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}:{start}: not CSV ({error})") from None
        if row is None:
            return
        if row:
            yield start, row


def _object(value: Any, origin: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{origin}: holds {_kind(value)}, not an object of named fields")
    return value


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
