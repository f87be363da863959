"""What a checkpoint was worth in tasks, as tables for a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from gptjax.evals.bootstrap import LEVEL, Measured
from gptjax.report.headline import number


def to_terminal(task: str, examples: int, measures: Mapping[str, Measured], definitions: Mapping[str, str]) -> Table:
    """A row for each measure: its value, its interval, and in words what it is."""
    title, interval = f"{task}, {examples:,} examples", f"{LEVEL:.0%} interval"
    table = Table("measure", "value", interval, "what it is", title=Text(title), title_justify="left")
    for name, one in measures.items():
        between = "–" if one.low is None or one.high is None else f"{number(one.low)} to {number(one.high)}"
        table.add_row(name, number(one.value), between, definitions[name])
    return table


def of_harness(found: Mapping[str, Any]) -> Table:
    """What `gptjax.judging.harnessed.asked` gives: a row for each metric of each task."""
    said = f"{found['requests']:,} requests in {found['seconds']:.1f} seconds"
    table = Table("task", "examples", "metric", "value", "standard error", caption=said, caption_justify="left")
    for task in found["tasks"]:
        for name, one in ((name, one) for name, one in task.items() if name not in ("task", "examples")):
            error = "–" if one["stderr"] is None else f"± {number(one['stderr'])}"
            examples = "–" if task["examples"] is None else f"{task['examples']:,}"  # a group has none of its own
            table.add_row(Text(task["task"]), examples, name, number(one["value"]), error)
    return table
