"""Claims about the compiled update of a small GPT: what it casts, what it holds twice."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

from gptjax.config import Run, TokenizerConfig
from gptjax.models.gpt import GPT
from gptjax.objectives.causal import Causal
from gptjax.train.optim import AdamW, Muon
from gptjax.train.schedules import Constant
from gptjax.train.state import init_state, path_of
from gptjax.train.step import jitted, make_step
from gptjax.types import Batch

pytestmark = pytest.mark.usefixtures("optimised")

ROWS, CONTEXT, VOCAB = 4, 8, 24


@pytest.fixture(scope="module", params=[1, 2], ids=["whole", "accumulated"])
def update(request):
    """(update as it is jitted, state and batch as shapes)."""
    run = Run(
        model=GPT(layers=2, width=16, heads=2, mlp_width=32, context=CONTEXT, tied=False),
        tokenizer=TokenizerConfig(),
        objective=Causal(tile_tokens=8),
        optimizer=AdamW() if request.param == 1 else Muon(),
        schedule=Constant(),
        batch_rows=ROWS,
        accumulation=request.param,
        ema_decay=0.9,
        precision="bfloat16",
    )
    objective = run.objective.build(run.model.build(VOCAB, VOCAB), None)
    optimizer = run.optimizer.build(run.schedule.build(run.steps))
    state = jax.eval_shape(partial(init_state, run, objective, optimizer), jax.random.key(0))
    tokens_BT = jax.ShapeDtypeStruct((ROWS, CONTEXT), jnp.int32)
    batch = Batch(tokens_BT, tokens_BT, jax.ShapeDtypeStruct((ROWS, CONTEXT), jnp.float32), None, None)
    here = jax.tree.map(lambda _: SingleDeviceSharding(jax.devices()[0]), state)
    return jitted(make_step(run, objective.loss, optimizer), here), state, batch


def test_every_weight_is_cast_once_an_update_and_no_micro_batch_sees_the_master_weights(update):
    step, state, batch = update
    jaxpr = step.trace(state, batch).jaxpr.jaxpr
    paths = [path_of(path) for path, _ in jax.tree.leaves_with_path(state)]
    weights = {id(var): path for var, path in zip(jaxpr.invars, paths, strict=False) if path.startswith("params/")}
    assert len(weights) == len(jax.tree.leaves(state.params)) > 10
    read = [(weights[id(x)], eqn) for eqn in jaxpr.eqns for x in eqn.invars if id(x) in weights]
    cast = [path for path, eqn in read if eqn.params.get("new_dtype") == jnp.bfloat16]
    assert sorted(cast) == sorted(weights.values())
    assert not [path for path, eqn in read if eqn.primitive.name in ("scan", "while", "dot_general", "gather")]


def test_the_new_state_lies_where_the_old_one_lay(update):
    step, state, batch = update
    compiled = step.lower(state, batch).compile()
    (aliases,) = re.findall(r"input_output_alias=\{(.*?)\}, entry", compiled.as_text())
    outputs = {int(number) for number in re.findall(r"\{(\d+)\}: \(\d+", aliases)}
    assert outputs == set(range(len(jax.tree.leaves(state))))
    memory = compiled.memory_analysis()
    held = sum(
        x.size * x.dtype.itemsize for x in jax.tree.leaves(state) if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    )
    assert memory.alias_size_in_bytes >= held


def test_no_part_of_the_state_is_copied_before_it_is_written(update):
    step, state, batch = update
    entry = step.lower(state, batch).compile().as_text().partition("\nENTRY")[2]
    assert "%state_opt_state" in entry
    assert not re.findall(r"copy\S*\(\S*state_", entry)
