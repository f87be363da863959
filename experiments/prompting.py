"""What a trained GPT does with examples in its prompt: k-shot classification, and copying what it has just read.

Command      python experiments/prompting.py RUN [--sst2 SST-2] [--json OUT]
Cost         two minutes on two CPU cores
Expected     little of a small model: a GPT of 1.4M parameters after 4.1M tokens of WikiText-2 answers SST-2 by chance
             (calibrated 0.47 without shots, 0.42 to 0.46 with 1 to 4, +- 0.012; bare 0.52 always, one word for all) and
             finds random tokens no easier the second time (12.4 and 12.5 nats): it has no in-context learning to show
Data         SST-2 holds train.tsv and dev.tsv (Hugging Face: nyu-mll/glue, sst2)

k-shot: "sentence It is great/terrible ." k times with the right word, drawn from the training set with each of several
seeds, then the sentence in question; the likelier word is the answer. Calibrated: each word's log-probability minus
what it has behind "It is" without a sentence, for a small model always prefers one of them.

Copying: random tokens, then the same tokens again and again; nats per token of each repetition. A model that learns in
its context finds the second one easier than the first.
"""

import argparse
import csv
import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from gptjax import trained
from gptjax.cli import guarded, say
from gptjax.data.errors import DataError
from gptjax.evals.choice import Question, continuation_nats

WORDS = (" terrible", " great")
"""The answers, in the order of the labels 0 and 1."""
SHOTS = (0, 1, 2, 4)
SEEDS = 5
REPEATS = 4


def examples(path: Path) -> list[tuple[str, int]]:
    """(sentence, label) of every line of a GLUE table."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows or not {"sentence", "label"} <= rows[0].keys():
        raise DataError(f"{path}: has no columns sentence and label; name the folder of SST-2")
    return [(row["sentence"].strip(), int(row["label"])) for row in rows]


def question(found: trained.Trained, shots: list[tuple[str, int]], sentence: str, label: int) -> Question:
    """The shots, the sentence, and both answers behind it."""
    told = "".join(f"{text} It is{WORDS[answer]} .\n" for text, answer in shots)
    ids = [np.array(found.tokenizer.encode(word), np.int32) for word in WORDS]
    prompt = np.array(found.tokenizer.encode(f"{told}{sentence} It is"), np.int32)
    return Question(prompt, (ids[0], ids[1]), (len(WORDS[0]), len(WORDS[1])), label)


def k_shot(found: trained.Trained, folder: Path, asked: int) -> list[dict[str, Any]]:
    """Accuracy by number of shots: mean and standard error over draws of the shots."""
    train, dev = examples(folder / "train.tsv"), examples(folder / "dev.tsv")[:asked]
    rows = []
    for shots in SHOTS:
        scores, bare = [], []
        for seed in range(SEEDS if shots else 1):
            rng = np.random.default_rng(seed)
            chosen = [train[i] for i in rng.choice(len(train), shots, replace=False)]
            questions = [question(found, chosen, *pair) for pair in dev]
            empty = question(found, chosen, "", 0)
            nats = np.array(continuation_nats(found.model, found.params["model"], [empty, *questions], rows=32))
            labels = np.array([label for _, label in dev])
            scores.append(float(np.mean((nats[1:] - nats[0]).argmin(1) == labels)))
            bare.append(float(np.mean(nats[1:].argmin(1) == labels)))
        error = statistics.stdev(scores) / math.sqrt(len(scores)) if len(scores) > 1 else None
        rows.append(
            {
                "shots": shots,
                "calibrated": statistics.fmean(scores),
                "standard_error": error,
                "bare": statistics.fmean(bare),
            }
        )
    return rows


def copying(found: trained.Trained, sequences: int = 64) -> list[dict[str, float]]:
    """Nats per token of each repetition of random tokens."""
    length = found.model.context // REPEATS
    rng = np.random.default_rng(0)
    once = rng.integers(0, found.tokenizer.vocab_size, (sequences, length)).astype(np.int32)
    rows = []
    for repeat in range(REPEATS):
        asked = [
            Question(
                np.tile(text, repeat)[-found.model.context + length :] if repeat else text[:1],
                (text[repeat == 0 :], text[repeat == 0 :]),
                (1, 1),
                0,
            )
            for text in once
        ]
        nats = [float(n[0]) for n in continuation_nats(found.model, found.params["model"], asked, rows=32)]
        rows.append(
            {"repetition": repeat + 1, "nats_per_token": sum(nats) / sum(len(q.continuations[0]) for q in asked)}
        )
    return rows


def main(run: Path, sst2: Path | None, asked: int, out: Path | None) -> None:
    """Both tables."""
    found = trained.load(run, say)
    tables: dict[str, list[dict[str, Any]]] = {"copying": copying(found)}
    if sst2 is not None:
        tables["k_shot"] = k_shot(found, sst2, asked)
    for name, rows in tables.items():
        shown = Table(*rows[0], title=name)
        for row in rows:
            shown.add_row(*("–" if v is None else f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))
        Console().print(shown)
    if out is not None:
        out.write_text(json.dumps(tables, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--sst2", type=Path)
    parser.add_argument("--examples", type=int, default=400, help="of the development set, from its start")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    sys.exit(guarded(lambda: main(asked.run, asked.sst2, asked.examples, asked.json)))
