"""Configurations that the tests train: small enough for a second, with dropout on."""

from dataclasses import replace

from gptjax.config import Checkpoints, Data, Evaluation, Run
from gptjax.data.tokenizers import Bytes
from gptjax.models.bert import Bert
from gptjax.models.gpt import GPT
from gptjax.models.recurrent import Recurrent
from gptjax.objectives.causal import Causal
from gptjax.objectives.lora import Lora
from gptjax.objectives.masked import Masked
from gptjax.objectives.tasks import Classification
from gptjax.train.optim import AdamW, Muon
from gptjax.train.schedules import Cosine


def small() -> Run:
    """A run of 120 updates that logs, judges and saves often."""
    return Run(
        model=GPT(layers=1, width=16, heads=2, mlp_width=32, context=16, dropout=0.2, attention="dense"),
        tokenizer=Bytes(eos=False),
        objective=Causal(),
        optimizer=AdamW(learning_rate=3e-3),
        schedule=Cosine(warmup_steps=5),
        data=Data(split="position"),
        steps=120,
        batch_rows=8,
        log_every_steps=1,
        ema_decay=0.9,
        evaluation=Evaluation(every_steps=40, rows=8, max_tokens=500),
        checkpoints=Checkpoints(every_steps=15),
    )


def muon() -> Run:
    """The same with Muon and no average."""
    return replace(small(), optimizer=Muon(), ema_decay=None)


def task() -> Run:
    """A few updates of a classification."""
    base = replace(small(), objective=Classification(), data=Data(validation_fraction=0.25, split="document"))
    return replace(base, steps=6, ema_decay=None, evaluation=Evaluation(every_steps=6, rows=8))


def bert() -> Run:
    """A few updates of a model that reads both sides."""
    model = Bert(layers=1, width=16, heads=2, mlp_width=32, context=16)
    return replace(small(), model=model, objective=Masked(), steps=6, ema_decay=None)


def bert_task() -> Run:
    """A classification by such a model."""
    return replace(task(), model=bert().model, objective=Classification(lm_weight=0.0, pool="mean"))


def recurrent() -> Run:
    """A recurrent model with dropout of its own kinds."""
    return replace(small(), model=Recurrent(width=16, embed_width=16, layers=1, output_dropout=0.3))


def lora() -> Run:
    """A classification by adapters of a frozen model."""
    base = replace(task(), ema_decay=0.9, checkpoints=Checkpoints(every_steps=3, keep_last=3))
    return replace(base, objective=Lora(of=Classification(), rank=2, dropout=0.1, targets=("attn/(q|v)", "mlp/up")))
