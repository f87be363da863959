"""What a checkpoint was worth in one task, as a table for a terminal."""

from collections.abc import Mapping

from rich.table import Table

from gptjax.evals.bootstrap import LEVEL, Measured
from gptjax.report.headline import number


def to_terminal(task: str, examples: int, measures: Mapping[str, Measured], definitions: Mapping[str, str]) -> Table:
    """A row for each measure: its value, its interval, and in words what it is."""
    title, interval = f"{task}, {examples:,} examples", f"{LEVEL:g}% interval"
    table = Table("measure", "value", interval, "what it is", title=title, title_justify="left")
    for name, one in measures.items():
        between = "–" if one.low is None or one.high is None else f"{number(one.low)} to {number(one.high)}"
        table.add_row(name, number(one.value), between, definitions[name])
    return table
