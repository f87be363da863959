"""GPT-1's fine-tuning of a run or a Hugging Face folder on four GLUE tasks, its published scores beside ours.

Command      python experiments/glue.py --init RUN_OR_FOLDER --glue glue --out runs/glue [--tasks cola rte stsb]
             [--learning-rate 6.25e-5] [--most-steps N]
Cost         with the published 3 epochs: RTE 233 updates of 32 examples, STS-B 538, CoLA 801, SST-2 6,313
Expected     from a folder of Llama's shape with 1.4M parameters and 4.1M tokens of WikiText-2 behind it: RTE 55.2, CoLA
             0.0, STS-B 16.5; SST-2, by --most-steps 2000, 71.2. The published rate is far too low for so small a model:
             CoLA's answers are all of one class. At 1e-3 RTE had 53.4 and CoLA 2.9. SST-2 whole, ten minutes of two
             cores, from the GPT-2 folder of 0.67M parameters that lora.py makes of SST-2's own sentences: 78.1
Data         a folder with SST-2, CoLA, RTE and STS-B, each with train.tsv and dev.tsv (Hugging Face: nyu-mll/glue)

The hyper-parameters are GPT-1's (Radford et al. 2018, section 4.1; see finetune.py), auxiliary loss included. The
published scores are of 117M parameters after BooksCorpus, on the test sets; ours are on the development sets. A
learning rate or fewer updates than published are said in the table's title.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import finetune
from bert import judged
from rich.console import Console
from rich.table import Table

from gptjax import arguments, launch
from gptjax.cli import default_cache, guarded, say
from gptjax.config import Checkpoints, Corpus, Data, Evaluation, Run
from gptjax.train.folder import write_json
from gptjax.train.optim import AdamW
from gptjax.train.schedules import Linear

PUBLISHED = {"sst2": 91.3, "cola": 45.4, "rte": 56.0, "stsb": 82.0}
"""Radford et al. 2018, tables 2 to 4."""
METRICS = {"sst2": "accuracy", "cola": "matthews", "rte": "accuracy", "stsb": "pearson"}
FOLDERS = {"sst2": "SST-2", "cola": "CoLA", "rte": "RTE", "stsb": "STS-B"}
TARGETS = {"sst2": finetune.sst2, "cola": finetune.cola, "rte": finetune.rte, "stsb": finetune.stsb}


def tuned(name: str, init: Path, glue: Path, learning_rate: float, most_steps: int | None) -> Run:
    """GPT-1's recipe for a task, of what `init` holds."""
    run = arguments.following_init(TARGETS[name](), ["--init", str(init)])
    steps = run.steps if most_steps is None else min(run.steps, most_steps)
    assert isinstance(run.optimizer, AdamW)
    return replace(
        run,
        init=str(init),
        data=Data(corpora=(Corpus(str(glue / FOLDERS[name])),)),
        optimizer=replace(run.optimizer, learning_rate=learning_rate),
        schedule=Linear(warmup_steps=round(0.002 * steps)),
        steps=steps,
        evaluation=Evaluation(every_steps=steps),
        checkpoints=Checkpoints(every_steps=steps, keep_last=1),
    )


def main(init: Path, glue: Path, out: Path, tasks: Sequence[str], learning_rate: float, most_steps: int | None) -> None:
    """Fine-tune on each task, print one table; what is done is not done again."""
    cut = "" if most_steps is None else f", at most {most_steps} updates"
    title = f"GPT-1's recipe, learning rate {learning_rate:g}{cut}"
    table = Table("task", "metric", "updates", "ours, x 100", "GPT-1 published", title=title)
    found: dict[str, Any] = {}
    for name in tasks:
        run = tuned(name, init, glue, learning_rate, most_steps)
        launch.launch(run, out / name, default_cache(), say)
        value = judged(out / name)[METRICS[name]]
        found[name] = {"metric": METRICS[name], "updates": run.steps, "ours": 100 * value, "published": PUBLISHED[name]}
        table.add_row(name, METRICS[name], f"{run.steps:,}", f"{100 * value:.1f}", f"{PUBLISHED[name]:.1f}")
    write_json(out / "glue.json", found)
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--init", "--glue", "--out"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--tasks", nargs="*", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--learning-rate", type=float, default=6.25e-5)
    parser.add_argument("--most-steps", type=int)
    asked = parser.parse_args()
    options = asked.tasks, asked.learning_rate, asked.most_steps
    sys.exit(guarded(lambda: main(asked.init, asked.glue, asked.out, *options)))
