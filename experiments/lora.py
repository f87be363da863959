"""The whole way of an adapter: a GPT-2 folder, low-rank adapters on SST-2, and back to transformers.

Command      python experiments/lora.py --data SST-2 --out runs/lora
Cost         five minutes on one CPU core
Expected     accuracy on the development set 0.727 of the full fine-tuning, 0.670 of adapters of rank 8 (one seed, rates
             not tuned); trained 671,874 and 37,122 parameters (5.2% of all), optimizer 5,375,000 and 296,984 bytes,
             0.31 and 0.30 seconds an update; transformers predicts the same class for all 872 sentences, scores within
             2e-6
Data         SST-2 holds train.tsv and dev.tsv (Hugging Face: nyu-mll/glue, sst2)

A small GPT-2 is pretrained on the sentences of the training table and exported: from there on it is a Hugging Face
folder like any other. SST-2 is fine-tuned on it twice, all parameters and low-rank adapters (Hu et al., arXiv
2106.09685) of every matrix of its layers, on the same 6,400 examples in the same order. The adapters are merged and the
classifier is exported; where transformers is installed it reads the folder and must predict the same class for every
sentence of the development set. Here the adapters are merged before the model reads them, so an update costs what a
full one does; what they save is the optimizer's memory, and what has to be kept of each task.
"""

import argparse
import importlib.util
import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from gptjax import arguments, launch, trained
from gptjax.cli import default_cache, guarded, say
from gptjax.config import Checkpoints, Corpus, Data, Evaluation, ObjectiveConfig, Run
from gptjax.data.tokenizers import SentencePiece
from gptjax.evals import heldout
from gptjax.interop import classifier, peft
from gptjax.interop import folder as folders
from gptjax.models.gpt import GPT
from gptjax.objectives.causal import Causal
from gptjax.objectives.lora import Lora
from gptjax.objectives.tasks import Classification
from gptjax.train.folder import write_json
from gptjax.train.optim import AdamW, Muon
from gptjax.train.schedules import Linear
from gptjax.train.state import init_state
from gptjax.types import Place

MODEL = GPT(layers=2, width=128, heads=4, mlp_width=512, context=96)
TASK = Classification(segment_tokens=94, lm_weight=0.0)
ROWS: dict[str, tuple[ObjectiveConfig, float]] = {
    "full": (TASK, 1e-3),
    "lora": (Lora(of=TASK, rank=8, alpha=16.0, targets=("attn/(q|k|v|o)", "mlp/(up|down)")), 5e-3),
}
"""What is learnt, and its peak learning rate."""


def sentences(table: Path) -> list[str]:
    """The texts of a table, in its order."""
    lines = table.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    column = lines[0].split("\t").index("sentence")
    return [line.split("\t")[column] for line in lines[1:]]


def pretraining(text: Path) -> Run:
    """A small GPT-2 on the sentences, one a document."""
    return Run(
        model=MODEL,
        tokenizer=SentencePiece(vocab_size=2048),
        objective=Causal(),
        optimizer=Muon(learning_rate=0.02, adam_learning_rate=5e-3, beta1=0.8),
        schedule=Linear(warmup_steps=20),
        data=Data(corpora=(Corpus(str(text)),), validation_fraction=0.02),
        steps=250,
        batch_rows=32,
        evaluation=Evaluation(every_steps=250, max_tokens=20_000),
        checkpoints=Checkpoints(every_steps=250, keep_last=1),
    )


def tuning(name: str, folder: Path, data: Path) -> Run:
    """200 updates of 32 examples from a Hugging Face folder."""
    objective, rate = ROWS[name]
    run = Run(
        model=replace(MODEL, dropout=0.1),
        tokenizer=SentencePiece(),
        objective=objective,
        optimizer=AdamW(learning_rate=rate, beta2=0.999, weight_decay=0.01),
        schedule=Linear(warmup_steps=20),
        data=Data(corpora=(Corpus(str(data)),)),
        steps=200,
        batch_rows=32,
        init=str(folder),
        evaluation=Evaluation(every_steps=200, rows=64),
        checkpoints=Checkpoints(every_steps=200, keep_last=1),
    )
    return arguments.following_init(run, ["--init", str(folder)])


