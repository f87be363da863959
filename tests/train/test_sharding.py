"""Claims about layout: it never changes what is learnt, and it splits what it says it splits."""

import json
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from gptjax.config import ConfigError, Data, Mesh
from gptjax.models.gpt import GPT
from gptjax.models.recurrent import Recurrent
from gptjax.train import sharding
from gptjax.train.optim import AdamW
from gptjax.train.schedules import Constant
from gptjax.train.state import init_state
from gptjax.types import Objective

PROGRAM = Path(__file__).with_name("mesh_program.py")
SHAPES = [[d, f, 8 // d // f] for d in (1, 2, 4, 8) for f in (1, 2, 4, 8) if d * f <= 8]


def case(mesh, dropout=0.1, rich=False, gather="update"):
    return {"mesh": mesh, "dropout": dropout, "rich": rich, "gather": gather}


def start(devices, cases, *distributed):
    # Little optimisation: these programs run for milliseconds and compile for seconds.
    environment = os.environ | {
        "PYTHONPATH": str(PROGRAM.parents[2]),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, str(PROGRAM), str(devices), json.dumps(cases), *distributed]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def trained():
    """Results of training by (mesh, dropout, rich), on 8 virtual devices; two processes at once, for two cores.

    And by "layer", those of parameters that are gathered a layer at a time.
    """
    one, two = [1, 1, 1], [2, 2, 2]
    cases = [case(one, rich=True), case(two, rich=True), case(one, dropout=0.0), case(two, dropout=0.0)]
    cases += [case(shape) for shape in [one, *SHAPES]] + [case([1, 8, 1], rich=True, gather="layer")]
    halves = cases[::2], cases[1::2]
    processes = [start(8, half) for half in halves]
    results = [finish(process) for process in processes]
    return {
        "layer" if c["gather"] == "layer" else (tuple(c["mesh"]), c["dropout"], c["rich"]): result
        for half, found in zip(halves, results, strict=True)
        for c, result in zip(half, found, strict=True)
    }


def assert_same(result, reference):
    np.testing.assert_allclose(result["history"], reference["history"], rtol=2e-5)
    np.testing.assert_allclose(result["params"], reference["params"], rtol=2e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_mesh_shape_gives_the_single_device_losses_with_dropout(trained, shape):
    assert_same(trained[tuple(shape), 0.1, False], trained[(1, 1, 1), 0.1, False])


def test_a_mesh_gives_the_single_device_losses_without_dropout_and_dropout_is_not_idle(trained):
    assert_same(trained[(2, 2, 2), 0.0, False], trained[(1, 1, 1), 0.0, False])
    assert trained[(1, 1, 1), 0.0, False]["history"] != trained[(1, 1, 1), 0.1, False]["history"]


def test_a_mesh_gives_the_single_device_losses_with_muon_accumulation_and_average(trained):
    assert_same(trained[(2, 2, 2), 0.1, True], trained[(1, 1, 1), 0.1, True])


@pytest.mark.parametrize("rich", [False, True])
def test_moments_and_averages_are_split_as_their_parameters_after_an_update(trained, rich):
    ways = trained[(2, 2, 2), 0.1, rich]["ways"]
    moments = {path: n for name in ("opt_state", "ema") for path, n in ways[name].items() if "/model/" in f"/{path}"}
    assert len(moments) > len(ways["params"])
    for path, n in moments.items():
        assert n == ways["params"][path[path.index("model/") :]], path
    assert ways["params"]["model/blocks/mlp/up/kernel"] == ways["params"]["model/embed/tokens"] == 4


def test_fsdp_moves_parameters_between_devices_and_not_activations(trained):
    moved = trained[(1, 8, 1), 0.1, False]["moved"]
    assert "1,16,32" in moved  # the MLP's matrix, gathered
    assert not [shape for shape in moved if shape.startswith("128,")]  # rows x tokens


def test_parameters_gathered_layer_by_layer_give_the_same_losses_and_are_never_all_together(trained):
    assert_same(trained["layer"], trained[(1, 1, 1), 0.1, True])
    moved = trained["layer"]["moved"]
    assert moved.count("1,16,32") == 4  # up and gate, forward and backward
    assert not [shape for shape in moved if shape.startswith("2,")]  # of both layers


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_devices_make_of_their_own_items_comes_together_in_order(trained, shape):
    assert trained[tuple(shape), 0.1, False]["spread"] == [[n + 1.5 for n in range(count)] for count in (1, 3, 12)]


def test_rows_that_do_not_split_evenly_are_still_all_there(trained):
    assert trained[(8, 1, 1), 0.1, False]["odd"] == [0, 1, 2, 3, 4]


def test_two_processes_that_feed_half_the_rows_each_give_the_losses_of_one(trained):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    processes = [start(4, [case([2, 2, 2])], address, str(n)) for n in range(2)]
    results = [finish(process)[0] for process in processes]
    assert [result["share"] for result in results] == [[0, 2], [1, 2]]
    for result in results:
        assert_same(result, trained[(1, 1, 1), 0.1, False])
        assert result["odd"] == [0, 1, 2, 3, 4]


# --- the table, without devices ---


def abstract_state():
    def init(_):
        def zeros(*shape):
            return jax.numpy.zeros(shape)

        blocks = {
            "attn": {"q": {"kernel": zeros(2, 16, 8), "bias": zeros(2, 8)}},
            "mlp": {"down": {"kernel": zeros(2, 30, 16)}},
        }
        blocks |= {"conv": {"kernel": zeros(2, 4, 4)}, "attn_norm": {"scale": zeros(2, 16)}}
        return {"model": {"embed": {"tokens": zeros(12, 16)}, "blocks": blocks}, "head": {"kernel": zeros(16, 4)}}

    optimizer = AdamW().build(Constant().build(1))
    run = SimpleNamespace(ema_decay=0.9, data=Data())
    return jax.eval_shape(lambda key: init_state(run, Objective(init, None, None), optimizer, key), jax.random.key(0))


def test_rules_split_the_last_axes_and_leave_stacked_layers_whole():
    shardings, _ = sharding.state_shardings(abstract_state(), AbstractMesh((1, 2, 2), sharding.AXES))
    for tree in (shardings.params, shardings.ema, shardings.opt_state[0].mu, shardings.opt_state[0].nu):
        model = tree["model"]
        assert model["blocks"]["attn"]["q"]["kernel"].spec == PartitionSpec(None, "fsdp", "tensor")
        assert model["blocks"]["attn"]["q"]["bias"].spec == PartitionSpec(None, "tensor")
        assert model["blocks"]["mlp"]["down"]["kernel"].spec == PartitionSpec(None, "tensor", "fsdp")
        assert model["embed"]["tokens"].spec == PartitionSpec("tensor", "fsdp")
        assert model["blocks"]["attn_norm"]["scale"].is_fully_replicated
    assert shardings.step.is_fully_replicated
    assert shardings.key.is_fully_replicated


def test_what_is_not_split_as_its_rule_says_is_named_and_what_needs_no_splitting_is_not():
    _, notes = sharding.state_shardings(abstract_state(), AbstractMesh((1, 2, 4), sharding.AXES))
    assert sorted(notes) == [
        "model/blocks/conv/kernel (2, 4, 4) is copied to every device: no sharding rule names it",
        "model/blocks/mlp/down/kernel (2, 30, 16) is not split over tensor: 30 is not divisible by 4",
    ]
    assert sharding.state_shardings(abstract_state(), AbstractMesh((8, 1, 1), sharding.AXES))[1] == ()


# --- mistakes, and one device ---


def test_a_mesh_that_does_not_use_all_devices_is_refused_in_one_line():
    devices = jax.devices()[:1]
    with pytest.raises(ConfigError, match=r"^mesh data=1 x fsdp=2 x tensor=1 is 2 devices and there are 1; .*$"):
        sharding.make_mesh(Mesh(fsdp=2), devices)
    with pytest.raises(ConfigError, match=r"data=3 x fsdp=1 x tensor=1 is 3 devices"):
        sharding.make_mesh(Mesh(data=3), devices)


def test_a_batch_that_does_not_split_over_the_mesh_is_refused_in_one_line():
    mesh = AbstractMesh((2, 2, 2), sharding.AXES)
    sharding.check(SimpleNamespace(batch_rows=24, accumulation=3, mesh=Mesh()), mesh)
    with pytest.raises(
        ConfigError, match=r"^batch_rows=12 in accumulation=2 .* data=2 x fsdp=2 .* multiple of 8 rows$"
    ):
        sharding.check(SimpleNamespace(batch_rows=12, accumulation=2, mesh=Mesh()), mesh)


def test_on_one_device_a_batch_goes_there_and_back():
    mesh = sharding.make_mesh(Mesh(), jax.devices()[:1])
    batch = {"inputs": np.arange(6).reshape(3, 2), "weights": np.ones(3, np.float32)}
    assert sharding.process_share(mesh) == (0, 1)
    for place in (sharding.placer(mesh), sharding.placer(mesh, whole=True)):
        back = jax.tree.map(sharding.fetch, place(batch))
        jax.tree.map(np.testing.assert_array_equal, back, batch)


def test_a_layers_gradient_is_split_again_as_soon_as_it_is_there():
    mesh = AbstractMesh((1, 4, 1), sharding.AXES, axis_types=(AxisType.Auto,) * 3)

    def there_and_back(params):
        out, pull = jax.vjp(partial(sharding._layer, mesh), params)
        return pull(out)

    traced = jax.make_jaxpr(there_and_back)({"mlp": {"up": {"kernel": jax.numpy.zeros((8, 16))}}})
    specs = [eqn.params["sharding"].spec for eqn in traced.eqns if eqn.primitive.name == "sharding_constraint"]
    assert specs == [PartitionSpec("fsdp", None)]  # the gathering itself is inside a function of its own


@pytest.mark.parametrize(
    ("model", "way_out"),
    [
        (GPT(), "GPT does not compute .*; set model.remat to dots, mlp or block, or mesh.gather to update"),
        (Recurrent(), "Recurrent does not compute .*; set mesh.gather to update"),
    ],
)
def test_layers_that_are_kept_for_the_backward_pass_cannot_be_gathered_singly(model, way_out):
    mesh = sharding.make_mesh(Mesh(), jax.devices()[:1])
    run = SimpleNamespace(batch_rows=4, accumulation=1, mesh=Mesh(gather="layer"), model=model)
    with pytest.raises(ConfigError, match=way_out):
        sharding.check(run, mesh)
    sharding.check(SimpleNamespace(**{**vars(run), "model": GPT(remat="mlp")}), mesh)
