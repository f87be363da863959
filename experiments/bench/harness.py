"""The lm-evaluation-harness through this house's backend and its own for transformers: the same weights and tasks.

Command      taskset -c 0 python experiments/bench/harness.py --data DATA
             (pip install 'gptjax[harness]' torch transformers)
Cost         four minutes on one CPU core
Data         DATA holds gpt2-bpe/encoder.json and vocab.bpe (vocab.json and merges.txt of openai-community/gpt2), and
             what experiments/harness/local.py names
Expected     4 layers, 256 wide, the first 100 documents of each task (lm_eval 0.4.13, torch 2.15, jax 0.10.2):

    | task | requests | transformers, s (batch) | ours, first, s | ours, s | times as fast | largest difference |
    |---|---|---|---|---|---|---|
    | arc_easy, 0 shots | 399 | 9.3 (8) | 14.2 | 2.5 | 3.7 | 5.4e-07 |
    | arc_easy, 5 shots | 399 | 50.9 (8) | 28.6 | 5.1 | 10.0 | 5.3e-07 |
    | lambada, 0 shots | 100 | 6.3 (2) | 5.7 | 1.1 | 5.5 | 6.4e-07 |

             and the same accuracies. What compiling takes (in "first") grows with the lengths that there are, not with
             the documents: of short questions a hundred are too few to win it back.

The weights are drawn at random, five times as far from zero as GPT-2 starts, so that likelihoods differ widely. Both
sides answer the same requests by turns; seconds are those of `loglikelihood`, tokenization included. The first round of
ours compiles. The transformers side has the batch size that is best on the first documents.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from gptjax import trained
from gptjax.evals.continuations import TOKENS_AT_ONCE
from gptjax.evals.harness import Backend
from gptjax.interop import adopt

TASKS = (("arc_easy_local", 0), ("arc_easy_local", 5), ("lambada_local", 0))
"""(task, solved examples before each question)."""
BATCH_SIZES = (2, 8)
TRIAL = 6
"""Documents that the batch size is chosen on."""
MARK = 1e-3
"""Largest relative difference of a log-likelihood."""


class Round(NamedTuple):
    """One task through one backend."""

    seconds: float
    nats_R: np.ndarray
    metrics: dict[str, float]


def folder_of_gpt2(data: Path, folder: Path, layers: int, width: int) -> None:
    """Write a GPT-2 of this size, its weights drawn, with the published tokenizer."""
    folder.mkdir()
    shutil.copy(data / "gpt2-bpe/encoder.json", folder / "vocab.json")
    shutil.copy(data / "gpt2-bpe/vocab.bpe", folder / "merges.txt")
    transformers.GPT2TokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"n_layer": layers, "n_embd": width, "n_head": width // 64}
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, initializer_range=0.1)).save_pretrained(folder)


def ask(lm: Any, task: str, shots: int, documents: int, manager: TaskManager) -> Round:
    """What a task gives, and how long its log-likelihoods took."""
    seconds, plain = [], type(lm).loglikelihood

    def timed(requests: Any, **options: Any) -> Any:
        begun = time.perf_counter()
        found = plain(lm, requests, **options)
        seconds.append(time.perf_counter() - begun)
        return found

    lm.loglikelihood = timed
    found = simple_evaluate(
        lm, tasks=[task], num_fewshot=shots, limit=documents, task_manager=manager, bootstrap_iters=0
    )
    nats = [float(answer[0][0]) for sample in found["samples"][task] for answer in sample["resps"]]
    values = {name: value for name, value in found["results"][task].items() if name.endswith(",none")}
    metrics = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
    return Round(sum(seconds), np.array(nats), metrics)


def compared(
    ours: Backend, theirs: Callable[[int], HFLM], task: str, shots: int, asked: argparse.Namespace, manager: TaskManager
) -> dict[str, Any]:
    """A row of the table."""
    trials = {size: ask(theirs(size), task, shots, TRIAL, manager).seconds for size in BATCH_SIZES}
    size = min(trials, key=lambda size: trials[size])
    here, there = [], []
    for _ in range(asked.rounds):
        here.append(ask(ours, task, shots, asked.documents, manager))
        there.append(ask(theirs(size), task, shots, asked.documents, manager))
    largest = float(np.max(np.abs(here[0].nats_R / there[0].nats_R - 1)))
    accuracies = [{name: value for name, value in one[0].metrics.items() if "acc" in name} for one in (here, there)]
    least = min(one.seconds for one in there)
    return {
        "task": f"{task.removesuffix('_local')}, {shots} shots",
        "requests": len(here[0].nats_R),
        "transformers": least,
        "batch": size,
        "first": here[0].seconds,
        "again": min(one.seconds for one in here[1:]),
        "times": least / min(one.seconds for one in here[1:]),
        "difference": largest,
        "accuracy": accuracies[0],
        "same": accuracies[0] == accuracies[1],
    }


def main() -> None:
    """Print a Markdown table; exit code 1 where a row misses the mark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2, help="at least 2: the first of ours compiles")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    asked = parser.parse_args()
    os.environ |= {"GPTJAX_TASK_DATA": str(asked.data), "HF_HUB_OFFLINE": "1"}
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    transformers.logging.set_verbosity_error()
    manager = TaskManager(include_path=str(Path(__file__).parents[1] / "harness"), include_defaults=False)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "folder"
        folder_of_gpt2(asked.data, folder, asked.layers, asked.width)
        adopt.adopt(folder, Path(home) / "run", lambda line: None)
        found = trained.load(Path(home) / "run", lambda line: None)
        ours = Backend(found.model, found.params["model"], found.tokenizer, TOKENS_AT_ONCE, seed=0)
        weights = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

        def theirs(size: int) -> HFLM:
            return HFLM(pretrained=weights, tokenizer=tokenizer, device="cpu", batch_size=size)

        rows = []
        for task, shots in TASKS:
            rows.append(compared(ours, theirs, task, shots, asked, manager))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(
        "| task | requests | transformers, s (batch) | ours, first, s | ours, s | times as fast | largest difference |"
    )
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        theirs_shown = f"{row['transformers']:.1f} ({row['batch']})"
        print(
            f"| {row['task']} | {row['requests']} | {theirs_shown} | {row['first']:.1f} | {row['again']:.1f} "
            f"| {row['times']:.1f} | {row['difference']:.1e} |"
        )
    sys.exit(not all(row["same"] and row["difference"] <= MARK for row in rows))


if __name__ == "__main__":
    main()
