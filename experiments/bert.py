"""BERT beside GPT, each pretrained and from scratch: the same text, tokens read, size and fine-tuning.

Command      python experiments/bert.py --wikitext wikitext-2 --sst2 SST-2 --out runs/bert [--seeds 3]
Cost         about half an hour on one CPU core for three seeds; what is done is not done again
Expected     accuracy on all of the development set, mean of three seeds and its standard error: BERT 0.701 +- 0.013
             pretrained, 0.665 +- 0.009 from scratch; GPT 0.722 +- 0.005 pretrained, 0.677 +- 0.016 from scratch.
             BERT finds 0.41 of the hidden tokens of the validation text (its first 50,000), 3.6 nats each
Data         wikitext-2 holds train.txt and valid.txt (Hugging Face: Salesforce/wikitext, wikitext-2-v1), SST-2 holds
             train.tsv and dev.tsv (nyu-mll/glue, sst2)

Pretraining is on WikiText-2 in lower case, as SST-2 is, 4.1M tokens for each model. Fine-tuning is short (6,400 of
67,349 examples) and the same in every row: examples, order, updates, and a head on the mean of all tokens' vectors,
without GPT-1's auxiliary loss, which BERT cannot have. The learning rate is tuned for every row by itself: the best
of `RATES` with seed 0, which is then left out of the table. (Pretrained and untrained, BERT chose 2e-3 and the GPT
5e-3, the highest there is to choose.) BERT asks no next-sentence question here: all texts of SST-2 are single.
"""

import argparse
import json
import math
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

from finetune import sst2
from rich.console import Console
from rich.table import Table

from gptjax import launch
from gptjax.cli import default_cache, guarded, say
from gptjax.config import Checkpoints, Corpus, Data, Evaluation, Run
from gptjax.data.tokenizers import SentencePiece
from gptjax.models.bert import Bert
from gptjax.models.gpt import GPT
from gptjax.objectives.causal import Causal
from gptjax.objectives.masked import Masked
from gptjax.objectives.tasks import Classification
from gptjax.train.folder import write_json
from gptjax.train.optim import AdamW, Muon
from gptjax.train.schedules import Linear

WIDTH, CONTEXT = 128, 64
BERT = Bert(layers=2, width=WIDTH, heads=4, mlp_width=512, context=CONTEXT, dropout=0.0, init_std=WIDTH**-0.5)
GPT_ = GPT(
    layers=2, width=WIDTH, heads=4, mlp_width=512, context=CONTEXT, positions="rotary", norm="rms", mlp="relu2",
    bias=False, qk_norm=True, embed_norm=True, init_std=WIDTH**-0.5, residual_init="zero",
)  # fmt: skip
MODELS: dict[str, Bert | GPT] = {"bert": BERT, "gpt": GPT_}
TOKENIZER = SentencePiece(vocab_size=4096)


