"""How the next token is chosen, and what becomes of the text: greedy, beam search, and the ways to draw.

Command      python experiments/decoding.py RUN --data held-out.txt [--json OUT]
Cost         a minute on two CPU cores
Expected     the likeliest text is not like text: greedy and beam search are far below the held-out text in nats per
             token and repeat themselves; pure sampling is above it; temperature 0.7, top-k and top-p lie between
             (Holtzman et al. 2020, "The curious case of neural text degeneration")

Prompts are the beginnings of pieces of the held-out text. Of every continuation the table has the model's own nats per
token, the share of its 4-token sequences that occurred in it before, and its distinct tokens; the last row is what the
text itself goes on with.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from gptjax import trained
from gptjax.cli import default_cache, guarded, say
from gptjax.data.errors import DataError
from gptjax.evals.choice import Question, continuation_nats
from gptjax.infer import beam
from gptjax.infer.beam import Beam
from gptjax.infer.sample import Decoding, generate
from gptjax.judging import judge

WAYS: dict[str, Decoding | Beam] = {
    "greedy": Decoding(temperature=0.0),
    "beam 4": Beam(beams=4),
    "temperature 0.7": Decoding(temperature=0.7),
    "top-k 10": Decoding(top_k=10),
    "top-p 0.9": Decoding(top_p=0.9),
    "pure": Decoding(),
}
REPEATED = 4
"""Tokens of a sequence that counts as repeated."""


def continuations(found: trained.Trained, prompts: list[np.ndarray], new: int, way: Decoding | Beam) -> list[Any]:
    """New tokens of every prompt, exactly `new` of them: no end of text is recognised."""
    params = found.params["model"]
    if isinstance(way, Beam):
        return [best[0].tokens for best in beam.continuations(found.model, params, prompts, new, way)]
    return generate(found.model, params, prompts, new, way, jax.random.key(0))


def measured(found: trained.Trained, prompts: list[np.ndarray], texts: list[np.ndarray]) -> dict[str, float]:
    """nats per token under the model, repeated share, distinct share."""
    asked = [Question(p, (t, t), (1, 1), 0) for p, t in zip(prompts, texts, strict=True)]
    nats = [float(n[0]) for n in continuation_nats(found.model, found.params["model"], asked, rows=32)]
    return {
        "nats_per_token": sum(nats) / sum(map(len, texts)),
        "repeated": float(np.mean([repeated(text) for text in texts])),
        "distinct": float(np.mean([len(set(text.tolist())) / len(text) for text in texts])),
    }


def repeated(text: np.ndarray) -> float:
    """Share of the sequences of `REPEATED` tokens that are in the text before."""
    grams = [tuple(text[i : i + REPEATED].tolist()) for i in range(len(text) - REPEATED + 1)]
    return 1 - len(set(grams)) / len(grams)


def main(run: Path, data: str, prompts: int, cache: Path, out: Path | None) -> None:
    """All ways to choose on the same prompts, as a table."""
    found = trained.load(run, say)
    half = found.model.context // 2
    tokens = np.asarray(judge.text(data, found, cache).tokens)
    if len(tokens) < prompts * 2 * half:
        raise DataError(f"--data {data}: has {len(tokens):,} tokens; {prompts} prompts need {prompts * 2 * half:,}")
    pieces = [
        tokens[i : i + 2 * half].astype(np.int32) for i in np.linspace(0, len(tokens) - 2 * half, prompts, dtype=int)
    ]
    given, own = [p[:half] for p in pieces], [p[half:] for p in pieces]
    rows = {name: measured(found, given, continuations(found, given, half, way)) for name, way in WAYS.items()}
    rows["the text itself"] = measured(found, given, own)
    table = Table("way", "nats per token", "repeated", "distinct", title=f"{prompts} prompts, {half} new tokens each")
    for name, row in rows.items():
        table.add_row(name, *(f"{value:.3f}" for value in row.values()))
    Console().print(table)
    if out is not None:
        out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", required=True, help="held-out text")
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    sys.exit(guarded(lambda: main(asked.run, asked.data, asked.prompts, asked.cache, asked.json)))
