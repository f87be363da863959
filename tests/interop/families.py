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
    """A checkpoint as training could have left it: every parameter moved away from where it begins."""
    run = run_of(model, pad)
    tokenizer = run.tokenizer.build(lambda: iter(()))
    built, objective = trained.build(run, tokenizer, Place("cpu"))
    params = jax.jit(objective.init)(jax.random.key(seed))
    draws = np.random.default_rng(seed)
    moved = jax.tree.map(lambda x: jnp.asarray(x + 0.1 * draws.standard_normal(x.shape), jnp.float32), params)
    return Trained(run, tokenizer, built, objective, moved, 3, folder)


def inputs(found: Trained) -> np.ndarray:
    """Ids [2, 12] of the whole vocabulary."""
    return np.random.default_rng(1).integers(0, found.model.vocab_size, (2, 12)).astype(np.int32)


def logits(model: Any, vocab_size: int, params: Any, ids_BT: np.ndarray) -> np.ndarray:
    """logits_BTV of plain parameters, without the padding's."""
    built = model.build(vocab_size, jax.tree.leaves(params["embed"]["tokens"])[0].shape[0])
    return np.asarray(jax.jit(built.apply)(params, ids_BT))[..., :vocab_size]
