"""Do models compute the same here and in transformers? Every family that travels, in both directions.

Command      python experiments/bench/parity.py                 (pip install torch transformers)
Cost         four minutes on one CPU core, most of it compiling
Expected     24 rows, no logit further apart than 1.4e-6, all text the same (transformers 5.23, torch 2.15, jax 0.10.2)

out: parameters made here, written as a folder, read by transformers. in: a model made by transformers, saved by it,
read here. Every parameter is moved away from where it begins (a bias of 0 or a gain of 1 would hide a mistake). The
figure is the largest difference of a logit in float32 over two rows of 24 tokens; the mark is 1e-4. Text: 16 tokens
continued greedily after a prompt are the same, or for BERT the likeliest token at every place and the sentence logits.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from rich.console import Console
from rich.table import Table

from gptjax import trained
from gptjax.config import ModelConfig, Run
from gptjax.data.tokenizers import Bytes
from gptjax.infer.sample import Decoding, generate
from gptjax.interop import folder as folders
from gptjax.models.bert import Bert
from gptjax.models.bidirectional import next_sentence
from gptjax.models.gpt import GPT
from gptjax.objectives.causal import Causal
from gptjax.objectives.masked import Masked
from gptjax.train.optim import AdamW
from gptjax.train.schedules import Cosine
from gptjax.types import Place

MARK = 1e-4
NEW_TOKENS = 16
_sizes: dict[str, Any] = {"layers": 2, "width": 32, "heads": 4, "context": 48}
_gpt1 = GPT(**_sizes, mlp_width=128, norm_place="post")
_gpt2 = GPT(**_sizes, mlp_width=80)
_llama = GPT(
    **_sizes, mlp_width=80, kv_heads=2, positions="rotary", rope_theta=5000.0, norm="rms", norm_eps=1e-6, mlp="swiglu",
    bias=False, tied=False,
)  # fmt: skip
MODELS: dict[str, ModelConfig] = {
    "openai-gpt": _gpt1,
    "openai-gpt, untied": replace(_gpt1, tied=False),
    "gpt2": _gpt2,
    "gpt2, untied, exact GELU": replace(_gpt2, tied=False, mlp="gelu"),
    "gpt2, squared ReLU": replace(_gpt2, mlp="relu2"),
    "bert": Bert(**_sizes, mlp_width=80),
    "llama": _llama,
    "llama, tied, biases": replace(_llama, tied=True, bias=True, kv_heads=None),
}
"""Name -> configuration; each is tried with its vocabulary padded and not."""


class Answers(NamedTuple):
    """What a model says of the same inputs."""

    logits_BTV: np.ndarray
    text: Any
    """Greedy tokens, or for BERT the likeliest token at every place."""


def ours(model: ModelConfig, vocab_size: int, padded: int, params: Any, ids_BT: np.ndarray) -> Answers:
    """Computed here."""
    built = model.build(vocab_size, padded)
    params = jax.tree.map(jnp.asarray, params)
    logits_BTV = np.asarray(jax.jit(built.apply)(params, ids_BT))[..., :vocab_size]
    if isinstance(model, Bert):
        features_BTD = built.features(params, ids_BT)
        logits = np.concatenate([logits_BTV.ravel(), np.asarray(next_sentence(params, features_BTD)).ravel()])
        return Answers(logits, logits_BTV.argmax(-1).tolist())
    prompts, key = list(ids_BT), jax.random.key(0)
    made = generate(built, params, prompts, NEW_TOKENS, Decoding(temperature=0.0), key)
    return Answers(logits_BTV, [tokens.tolist() for tokens in made])


@torch.no_grad()
def theirs(model: Any, ids_BT: np.ndarray) -> Answers:
    """Computed by transformers."""
    ids = torch.from_numpy(ids_BT.astype(np.int64))
    out = model(input_ids=ids)
    if hasattr(out, "prediction_logits"):
        logits = np.concatenate([out.prediction_logits.numpy().ravel(), out.seq_relationship_logits.numpy().ravel()])
        return Answers(logits, out.prediction_logits.argmax(-1).tolist())
    model.generation_config.eos_token_id = None
    plain = {"do_sample": False, "max_new_tokens": NEW_TOKENS, "pad_token_id": 0}
    made = model.generate(ids, attention_mask=torch.ones_like(ids), **plain)
    return Answers(out.logits.numpy(), made[:, ids.shape[1] :].tolist())


def outward(model: ModelConfig, pad: int, folder: Path) -> tuple[float, bool]:
    """(largest difference, whether the text is the same) of parameters that are made here and read there."""
    objective = Masked() if isinstance(model, Bert) else Causal()
    tokenizer = Bytes(pad_vocab_multiple=pad)
    run = Run(model=model, tokenizer=tokenizer, objective=objective, optimizer=AdamW(), schedule=Cosine())
    codec = run.tokenizer.build(lambda: iter(()))
    built, learnt = trained.build(run, codec, Place("cpu"))
    draws = np.random.default_rng(0)
    params = jax.tree.map(partial(_moved, draws), jax.jit(learnt.init)(jax.random.key(0)))
    found = trained.Trained(run, codec, built, learnt, params, 0, folder)
    folders.write(found, folder / "out", lambda line: None)
    there = _class(json.loads((folder / "out/config.json").read_text())).from_pretrained(folder / "out").eval()
    ids_BT = _ids(built.vocab_size)
    here = ours(model, built.vocab_size, codec.padded(built.vocab_size), params["model"], ids_BT)
    return _compared(here, theirs(there, ids_BT))


def inward(model: ModelConfig, folder: Path) -> tuple[float, bool]:
    """The same of a model that is made there and read here."""
    shape = folders.shapes.fitting(model)
    # A size that neither 8 nor 128 divides: rows are rows.
    fields = {**shape.write(model), "vocab_size": 261, "model_type": shape.model_type}
    ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    config = transformers.AutoConfig.for_model(**fields, **ends)
    there = _class({"architectures": [shape.architecture]})(config).eval()
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in there.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws))
    there.save_pretrained(folder / "in")
    read = folders.read(folder / "in")
    assert read.model == replace(model, dropout=read.model.dropout), read.model  # type: ignore[call-arg,attr-defined]
    ids_BT = _ids(read.vocab_size)
    return _compared(ours(read.model, read.vocab_size, read.vocab_size, read.params, ids_BT), theirs(there, ids_BT))


def _moved(draws: np.random.Generator, x: Any) -> jax.Array:
    return jnp.asarray(x + 0.1 * draws.standard_normal(x.shape), jnp.float32)


def _ids(vocab_size: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, vocab_size, (2, 24)).astype(np.int32)


def _class(config: dict[str, Any]) -> Any:
    return getattr(transformers, config["architectures"][0])


def _compared(here: Answers, there: Answers) -> tuple[float, bool]:
    return float(np.abs(here.logits_BTV - there.logits_BTV).max()), here.text == there.text


def measured() -> Iterator[dict[str, Any]]:
    """A row for every family, direction and padding."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name, model in MODELS.items():
        for direction in ("out", "out, padded", "in"):
            with tempfile.TemporaryDirectory() as folder:
                if direction == "in":
                    difference, same = inward(model, Path(folder))
                else:
                    difference, same = outward(model, 128 if "padded" in direction else 1, Path(folder))
            good = difference <= MARK and same
            yield {"family": name, "direction": direction, "difference": difference, "text": same, "good": good}


def main() -> None:
    """Print the table; exit code 1 where a row misses the mark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    asked = parser.parse_args()
    rows = []
    for row in measured():
        rows.append(row)
        print(f"{row['family']}, {row['direction']}: {row['difference']:.1e}", file=sys.stderr, flush=True)
    if asked.json:
        print(json.dumps(rows))
    else:
        versions = f"transformers {transformers.__version__}, torch {torch.__version__}, jax {jax.__version__}"
        table = Table("family", "direction", "largest logit difference", "text", title=versions)
        for row in rows:
            text = "the same" if row["text"] else "DIFFERS"
            table.add_row(row["family"], row["direction"], f"{row['difference']:.1e}", text)
        Console().print(table)
    sys.exit(not all(row["good"] for row in rows))


if __name__ == "__main__":
    main()
