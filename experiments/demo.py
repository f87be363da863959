"""The whole main job in ten minutes: text in; a pretrained, fine-tuned, evaluated GPT out.

Command      make demo
Cost         about 9 minutes on two CPU cores (9:03 measured, and 40 seconds of installation before it)
Expected     bits per byte on held-out modules of the standard library: GPT below the Kneser-Ney n-gram; the right
             docstring of four found more often after fine-tuning than before, and far more often than by chance (25%)

The text is the standard library's own source, which every Python installation carries.
"""

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import docstrings
import numpy as np
from rich.console import Console
from rich.table import Table

from gptjax import launch, trained
from gptjax.cli import default_cache, guarded, say
from gptjax.config import Checkpoints, Corpus, Data, Evaluation, Run
from gptjax.data import store
from gptjax.data.tokenizers import SentencePiece
from gptjax.evals import choice
from gptjax.infer.sample import Decoding
from gptjax.judging import judge
from gptjax.models import ngram
from gptjax.models.gpt import GPT
from gptjax.objectives.causal import Causal
from gptjax.objectives.sft import SFT
from gptjax.report import page
from gptjax.train.folder import write_json
from gptjax.train.optim import Muon
from gptjax.train.schedules import Linear

NGRAM_ORDER = 6
PROMPT = "def read_lines(path, encoding=None):\n"


def pretrain() -> Run:
    """A GPT of today's kind on the standard library's source."""
    return Run(
        model=GPT(
            layers=3, width=192, heads=4, mlp_width=768, context=256, positions="rotary", norm="rms", mlp="relu2",
            bias=False, qk_norm=True, embed_norm=True, conv_tokens=3, tied=False, init_std=192**-0.5,
            residual_init="zero",
        ),
        tokenizer=SentencePiece(vocab_size=2048),
        objective=Causal(),
        optimizer=Muon(learning_rate=0.02, adam_learning_rate=1e-2, embedding_learning_rate=2e-2, beta1=0.8),
        schedule=Linear(),
        data=Data(split="document"),
        steps=2000,
        batch_rows=4,
        log_every_steps=20,
        evaluation=Evaluation(every_steps=1000, stride=128, max_tokens=50_000),
        checkpoints=Checkpoints(every_steps=500),
    )  # fmt: skip


def finetune(init: Path, train: Path, validation: Path) -> Run:
    """Function in, first line of its docstring out."""
    base = pretrain()
    return Run(
        model=base.model,
        tokenizer=base.tokenizer,
        objective=SFT(),
        optimizer=Muon(learning_rate=0.01, adam_learning_rate=3e-3),
        schedule=Linear(warmup_steps=5),
        data=Data(corpora=(Corpus(str(train)),), validation=str(validation)),
        steps=200,
        batch_rows=8,
        init=str(init),
        evaluation=Evaluation(every_steps=100),
        checkpoints=Checkpoints(every_steps=100),
    )


def baselines(tokenizer: Any, cache: Path) -> list[list[Any]]:
    """[name, bits per byte] on the held-out modules: what the GPT must be read beside."""
    built = store.build(pretrain().data, tokenizer, cache)
    train, held_out = built.splits["train"][0], built.splits["validation"][0]

    def bits_per_byte(nats: float) -> float:
        return nats / math.log(2) / held_out.bytes

    rows: list[list[Any]] = [["uniform", bits_per_byte(len(held_out.tokens) * math.log(tokenizer.vocab_size))]]
    for name, order in (("unigram", 1), (f"Kneser-Ney {NGRAM_ORDER}-gram", NGRAM_ORDER)):
        model = ngram.fit(np.asarray(train.tokens), order, tokenizer.vocab_size)
        logp_N = ngram.log_probability(model, np.asarray(held_out.tokens))
        rows.append([name, bits_per_byte(-float(logp_N.sum()))])
    return rows


def choices(run: Path, rows: list[dict[str, str]]) -> dict[str, float]:
    """How often a run finds the right one of four docstrings."""
    found = trained.load(run, say)
    asked = docstrings.questions(rows, found.tokenizer, found.model.context)
    nats = choice.continuation_nats(found.model, found.params["model"], asked, rows=32)
    return choice.summary(asked, nats, found.model.context)


def main(out: Path, cache: Path) -> None:
    """Everything, into `out`; what is already there is not done again."""
    started = time.monotonic()

    def heading(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - started), 60)
        print(f"\n[{minutes}:{seconds:02d}] {text}", file=sys.stderr, flush=True)

    out.mkdir(parents=True, exist_ok=True)
    first, second = out / "pretrained", out / "finetuned"
    heading("pretraining on the standard library's source")
    launch.launch(pretrain(), first, cache, say)
    heading("judging on held-out modules")
    tokenizer = trained.recall(first)[1]
    rows = baselines(tokenizer, cache)
    judged = judge.held_out(first, None, None, cache, say, whole=True)
    rows.append(["GPT", judged["bits_per_byte"]])

    heading("fine-tuning: function in, first line of its docstring out")
    pairs = docstrings.examples(pretrain().data)
    files = {split: out / f"docstrings-{split}.jsonl" for split in pairs}
    for split, path in files.items():
        docstrings.write(path, pairs[split])
    launch.launch(finetune(first, files["train"], files["validation"]), second, cache, say)
    heading("which of four docstrings belongs to the function?")
    before, after = choices(first, pairs["validation"]), choices(second, pairs["validation"])

    heading("sampling")
    samples = judge.continued(first, [PROMPT] * 2, 120, Decoding(0.7), 0, say)["samples"]
    told = [pair["prompt"] for pair in pairs["validation"][:40:10]]
    described = judge.continued(second, told, 24, Decoding(0.0), 0, say)["samples"]

    tables = [
        {
            "title": "Bits per byte on held-out modules",
            "columns": ["model", "bits per byte"],
            "rows": rows,
            "note": f"{judged['tokens']:,} tokens, {judged['bytes']:,} bytes, all of them judged; GPT in windows of "
            f"{judged['context']} tokens that start {judged['stride']} apart, the n-grams in one running text.",
        },
        {
            "title": "Which of four docstrings belongs to the function",
            "columns": ["model", "accuracy", "chance"],
            "rows": [
                ["before fine-tuning", before["accuracy_mean"], before["chance"]],
                ["after fine-tuning", after["accuracy_mean"], after["chance"]],
            ],
            "note": f"{before['questions']} functions of held-out modules; highest mean log-probability wins.",
        },
    ]
    write_json(first / "results.json", tables)
    write_json(first / "samples.json", [{**sample, "decoding": "temperature 0.7"} for sample in samples])
    write_json(second / "samples.json", [{**sample, "decoding": "greedy"} for sample in described])
    page.write([first, second], out / "report.html")
    show(tables)
    heading(f"done; the report is {out / 'report.html'}")


def show(tables: list[dict[str, Any]]) -> None:
    """The tables, for a person."""
    for table in tables:
        shown = Table(*table["columns"], title=table["title"], caption=table["note"])
        for row in table["rows"]:
            shown.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row))
        Console().print(shown)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--cache", type=Path, default=default_cache())
    asked = parser.parse_args()
    sys.exit(guarded(lambda: main(asked.out, asked.cache)))
