"""Supervised fine-tuning of a pretrained run.

Commands     gptjax train experiments/finetune.py:sst2 --init PRETRAINED --data SST-2 --out RUN
             gptjax train experiments/finetune.py:sst2 --init PRETRAINED --transfer none ...     the same from scratch
             gptjax train experiments/finetune.py:sst2 --objective.lm-weight 0 ...               no auxiliary loss
             gptjax train experiments/finetune.py:sst2_lora --init FOLDER ...                    adapters of a folder
Data         --data takes the folder of a GLUE task (train.tsv and dev.tsv) or a file of records; on the Hugging Face
             hub the sets are nyu-mll/glue (sst2, cola, rte, stsb), allenai/ai2_arc, databricks/databricks-dolly-15k
Cost         minutes on two CPU cores for a model of a few million parameters
Expected     GPT-1 (117M, published): SST-2 91.3, CoLA 45.4 mcc, RTE 56.0, STS-B 82.0; small models learn the same
             order: pretrained above from scratch

The model and the tokenizer are those of --init; the hyper-parameters are GPT-1's (Radford et al. 2018, section 4.1).
"""

from dataclasses import replace

from gptjax.config import Checkpoints, Corpus, Data, Evaluation, ObjectiveConfig, Run
from gptjax.data.tokenizers import SentencePiece
from gptjax.models.gpt import GPT
from gptjax.objectives.lora import Lora
from gptjax.objectives.sft import SFT
from gptjax.objectives.tasks import Classification, Entailment, MultipleChoice, Similarity
from gptjax.train.optim import AdamW
from gptjax.train.schedules import Linear


def _task(objective: ObjectiveConfig, examples: int, source: str) -> Run:
    """GPT-1's fine-tuning: 3 epochs in batches of 32, rate 6.25e-5, warm-up over 0.2% of the updates, linear to 0."""
    steps = 3 * examples // 32
    return Run(
        model=GPT(layers=4, width=256, heads=4, mlp_width=1024, context=128, dropout=0.1),
        tokenizer=SentencePiece(vocab_size=4096),
        objective=objective,
        optimizer=AdamW(learning_rate=6.25e-5, beta2=0.999, weight_decay=0.01, decay="all_but_gains"),
        schedule=Linear(warmup_steps=round(0.002 * steps)),
        data=Data(corpora=(Corpus(source),)),
        steps=steps,
        batch_rows=32,
        evaluation=Evaluation(every_steps=max(1, steps // 3)),
        checkpoints=Checkpoints(every_steps=max(1, steps // 3)),
    )


def sst2() -> Run:
    """Sentiment of film reviews (SST-2): accuracy."""
    return _task(Classification(text="sentence", labels=("0", "1")), 67_349, "SST-2")


def sst2_lora() -> Run:
    """SST-2 by low-rank adapters of a frozen model; --objective.rank and --objective.targets vary them."""
    base = sst2()
    objective = Lora(of=base.objective, targets=("attn/(q|k|v|o)", "mlp/(up|down)"))
    return replace(base, objective=objective, optimizer=AdamW(learning_rate=5e-4, beta2=0.999, weight_decay=0.01))


def cola() -> Run:
    """Linguistic acceptability (CoLA): Matthews correlation. Its tables have no header."""
    columns = ("source", "label", "mark", "sentence")
    return _task(Classification(text="sentence", labels=("0", "1"), columns=columns), 8551, "CoLA")


def rte() -> Run:
    """Textual entailment (RTE): accuracy."""
    task = Entailment(
        premise="sentence1", hypothesis="sentence2", label="label", labels=("entailment", "not_entailment")
    )
    return _task(task, 2490, "RTE")


def stsb() -> Run:
    """Semantic similarity from 0 to 5 (STS-B): Pearson and Spearman correlation."""
    return _task(Similarity(), 5749, "STS-B")


def multiple_choice() -> Run:
    """Science questions with four answers (ARC)."""
    return _task(MultipleChoice(), 2251, "ARC-Easy.jsonl")


def sft() -> Run:
    """Instructions and answers, loss on the answers alone, whole examples packed into rows."""
    base = _task(SFT(), 3000, "instructions.jsonl")
    return replace(
        base,
        optimizer=AdamW(learning_rate=2e-4, beta2=0.95, weight_decay=0.01),
        steps=200,
        batch_rows=16,
        evaluation=Evaluation(every_steps=100),
        checkpoints=Checkpoints(every_steps=100),
    )
