"""The command line of a benchmark: how often it measures, and where its results go."""

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def options(about: str, rounds: int) -> argparse.ArgumentParser:
    """What every benchmark takes: --rounds and --json."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    return parser


def tell(found: Any, table: Callable[[Any], str], out: Path | None) -> None:
    """Print the results as a table, and write them where asked to."""
    if out is not None:
        out.write_text(json.dumps(found, indent=2) + "\n")
    print(table(found))


def one_case(
    about: str, cases: Iterable[str], measure: Callable[[str, int], Any], table: Callable[[Any], str], rounds: int
) -> None:
    """The whole command of a script that measures one of its cases by `measure(case, rounds)`."""
    parser = options(about, rounds)
    parser.add_argument("case", choices=cases)
    asked = parser.parse_args()
    tell(measure(asked.case, asked.rounds), table, asked.json)
