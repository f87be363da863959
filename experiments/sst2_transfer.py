"""Does pretraining help? SST-2 from a GPT pretrained on WikiText-2, and from the same GPT untrained.

Command      python experiments/sst2_transfer.py --wikitext wikitext-2 --sst2 SST-2 --out runs/transfer [--seeds 3]
Cost         under 30 minutes on two CPU cores for three seeds
Expected     at this size and budget no difference yet: accuracy on all of the development set, mean of three seeds,
             0.677 pretrained (0.639 0.695 0.696) and 0.677 from scratch (0.697 0.655 0.679); GPT-1's own gain from
             pretraining is 7.3 points
Data         wikitext-2 holds train.txt and valid.txt (Hugging Face: Salesforce/wikitext, wikitext-2-v1), SST-2 holds
             train.tsv and dev.tsv (nyu-mll/glue, sst2)

All rows get the same fine-tuning: examples, order, updates, learning rate; only what they start from and the weight of
the auxiliary language-model loss differ. The fine-tuning is short (4,800 of 67,349 examples).
"""

import argparse
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

from finetune import sst2
from rich.console import Console
from rich.table import Table

from gptjax import launch
from gptjax.cli import default_cache, guarded, say
from gptjax.config import Checkpoints, Corpus, Data, Evaluation, Run
from gptjax.data.tokenizers import SentencePiece
from gptjax.models.gpt import GPT
from gptjax.objectives.causal import Causal
from gptjax.objectives.tasks import Classification
from gptjax.train.folder import write_json
from gptjax.train.optim import AdamW, Muon
from gptjax.train.schedules import Linear

MODEL = GPT(
    layers=4, width=192, heads=4, mlp_width=768, context=128, positions="rotary", norm="rms", mlp="relu2",
    bias=False, qk_norm=True, embed_norm=True, tied=False, init_std=192**-0.5, residual_init="zero",
)  # fmt: skip
TOKENIZER = SentencePiece(vocab_size=4096)


def pretrain(wikitext: Path) -> Run:
    """A small GPT on WikiText-2's training text."""
    return Run(
        model=MODEL,
        tokenizer=TOKENIZER,
        objective=Causal(),
        optimizer=Muon(learning_rate=0.02, adam_learning_rate=1e-2, embedding_learning_rate=2e-2, beta1=0.8),
        schedule=Linear(),
        data=Data(corpora=(Corpus(str(wikitext / "train.txt")),), validation=str(wikitext / "valid.txt")),
        steps=700,
        batch_rows=32,
        evaluation=Evaluation(every_steps=350, max_tokens=50_000),
        checkpoints=Checkpoints(every_steps=100),
    )


def rows(wikitext: Path, sst2_folder: Path, pretrained: Path) -> dict[str, Run]:
    """The table's rows: one thing differs at a time."""
    task = sst2()
    objective = Classification(segment_tokens=48)
    base = replace(
        task,
        model=replace(MODEL, dropout=0.1),
        tokenizer=TOKENIZER,
        objective=objective,
        optimizer=AdamW(learning_rate=3e-3, beta2=0.999, weight_decay=0.01, decay="all_but_gains"),
        schedule=Linear(warmup_steps=20),
        data=Data(corpora=(Corpus(str(sst2_folder)),)),
        steps=150,
        init=str(pretrained),
        evaluation=Evaluation(every_steps=150, rows=64),
        checkpoints=Checkpoints(every_steps=150, keep_last=1),
    )
    alone = replace(objective, lm_weight=0.0)
    return {
        "pretrained": base,
        "from scratch": replace(base, transfer="none"),
        "pretrained, no auxiliary loss": replace(base, objective=alone),
    }


def accuracy(run: Path) -> float:
    """Of the last evaluation, all of the development set."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["accuracy"] for line in lines if '"split"' in line][-1]


def main(wikitext: Path, sst2_folder: Path, out: Path, seeds: int) -> None:
    """Pretrain once, fine-tune every row with every seed, print one table; what is done is not done again."""
    cache = default_cache()
    launch.launch(pretrain(wikitext), out / "pretrained", cache, say)
    table = Table("row", "accuracy, mean over seeds", "standard error", "each seed", title="SST-2 development set")
    found = {}
    for name, run in rows(wikitext, sst2_folder, out / "pretrained").items():
        scores = []
        for seed in range(seeds):
            folder = out / f"{name.replace(', ', '-').replace(' ', '_')}-{seed}"
            launch.launch(replace(run, seed=seed), folder, cache, say)
            scores.append(accuracy(folder))
        mean = sum(scores) / seeds
        error = math.sqrt(sum((s - mean) ** 2 for s in scores) / max(1, seeds - 1) / seeds)
        found[name] = scores
        table.add_row(name, f"{mean:.3f}", f"{error:.3f}", " ".join(f"{s:.3f}" for s in scores))
    write_json(out / "table.json", found)
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wikitext", type=Path, required=True, help="folder with train.txt and valid.txt")
    parser.add_argument("--sst2", type=Path, required=True, help="folder with train.tsv and dev.tsv")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and table.json")
    parser.add_argument("--seeds", type=int, default=3, help="fine-tunings of each row")
    asked = parser.parse_args()
    sys.exit(guarded(lambda: main(asked.wikitext, asked.sst2, asked.out, asked.seeds)))
