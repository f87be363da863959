"""The command line of a benchmark: how often it measures, and where its results go; to be read before devices are."""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def options(about: str, rounds: int) -> argparse.ArgumentParser:
    """What every benchmark takes: --rounds, --json. JAX leaves what it does not need of a GPU's memory to the peer."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    return parser


def tell(found: Any, table: Callable[[Any], str], out: Path | None) -> None:
    """Print the results as a table, and write them where asked to."""
    if out is not None:
        out.write_text(json.dumps(found, indent=2) + "\n")
    print(table(found))
