"""One self-contained HTML page about one or several runs: no script, font or picture comes from anywhere else."""

import base64
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from gptjax.config import ConfigError
from gptjax.report import curves, surprisal
from gptjax.report.headline import TRAINED, Figure, headline, number
from gptjax.report.record import Record, Row, flat, read

FIRST = ("nats_per_token", "bits_per_byte", "perplexity", "accuracy")
"""Judgements that come first, where a run has them."""


def write(runs: Sequence[Path], out: Path) -> None:
    """Write the page about these run folders, finished or not; a kill leaves the old page or the new one.

    Parts that no run has are absent. Raises `ConfigError` where a folder is no run or `out` is one, `FolderError` for
    damaged metrics.
    """
    if not runs:
        raise ConfigError("report: names no run; name one run folder or several")
    if out.is_dir():
        raise ConfigError(f"--out {out}: is a folder; name a file, such as {out / 'report.html'}")
    records = [read(run, name) for run, name in zip(runs, _names(runs), strict=True)]
    fields = [record.config for record in records]
    headlines = [headline(record) for record in records]
    text = template("page.html").render(
        records=records,
        headlines=headlines,
        judged=_order(headlines, trained=False),
        trained=_order(headlines, trained=True),
        charts=curves.charts(records),
        differing=grid(fields, differing=True) if len(records) > 1 else [],
        fields=grid(fields),
        environments=grid([flat(record.environment) for record in records]),
        surprisals=[_surprisal(record) for record in records],
    )
    replace_text(out, text)


def replace_text(out: Path, text: str) -> None:
    """Write a text file whole: a kill leaves the old one or the new one."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f"{out.name}.{os.getpid()}.tmp")  # others may be writing the same page
    temporary.write_text(text, encoding="utf-8", errors="replace")
    temporary.replace(out)


def template(name: str) -> jinja2.Template:
    """A template of this folder, autoescaping, so that what a model or a user wrote is text and never markup."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"cells": _cells, "decoding": _decoding, "data_uri": _data_uri}
    return environment.get_template(name)


def _names(runs: Sequence[Path]) -> list[str]:
    """The folders' own names, or their whole paths where those are not enough."""
    short = [run.resolve().name for run in runs]
    return short if len(set(short)) == len(short) else [str(run) for run in runs]


def _order(headlines: Sequence[dict[str, Figure]], trained: bool) -> list[str]:
    """Names of what any run has: what training says of itself, or what was judged."""
    names = {name for figures in headlines for name in figures}
    judged = [name for figures in headlines for name in figures if name not in TRAINED]
    return [name for name in dict.fromkeys(TRAINED if trained else (*FIRST, *judged)) if name in names]


def grid(columns: Sequence[dict[str, Any]], differing: bool = False) -> list[tuple[str, list[str]]]:
    """[(field, [value of each column])], of all fields or of those whose values differ."""
    absent = object()
    fields = dict.fromkeys(field for column in columns for field in column)
    rows = [(field, [column.get(field, absent) for column in columns]) for field in fields]
    return [
        (field, ["" if v is absent else _spelled(v) for v in values])
        for field, values in rows
        if not differing or any(value != values[0] for value in values)
    ]


def _spelled(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(str(v) for v in value)
    return "none" if value is None else str(value)


def _cells(table: Row) -> list[list[tuple[str, bool]]]:
    """The head and the rows of a table as (text, whether it stands on the right).

    The fractions of a column have the same number of decimals, so that they can be compared.
    """
    columns = [_column(column) for column in itertools.zip_longest(table["columns"], *table["rows"], fillvalue="")]
    return [list(row) for row in zip(*columns, strict=True)]


def _column(cells: Sequence[Any]) -> list[tuple[str, bool]]:
    head, *values = cells
    there = [value for value in values if value is not None]
    numeric = bool(there) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in there)
    largest = max((abs(value) for value in there if isinstance(value, float)), default=0.0)
    places = 0 if largest >= 1000 else 2 if largest >= 10 else 4
    texts = [
        f"{value:,.{places}f}" if isinstance(value, float) and largest >= 0.01 else number(value) for value in values
    ]
    return [(text, numeric) for text in (str(head), *texts)]


def _data_uri(svg: str) -> str:
    """An SVG as the source of an image, where no script in it can run."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _decoding(decoding: Any) -> str:
    if isinstance(decoding, dict):
        return ", ".join(f"{k} {_spelled(v)}" for k, v in decoding.items() if v is not None)
    return str(decoding or "")


def _surprisal(record: Record) -> Markup | None:
    tokens: list[Row] = record.surprisal
    return Markup(surprisal.to_html([t["text"] for t in tokens], [t["bits"] for t in tokens])) if tokens else None
