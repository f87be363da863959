"""The table of an experiment as one self-contained HTML page, with a picture of worth against time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from gptjax.report import page
from gptjax.report.picture import Level, Trace, picture
from gptjax.report.record import flat

Curves = Mapping[str, Sequence[Sequence[tuple[float, float]]]]
"""Row -> for each of its runs, (seconds in updates, metric) at every evaluation."""


def write(
    result: Mapping[str, Any],
    header: Sequence[str],
    cells: Sequence[Sequence[str]],
    footnotes: Sequence[str],
    curves: Curves,
    configs: Mapping[str, Any],
    out: Path,
) -> None:
    """Write `out`/report.html; `result` is what `table.json` holds, `configs` the rows' configurations as JSON."""
    fields = [flat(value) for value in configs.values()]
    text = page.template("ablation.html").render(
        result=result,
        header=header,
        cells=cells,
        footnotes=footnotes,
        picture=drawing(result, curves),
        names=list(configs),
        differing=page.grid(fields, differing=True) if len(fields) > 1 else [],
        fields=page.grid(fields),
    )
    page.replace_text(out / "report.html", text)


def drawing(result: Mapping[str, Any], curves: Curves) -> str | None:
    """The picture, as SVG: a line for every trained row, the mean over its runs; a level for every counted one."""
    means = {name: _mean(runs) for name, runs in curves.items()}
    traces = [Trace(name, points) for name, points in means.items() if any(x > 0 for x, _ in points)]
    levels = [Level(row["name"], row["mean"]) for row in result["rows"] if row["counted"] and row["mean"] is not None]
    if not traces:
        return None
    return picture("seconds of training", result["metric"].replace("_", " "), traces, levels)


def _mean(runs: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """The runs' evaluations in order, both coordinates averaged; as many as all runs have."""
    whole = [run for run in runs if run]
    return [(fmean(x for x, _ in points), fmean(y for _, y in points)) for points in zip(*whole, strict=False)]