def scores(folder: Path, cache: Path) -> np.ndarray:
    """Scores of both classes for every sentence of the development set, [E, 2]."""
    found = trained.load(folder, say)
    run = found.run
    sources = run.objective.sources(run.data, found.tokenizer, found.model.context, run.seed, cache)
    predict = run.objective.predictor(found.model)
    assert predict is not None
    assert sources.validation is not None
    return heldout.predictions(predict, found.params, found.objective.batch, sources.validation, 64)


def theirs(folder: Path, texts: list[str]) -> np.ndarray | None:
    """The same scores as transformers computes them from a folder; None where it is not installed."""
    if not all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        return None
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        parts = [
            model(**tokenizer(texts[first : first + 64], padding=True, return_tensors="pt")).logits.numpy()
            for first in range(0, len(texts), 64)
        ]
    return np.concatenate(parts)


def figures(folder: Path) -> dict[str, float]:
    """What a run trained, what its optimizer holds, how long an update took, and its accuracy."""
    found = trained.stored(folder, say)
    run = found.run
    _, objective = trained.build(run, found.tokenizer, Place("cpu"))
    optimizer = run.optimizer.build(run.schedule.build(run.steps))
    state = jax.eval_shape(lambda key: init_state(run, objective, optimizer, key), jax.random.key(0))
    own, whole = (sum(x.size for x in jax.tree.leaves(tree)) for tree in (state.params, found.params))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "accuracy": next(row["accuracy"] for row in reversed(rows) if "split" in row),
        "trained_parameters": own,
        "trained_share": own / whole,
        "optimizer_bytes": sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state.opt_state)),
        "step_seconds": statistics.median(row["step_seconds"] for row in rows if row.get("step_seconds")),
    }


def compared(out: Path, data: Path, cache: Path) -> dict[str, float]:
    """How often transformers predicts another class than gptjax, and by how much the scores differ at most."""
    texts, here = sentences(data / "dev.tsv"), scores(out / "lora", cache)
    there = theirs(out / "classifier", texts)
    if there is None:
        say("transformers and torch are not installed: the predictions were not compared")
        return {}
    return {
        "sentences": len(texts),
        "predicted_otherwise": int(np.sum(here.argmax(1) != there.argmax(1))),
        "largest_difference": float(np.max(np.abs(here - there))),
    }


def main(data: Path, out: Path) -> None:
    """Pretrain, export, fine-tune twice, merge, export, compare; what is done is not done again."""
    cache, text = default_cache(), out / "sentences.txt"
    out.mkdir(parents=True, exist_ok=True)
    if not text.exists():
        text.write_text("\n".join(sentences(data / "train.tsv")) + "\n", encoding="utf-8")
    launch.launch(pretraining(text), out / "base", cache, say)
    if not (out / "folder").exists():
        folders.write(trained.load(out / "base", say), out / "folder", say)
    table = Table("row", "accuracy", "trained parameters", "share", "optimizer bytes", "seconds an update")
    found: dict[str, dict[str, float]] = {}
    for name in ROWS:
        launch.launch(tuning(name, out / "folder", data), out / name, cache, say)
        row = found[name] = figures(out / name)
        shown = f"{row['trained_parameters']:,}", f"{row['trained_share']:.1%}", f"{row['optimizer_bytes']:,}"
        table.add_row(name, f"{row['accuracy']:.3f}", *shown, f"{row['step_seconds']:.3f}")
    if not (out / "classifier").exists():
        classifier.write(trained.load(out / "lora", say), out / "classifier", say)
    if not (out / "adapter").exists():
        peft.write(trained.stored(out / "lora", say), out / "adapter", say)
    found["transformers"] = compared(out, data, cache)
    write_json(out / "lora.json", found)
    Console().print(table)
    for name, value in found["transformers"].items():
        print(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value:,}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.tsv and dev.tsv")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and folders")
    asked = parser.parse_args()
    sys.exit(guarded(lambda: main(asked.data, asked.out)))
