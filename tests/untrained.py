"""Run folders without training: a configuration with parameters that are drawn."""

from contextlib import closing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gptjax import config, trained
from gptjax.config import ModelConfig, ObjectiveConfig, Run, TokenizerConfig
from gptjax.data.tokenizers import Bytes
from gptjax.objectives.causal import Causal
from gptjax.train import checkpoint
from gptjax.train.optim import AdamW
from gptjax.train.schedules import Cosine
from gptjax.types import Place


def write(
    folder: Path,
    model: ModelConfig,
    tokenizer: TokenizerConfig | None = None,
    objective: ObjectiveConfig | None = None,
    text: str = "",
    seed: int = 0,
    **fields,
) -> Path:
    """The folder of such a run at step 3; its tokenizer learns from `text`."""
    run = Run(
        model=model,
        tokenizer=tokenizer or Bytes(eos=False),
        objective=objective or Causal(),
        optimizer=AdamW(),
        schedule=Cosine(),
        **fields,
    )
    words = run.tokenizer.build(lambda: iter([text]))
    _, built = trained.build(run, words, Place("cpu"))
    draws = np.random.default_rng(seed)
    shapes = jax.eval_shape(built.init, jax.random.key(0))
    params = jax.tree.map(lambda x: jnp.asarray(0.4 * draws.standard_normal(x.shape), jnp.float32), shapes)
    folder.mkdir(parents=True)
    config.save(run, folder / "config.json")
    words.save(folder / "tokenizer")
    with closing(checkpoint.Writer(folder / "checkpoints", 1, None)) as writer:
        writer.save(3, {"params": params}, {"metrics": {}, "judged_step": -1})
    return folder
