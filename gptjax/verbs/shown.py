"""What the verbs print for a person."""

import sys
from collections.abc import Mapping

from rich.table import Table


def say(line: str) -> None:
    """One line for a person; stdout is for results."""
    print(f"gptjax: {line}", file=sys.stderr, flush=True)


def results(values: Mapping[str, float]) -> Table:
    """Named numbers as a table."""
    table = Table(show_header=False)
    for name, value in values.items():
        table.add_row(name, f"{value:,.4f}" if isinstance(value, float) else f"{value:,}")
    return table
