"""BERT beside GPT: the same text, tokens, size and fine-tuning; only the direction of reading differs.

Command      python experiments/bert.py --wikitext wikitext-2 --sst2 SST-2 --out runs/bert [--seeds 3]
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
from sst2_transfer import accuracy

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
