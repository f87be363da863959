"""Pretraining: a GPT on the next token.

Commands     gptjax train experiments/pretrain.py:NAME --out RUN [--data PATH]
Cost         tiny: 1 minute on two CPU cores; shakespeare_char: 3 minutes on two CPU cores; gpt1, gpt2_124m,
             modern_124m: a machine with 8 GPUs or a TPU slice; llama_7b: a pod
Expected     shakespeare_char on Tiny Shakespeare: below 1.55 nats per character on the whole validation split
             (nanoGPT's configuration of the same budget: 1.88; a 7-gram: 1.5165)
"""

from dataclasses import replace

from gptjax.config import Checkpoints, Evaluation, Mesh, Run
from gptjax.data.tokenizers import GPT2BPE, Characters, SentencePiece
from gptjax.models.gpt import GPT
from gptjax.objectives.causal import Causal
from gptjax.train.optim import AdamW, Muon
from gptjax.train.schedules import Cosine, Linear


def tiny() -> Run:
    """A first run: a small GPT of today's kind on the standard library's source."""
    return Run(
        model=GPT(
            layers=2, width=128, heads=4, mlp_width=512, context=128, positions="rotary", norm="rms", mlp="relu2",
            bias=False, qk_norm=True, residual_init="zero",
        ),
        tokenizer=SentencePiece(vocab_size=1024),
        objective=Causal(),
        optimizer=Muon(learning_rate=0.02, adam_learning_rate=3e-3),
        schedule=Linear(decay_fraction=0.6),
        steps=300,
        batch_rows=16,
        evaluation=Evaluation(every_steps=300, max_tokens=100_000),
        checkpoints=Checkpoints(every_steps=100),
    )  # fmt: skip


def shakespeare_char() -> Run:
    """Tiny Shakespeare by characters: nanoGPT's split and CPU budget, 2,000 updates of 12 x 64, 0.81M parameters.

    Muon at 0.025 with a straight decay from the first update gave 1.57 nats per character; the convolutions took
    another 0.03 off. No gain: four convolved tokens instead of three, weight decay, hashed bigram embeddings.
    """
    return Run(
        model=GPT(
            layers=4, width=128, heads=4, mlp_width=512, context=64, positions="rotary", rope_theta=1000.0, norm="rms",
            mlp="relu2", bias=False, qk_norm=True, embed_norm=True, conv_tokens=3, tied=False,
            init_std=128**-0.5, residual_init="zero",
        ),
        tokenizer=Characters(eos=False),
        objective=Causal(),
        optimizer=Muon(
            learning_rate=0.025, adam_learning_rate=5e-3, embedding_learning_rate=1e-3, beta1=0.8, beta2=0.95, eps=1e-10
        ),
        schedule=Linear(),
        steps=2000,
        batch_rows=12,
        clip_norm=None,
        evaluation=Evaluation(every_steps=500, rows=64),
        checkpoints=Checkpoints(every_steps=100, keep_best="nats_per_token"),
    )  # fmt: skip


def gpt1() -> Run:
    """GPT-1 as published (Radford et al. 2018): 116,534,784 parameters, 64 rows of 512 contiguous tokens an update.

    The paper trains 100 epochs and names no number of updates: set --steps to 100 x tokens / 32,768 for your corpus.
    Decay follows the paper (everything but gains and biases).
    """
    return Run(
        model=GPT(
            layers=12, width=768, heads=12, mlp_width=3072, context=512, dropout=0.1, positions="learned",
            norm="layer", norm_place="post", mlp="gelu_tanh", residual_init="plain", attention="auto",
        ),
        tokenizer=SentencePiece(vocab_size=40_478),
        objective=Causal(),
        optimizer=AdamW(learning_rate=2.5e-4, beta2=0.999, weight_decay=0.01, decay="all_but_gains"),
        schedule=Cosine(warmup_steps=2000),
        steps=800_000,
        batch_rows=64,
        precision="bfloat16",
        evaluation=Evaluation(every_steps=5000),
        checkpoints=Checkpoints(every_steps=5000),
    )  # fmt: skip


def gpt2_124m() -> Run:
    """GPT-2's smallest size, 124,439,808 parameters, with nanoGPT's recipe: 0.5M tokens an update, 300B in all.

    The published vocabulary is read from --tokenizer.folder (encoder.json and vocab.bpe).
    """
    return Run(
        model=GPT(layers=12, width=768, heads=12, mlp_width=3072, context=1024),
        tokenizer=GPT2BPE(folder="gpt2", pad_vocab_multiple=128),
        objective=Causal(),
        optimizer=AdamW(learning_rate=6e-4, beta2=0.95, weight_decay=0.1),
        schedule=Cosine(warmup_steps=2000, final_fraction=0.1),
        steps=600_000,
        batch_rows=480,
        accumulation=1,
        precision="bfloat16",
        evaluation=Evaluation(every_steps=1000),
        checkpoints=Checkpoints(every_steps=1000),
    )


def modern_124m() -> Run:
    """The same size with what has been learnt since: RMSNorm, rotary positions, squared ReLU, QK norm, Muon."""
    base = gpt2_124m()
    return replace(
        base,
        model=GPT(
            layers=12, width=768, heads=12, mlp_width=3072, context=1024, positions="rotary", norm="rms",
            mlp="relu2", bias=False, qk_norm=True, tied=False, logit_softcap=15.0, residual_init="zero",
        ),
        optimizer=Muon(learning_rate=0.02, adam_learning_rate=3e-3, weight_decay=0.01),
        schedule=Linear(warmup_steps=200, decay_fraction=0.6),
        steps=10_000,
    )  # fmt: skip


def llama_7b() -> Run:
    """Llama's 7B shape (Touvron et al., arXiv 2302.13971): 6.74B parameters, fully sharded."""
    return Run(
        model=GPT(
            layers=32, width=4096, heads=32, mlp_width=11_008, context=2048, positions="rotary", norm="rms",
            norm_eps=1e-6, mlp="swiglu", bias=False, tied=False, scan=True, remat="block",
        ),
        tokenizer=SentencePiece(vocab_size=32_000),
        objective=Causal(),
        optimizer=AdamW(learning_rate=3e-4, beta2=0.95, weight_decay=0.1),
        schedule=Cosine(warmup_steps=2000, final_fraction=0.1),
        steps=250_000,
        batch_rows=2048,
        precision="bfloat16",
        mesh=Mesh(fsdp=64, gather="layer"),
        evaluation=Evaluation(every_steps=1000),
        checkpoints=Checkpoints(every_steps=1000),
    )  # fmt: skip
