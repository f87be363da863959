"""A claim about gradients through time."""

import jax
import numpy as np

from gptjax.config import ObjectiveConfig, Run, TokenizerConfig
from gptjax.models.recurrent import Recurrent
from gptjax.objectives.causal import next_token
from gptjax.train.optim import SGD
from gptjax.train.schedules import Constant
from gptjax.train.state import init_state
from gptjax.train.step import make_step
from gptjax.types import Batch

V, T, B = 6, 80, 8


def losses(clip_norm):
    """Loss and gradient norm of ten updates of a simple recurrent network whose states amplify small changes."""
    run = Run(
        model=Recurrent(cell="tanh", layers=1, width=32, embed_width=32, context=T),
        tokenizer=TokenizerConfig(),
        objective=ObjectiveConfig(),
        optimizer=SGD(learning_rate=1.0, momentum=0.0),
        schedule=Constant(),
        batch_rows=B,
        clip_norm=clip_norm,
    )
    objective = next_token(run.model.build(V, V))

    def wild(key):
        params = objective.init(key)
        params["model"]["layer_0"]["recurrent"]["kernel"] *= 3.0
        return params

    optimizer = run.optimizer.build(run.schedule.build(10))
    begin = jax.jit(lambda key: init_state(run, objective._replace(init=wild), optimizer, key))
    state, step, found = begin(jax.random.key(0)), jax.jit(make_step(run, objective.loss, optimizer)), []
    random = np.random.default_rng(0)
    for _ in range(10):
        tokens = random.integers(0, V, (B, T + 1)).astype(np.int32)
        state, metrics = step(state, Batch(tokens[:, :-1], tokens[:, 1:], np.ones((B, T), np.float32), None, None))
        found.append((float(metrics["loss_nats"]), float(metrics["grad_norm"])))
    return np.array(found)


def test_a_simple_recurrent_network_blows_up_without_clipping_and_not_with_it():
    """Its text is noise, so that ln V is the least loss there is."""
    free, clipped = losses(None), losses(0.5)
    assert free[:, 1].max() > 1e4
    assert clipped[:, 1].max() > 1e4  # the gradient explodes there too; the update does not
    assert free[-1, 0] > 100 * np.log(V)
    assert clipped[:, 0].max() < 1.2 * np.log(V)
