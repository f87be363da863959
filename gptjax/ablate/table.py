"""The table of an experiment, for a person: in Markdown, and on a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

COLUMNS = ("row", "{metric}", "difference to {base}", "parameters", "tokens", "FLOPs", "seconds", "runs")


def header(result: Mapping[str, Any]) -> list[str]:
    """Names of the columns."""
    return [column.format(metric=result["metric"].replace("_", " "), base=result["base"]) for column in COLUMNS]


def cells(result: Mapping[str, Any]) -> list[list[str]]:
    """The table's rows as text; a dash where there is nothing yet."""
    return [_cells(row, result["base"], result["seeds"]) for row in result["rows"]]


def _cells(row: Mapping[str, Any], base: str, seeds: int) -> list[str]:
    value = _number(row["mean"], 4)
    if row["standard_error"] is not None:
        value += f" ± {row['standard_error']:.4f}"
    runs = "counted" if row["counted"] and row["runs"] else f"{row['runs']} of {seeds}"
    if row["failures"]:
        runs += f", {len(row['failures'])} gave up"
    return [
        row["name"],
        value,
        "base" if row["name"] == base else _difference(row["difference"], seeds),
        _count(row["parameters"]),
        _count(row["tokens"]),
        "–" if row["flops"] is None else f"{row['flops']:.2e}",
        _number(row["seconds"], 1),
        runs,
    ]


def _difference(difference: Mapping[str, Any] | None, seeds: int) -> str:
    if difference is None:
        return "–"
    interval = "" if difference["low"] is None else f" [{difference['low']:+.4f}, {difference['high']:+.4f}]"
    pairs = "" if difference["pairs"] == seeds else f" of {difference['pairs']}"
    return f"{difference['mean']:+.4f}{interval}{pairs}"


def _number(value: float | None, places: int) -> str:
    return "–" if value is None else f"{value:.{places}f}"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def footnotes(result: Mapping[str, Any]) -> list[str]:
    """What must be known to read the table."""
    seeds = result["seeds"]
    lines = [
        f"mean ± standard error over seeds; differences are paired by seed, with their {result['level']:.0%} interval "
        "(Student's t); seconds are those of updates alone",
        f"budget of every row: {result['budget']}",
    ]
    if seeds < 2:
        lines.append("one seed says nothing of the noise: run at least two, with --seeds")
    others = [row["name"] for row in result["rows"] if row["same_batches"] is False]
    if others:
        lines.append(f"rows that read other batches than {result['base']}: {', '.join(others)}")
    lines += [f"{row['name']}: {why}" for row in result["rows"] for why in row["failures"]]
    return lines


def markdown(result: Mapping[str, Any]) -> str:
    """The table with its footnotes."""
    head = header(result)
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in cells(result)]
    return "\n".join([*lines, "", *(f"- {line}" for line in footnotes(result))]) + "\n"


def terminal(result: Mapping[str, Any]) -> Table:
    """The same for `rich`."""
    table = Table(title=str(result["experiment"]), caption="\n".join(footnotes(result)))
    for number, name in enumerate(header(result)):
        table.add_column(name, justify="left" if number == 0 else "right")
    for row in cells(result):
        table.add_row(*row)
    return table