def lower_cased(wikitext: Path, folder: Path) -> Path:
    """WikiText-2 in lower case, as SST-2 is."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train.txt", "valid.txt"):
        text = (wikitext / name).read_text(encoding="utf-8").lower()
        if not (folder / name).exists():
            (folder / name).write_text(text, encoding="utf-8")
    return folder


def bert(text: Path) -> Run:
    """BERT on hidden tokens of `text`."""
    return Run(
        model=BERT,
        tokenizer=TOKENIZER,
        objective=Masked(next_sentence_weight=0.0),
        optimizer=Muon(learning_rate=0.02, adam_learning_rate=5e-3, beta1=0.8),
        schedule=Linear(warmup_steps=20),
        data=Data(corpora=(Corpus(str(text / "train.txt")),), validation=str(text / "valid.txt")),
        steps=1000,
        batch_rows=64,
        evaluation=Evaluation(every_steps=500, max_tokens=50_000),
        checkpoints=Checkpoints(every_steps=250),
    )


def gpt(text: Path) -> Run:
    """GPT on the next token of the same text, as many tokens, the same update rule."""
    return replace(bert(text), model=GPT_, objective=Causal())


STARTS: dict[str, Literal["all", "none"]] = {"pretrained": "all", "from scratch": "none"}
RATES = (2e-3, 5e-3)
"""Peak learning rates of fine-tuning to choose from."""


def tuned(pretrained: Path, sst2_folder: Path, model: Bert | GPT, start: str, rate: float, seed: int) -> Run:
    """Fine-tuning on SST-2 from a run of the model: 200 updates of 32 examples."""
    return replace(
        sst2(),
        model=replace(model, dropout=0.1),
        tokenizer=TOKENIZER,
        objective=Classification(segment_tokens=54, pool="mean", lm_weight=0.0),
        optimizer=AdamW(learning_rate=rate, beta2=0.999, weight_decay=0.01, decay="all_but_gains"),
        schedule=Linear(warmup_steps=20),
        data=Data(corpora=(Corpus(str(sst2_folder)),)),
        steps=200,
        seed=seed,
        init=str(pretrained),
        transfer=STARTS[start],
        evaluation=Evaluation(every_steps=200, rows=64),
        checkpoints=Checkpoints(every_steps=200, keep_last=1),
    )


def judged(run: Path) -> dict[str, float]:
    """The last evaluation."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if '"split"' in line][-1]


def main(wikitext: Path, sst2_folder: Path, out: Path, seeds: int) -> None:
    """Pretrain both, tune and fine-tune every row, print one table."""
    cache, text = default_cache(), lower_cased(wikitext, out / "text")
    pretraining = {"bert": bert(text), "gpt": gpt(text)}
    for name, run in pretraining.items():
        launch.launch(run, out / name, cache, say)
    hidden = judged(out / "bert")
    title = f"hidden tokens of WikiText-2 found: {hidden['masked_accuracy']:.3f}, {hidden['masked_nats']:.2f} nats"

    def score(name: str, start: str, rate: float, seed: int) -> float:
        folder = out / f"{name}-{start.replace(' ', '_')}-{rate}-{seed}"
        run = tuned(out / name, sst2_folder, MODELS[name], start, rate, seed)
        launch.launch(run, folder, cache, say)
        return judged(folder)["accuracy"]

    table = Table("row", "rate", "SST-2 accuracy, mean", "standard error", "each seed", title=title)
    found = {}
    for name in pretraining:
        for start in STARTS:
            rate = max(RATES, key=lambda rate: score(name, start, rate, 0))
            scores = [score(name, start, rate, seed) for seed in range(1, seeds + 1)]
            mean, error = statistics.fmean(scores), statistics.stdev(scores) / math.sqrt(seeds)
            found[f"{name}, {start}"] = {"learning_rate": rate, "accuracy": scores}
            table.add_row(
                f"{name}, {start}", f"{rate:g}", f"{mean:.3f}", f"{error:.3f}", " ".join(f"{s:.3f}" for s in scores)
            )
    write_json(out / "table.json", found)
    Console().print(table)


def command_line(head: str | None, seeds: int) -> argparse.Namespace:
    """What an experiment on SST-2 is asked for: wikitext, sst2, out, and so many seeds unless it says otherwise."""
    parser = argparse.ArgumentParser(description=head, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wikitext", type=Path, required=True, help="folder with train.txt and valid.txt")
    parser.add_argument("--sst2", type=Path, required=True, help="folder with train.tsv and dev.tsv")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and their table")
    parser.add_argument("--seeds", type=int, default=seeds, help="fine-tunings of each row, 2 at least")
    asked = parser.parse_args()
    if asked.seeds < 2:
        parser.error(f"--seeds {asked.seeds}: two at least, for a standard error")
    return asked


if __name__ == "__main__":
    asked = command_line(__doc__, seeds=3)
    sys.exit(guarded(lambda: main(asked.wikitext, asked.sst2, asked.out, asked.seeds)))
