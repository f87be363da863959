"""Trains word vectors and then a GPT in one process as a user would, and prints where each lay as JSON.

A process of its own, since devices are chosen when JAX starts; with "late" they are asked for first.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np

from gptjax.config import Corpus, Data, Evaluation, Run
from gptjax.data.tokenizers import Bytes
from gptjax.launch import launch
from gptjax.models.gpt import GPT
from gptjax.models.vectors import Vectors
from gptjax.objectives.causal import Causal
from gptjax.objectives.word2vec import Word2Vec
from gptjax.train.optim import SGD
from gptjax.train.schedules import Constant


def main():
    home, text = Path(sys.argv[1]), sys.argv[2]
    if "late" in sys.argv:
        jax.devices()
    data = Data(corpora=(Corpus(text),), validation_fraction=0.1)
    learnt = {
        "vectors": (Vectors(width=8, context=8), Word2Vec(window=2, shared=4)),
        "gpt": (GPT(layers=1, width=16, heads=2, mlp_width=32, context=8), Causal()),
    }
    found = {}
    for name, (model, objective) in learnt.items():
        said = []
        run = Run(
            model=model, tokenizer=Bytes(pad_vocab_multiple=2), objective=objective, optimizer=SGD(learning_rate=1.0),
            schedule=Constant(), data=data, steps=2, batch_rows=5, evaluation=Evaluation(every_steps=2, rows=7),
        )  # fmt: skip
        state = launch(run, home / name, home / "cache", said.append)
        leaf = state.params["model"]["embed"]["tokens"]
        losses = [json.loads(line) for line in (home / name / "metrics.jsonl").read_text().splitlines()]
        found[name] = {
            "devices": len(leaf.sharding.device_set),
            "rows_of_a_device": leaf.sharding.shard_shape(leaf.shape)[0] / len(leaf),
            "losses": [row["loss_nats"] for row in losses if "loss_nats" in row],
            "grad_norms": [row["grad_norm"] for row in losses if "grad_norm" in row],
            "moved": float(np.square(state.params.get("contexts", leaf)).sum()),  # contexts begin at 0
            "told": [line for line in said if "devices" in line],
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
