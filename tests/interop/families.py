"""One small model of every family that travels, with parameters that leave nothing at its initial 0 or 1."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gptjax import trained
from gptjax.config import Data, Run
from gptjax.data.tokenizers import Bytes
from gptjax.models.bert import Bert
from gptjax.models.gpt import GPT
from gptjax.objectives.causal import Causal
from gptjax.objectives.masked import Masked
from gptjax.train.optim import AdamW
from gptjax.train.schedules import Cosine
from gptjax.trained import Trained
from gptjax.types import Place

SIZES = {"layers": 2, "width": 16, "heads": 4, "context": 16, "attention": "dense"}
GPT1 = GPT(**SIZES, mlp_width=64, norm_place="post", dropout=0.1)
GPT2 = GPT(**SIZES, mlp_width=24, mlp="gelu")
LLAMA = GPT(
    **SIZES, mlp_width=24, kv_heads=2, positions="rotary", rope_theta=500.0, norm="rms", norm_eps=1e-6, mlp="swiglu",
    bias=False, tied=False,
)  # fmt: skip
MODELS = {
    "openai-gpt": GPT1,
    "openai-gpt untied": replace(GPT1, tied=False),
    "gpt2": GPT2,
    "gpt2 untied": replace(GPT2, tied=False, mlp="relu2"),
    "bert": Bert(**SIZES, mlp_width=24),
    "llama": LLAMA,
    "llama tied": replace(LLAMA, tied=True, bias=True, kv_heads=None),
}
"""Name -> configuration."""


def run_of(model: Any, pad: int = 1) -> Run:
    """A run of this model over bytes."""
    objective = Masked() if isinstance(model, Bert) else Causal()
    tokenizer = Bytes(pad_vocab_multiple=pad)
    return Run(model=model, tokenizer=tokenizer, objective=objective, optimizer=AdamW(), schedule=Cosine(), data=Data())


def made(model: Any, folder: Path, pad: int = 1, seed: int = 0) -> Trained:
    """A checkpoint whose every parameter is drawn: a bias of 0 or a gain of 1 would hide a mistake."""
    run = run_of(model, pad)
    tokenizer = run.tokenizer.build(lambda: iter(()))
    built, objective = trained.build(run, tokenizer, Place("cpu"))
    shapes = jax.eval_shape(objective.init, jax.random.key(0))
    draws = np.random.default_rng(seed)
    params = jax.tree.map(lambda x: jnp.asarray(0.3 * draws.standard_normal(x.shape), jnp.float32), shapes)
    return Trained(run, tokenizer, built, objective, params, 3, folder)
