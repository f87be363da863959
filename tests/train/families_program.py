"""Trains tiny models whose matrices have rules of their own on one device and on fsdp x tensor, and prints what came
of both as JSON; a process of its own, since the number of devices is fixed when JAX starts.
"""

import json

import jax
import numpy as np

from gptjax import trained
from gptjax.config import Data, Mesh, Run
from gptjax.data.tokenizers import Bytes
from gptjax.models.encoder_decoder_transformer import TransformerTranslator
from gptjax.models.vectors import Vectors
from gptjax.objectives.seq2seq import Seq2Seq
from gptjax.objectives.word2vec import Word2Vec
from gptjax.train import sharding
from gptjax.train.optim import SGD
from gptjax.train.schedules import Constant
from gptjax.train.state import init_state
from gptjax.train.step import jitted, make_step

CONTEXT, ROWS, STEPS = 8, 4, 2
IDS = ("inputs", "targets", "source", "centres", "around", "noise")
FAMILIES = {
    "transformer": (TransformerTranslator(layers=1, width=16, heads=2, mlp_width=32, context=CONTEXT), Seq2Seq()),
    "word2vec": (Vectors(width=16, context=CONTEXT), Word2Vec(window=2, shared=4)),
}
MESHES = {"one": Mesh(data=1), "split": Mesh(data=1, fsdp=2, tensor=2)}


def batch(row):
    """As many rows as wide as this one, with other ids in each."""
    draw = np.random.default_rng(0)
    whole = jax.tree.map(lambda leaf: np.repeat(leaf, ROWS, axis=0), row)
    ids = {name: leaf for name, leaf in whole._asdict().items() if name in IDS}
    return whole._replace(**{name: draw.integers(0, 256, leaf.shape, dtype=np.int32) for name, leaf in ids.items()})


def train(model, objective, mesh):
    """The loss and the norm of the gradient of each update."""
    tokenizer, schedule = Bytes(bos=True), Constant()
    optimizer = SGD(learning_rate=0.1)
    run = Run(model, tokenizer, objective, optimizer, schedule, steps=STEPS, batch_rows=ROWS, mesh=mesh)
    read, update = tokenizer.build(lambda: iter(())), optimizer.build(schedule.build(STEPS))
    devices = sharding.make_mesh(mesh, jax.devices()[: mesh.fsdp * mesh.tensor])
    learnt = trained.build(run, read, sharding.place(devices))[1]
    begin = jax.jit(lambda key: init_state(run, learnt, update, key))
    shardings, _ = sharding.state_shardings(jax.eval_shape(begin, jax.random.key(0)), devices)
    step = make_step(run, learnt.loss, update, sharding.layout(devices))
    step = jitted(step, shardings)
    state = jax.device_put(begin(jax.random.key(0)), shardings)
    rows = sharding.placer(devices)(batch(learnt.batch(objective.widest(Data(), read, CONTEXT).rows)))
    history = []
    for _ in range(STEPS):
        state, metrics = step(state, rows)
        history.append([float(metrics["loss_nats"]), float(metrics["grad_norm"])])
    return history


def main():
    jax.config.update("jax_num_cpu_devices", 4)
    jax.config.update("jax_platforms", "cpu")
    print(json.dumps({f: {m: train(*FAMILIES[f], mesh) for m, mesh in MESHES.items()} for f in FAMILIES}))


if __name__ == "__main__":
    main()
