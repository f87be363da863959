"""Claims about plans: state is exact arithmetic, what fits depends on the memory, advice has been compiled."""

import json
from dataclasses import replace

import jax
import pytest
from runs import TARGETS, compiles_for_a_gpu, compiles_for_a_tpu, finished, gptjax
from targets import small

from gptjax.cli import run_verb
from gptjax.config import ConfigError, Mesh, Run
from gptjax.plan import advice, compiled, devices, estimate, machines, roofline, vocabulary
from gptjax.plan.flops import Flops
from gptjax.plan.program import Collective, Traffic
from gptjax.train.optim import SGD

pytestmark = pytest.mark.usefixtures("optimised")

SMALL = f"{TARGETS}:small"
PRETRAIN = TARGETS.parents[1] / "experiments" / "pretrain.py"


def plans(*words, code=0) -> list[dict]:
    """What `gptjax plan --json` says in a process of its own: one object and nothing else, and no other noise."""
    out, err = finished(gptjax("plan", *words, "--json"), code)
    assert out.count("\n") == 1
    assert all(line.startswith("gptjax: ") for line in err.splitlines()), err
    return json.loads(out)["plans"]


@pytest.fixture(scope="module")
def one() -> dict:
    """The plan of a run split over four of eight devices."""
    options = ("--mesh.fsdp", "4", "--accumulation", "1", "--data.packing", "documents", "--model.dropout", "0")
    (found,) = plans(SMALL, "--topology", "cpu:8", *options)
    return found


def test_parameters_and_optimizer_are_exact_arithmetic(one):
    model = small().model.build(256, 256)
    sizes = jax.tree_util.tree_leaves_with_path(jax.eval_shape(model.init, jax.random.key(0)))
    split = sum(leaf.size for path, leaf in sizes if "kernel" in str(path) or "embed" in str(path))
    whole = sum(leaf.size for _, leaf in sizes) - split
    of_device = 4 * (split // 4 + whole)
    assert one["parameters"] == split + whole
    assert one["memory"]["params"] == one["memory"]["average"] == of_device
    assert one["memory"]["optimizer"] == 2 * of_device + 4 + 4  # two moments, and two counts of updates
    assert one["memory"]["batch"] == 5 * 16 * 4  # inputs, targets, weights, segments and positions of one row


def test_a_plan_tells_all_that_is_known(one):
    assert (one["devices"], one["mesh"]) == (8, {"data": 2, "fsdp": 4, "tensor": 1})
    assert one["memory"]["fits"]
    assert one["memory"]["needed"] >= sum(one["memory"][k] for k in ("params", "optimizer", "average", "temporaries"))
    assert {"all-gather", "all-reduce"} <= {c["kind"] for c in one["collectives"]}
    assert all(c["group"] in (2, 4, 8) for c in one["collectives"])
    assert one["step_seconds"] is None
    assert "no prediction" in one["basis"]
    assert any("attention: dense" in note for note in one["notes"])


def compile_here(run):
    """The run's update on one device of this machine."""
    return compiled.update(run, vocabulary.tokenizer(run, None)[0], devices.of(machines.parse("cpu:1")))


def estimated(run, made, room):
    """The estimate of a compiled run where a device has so much memory."""
    topology = machines.parse("cpu:1")
    topology = topology._replace(chip=replace(topology.chip, memory_bytes=room))
    return estimate.estimate("small", run, topology, made, "", None)


@pytest.fixture(scope="module")
def run() -> Run:
    """A run that compiles in a moment."""
    base = replace(small(), ema_decay=None, mesh=Mesh(data=1), batch_rows=64, optimizer=SGD())
    return replace(base, model=replace(base.model, dropout=0.0))


@pytest.fixture(scope="module")
def made(run) -> compiled.Compiled:
    """It, compiled."""
    return compile_here(run)


def test_what_fits_depends_on_the_memory(run, made):
    needed = estimated(run, made, 2**40).memory.needed
    assert estimated(run, made, needed).memory.fits
    assert not estimated(run, made, needed - 1).memory.fits


def test_advice_is_what_the_compiler_agrees_to(run, made, monkeypatch):
    monkeypatch.setattr(advice, "REMAT", ("none", "block"))
    room = round(0.7 * estimated(run, made, 2**40).memory.needed)
    found = []

    def needs(changed):
        memory = estimated(changed, compile_here(changed), room).memory
        found.append(memory.fits)
        return memory.fits, memory.needed

    said = advice.advise(run, estimated(run, made, room), needs, lambda line: None)
    assert len([line for line in said if " fits: " in line]) == sum(found)
    assert any(line.startswith("--accumulation") for line in said)
    assert any(line.startswith("--batch-rows") for line in said)


def test_rematerialisation_is_advised_from_mild_to_strong(run, made):
    changes = dict(advice.kinds(run, estimated(run, made, 2**40)))["recomputation"]
    assert [change.words.split()[-1] for change in changes] == ["dots", "mlp", "block"]


def test_a_state_that_leaves_no_room_is_only_ever_split(run, made):
    none = estimated(run, made, 10_000)
    assert list(advice.kinds(run, none)) == []
    (kind, changes), *rest = advice.kinds(run, replace(none, devices=4))
    assert (kind, changes[0].words, rest) == ("splitting parameters", "--mesh.data 1 --mesh.fsdp 4", [])


def test_layers_that_are_looped_over_are_advised_to_be_gathered_one_at_a_time(run, made):
    looped = replace(run, model=replace(run.model, scan=True, remat="dots"))
    four = replace(estimated(run, made, 2**40), devices=4)

    def advised(run):
        return [change.words for change in dict(advice.kinds(run, four)).get("splitting parameters", ())]

    split, block, layer = "--mesh.data 1 --mesh.fsdp 4", "--model.remat block", "--mesh.gather layer"
    assert advised(run) == [split, f"{split} {block}"]
    assert advised(looped) == [split, f"{split} {layer}", f"{split} {block}", f"{split} {block} {layer}"]
    assert advised(replace(looped, mesh=Mesh(data=1, fsdp=4))) == [layer, f"{block} {layer}"]
    assert advised(replace(looped, mesh=Mesh(data=1, fsdp=4, gather="layer"))) == []


def test_times_are_the_data_sheets_and_lie_in_order():
    work = roofline.Work(Flops(989e12, 0.0), Traffic(0.0, 4800e9), [Collective("all-reduce", 1, 225e9, 8)])
    low, expected, high = roofline.predict(machines.parse("h200:8"), "bfloat16", work)
    assert low == pytest.approx(2.0)  # a second of products and one of memory; the links' is hidden
    assert high == pytest.approx(1 / 0.45 + 1 / 0.5 + 225 * 2 * 7 / 8 / 450 / 0.35)
    assert low < expected < high
    assert roofline.predict(machines.parse("h200:8"), "float32", work).low == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "plan"),
        ((SMALL, "--topology", "h300:8"), "there is no chip 'h300'"),
        ((SMALL, "--topology", "v5e:4x4", "--mesh.data", "3"), "make the product 16"),
        ((f"{TARGETS}:task", "--topology", "cpu:1", "--model.context", "5"), "context=5 leaves no room for a text"),
    ],
)
def test_a_mistake_is_one_line(capfd, words, message):
    if "v5e:4x4" in words and devices.missing("tpu"):
        pytest.skip("compiling for a TPU needs libtpu")
    assert run_verb(["plan", *words]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_program_that_jax_cannot_read_is_refused_with_the_way_out(run, made, monkeypatch):
    def fails(self):
        raise jax.errors.JaxRuntimeError("INTERNAL: sees 3\nsource line")

    monkeypatch.setattr(type(made.executable), "as_text", fails)
    refusal = r"--topology cpu:1: jax \S+ cannot read .*; install .*pip install 'gptjax\[plan\]' \(INTERNAL: sees 3\)$"
    with pytest.raises(ConfigError, match=refusal):
        estimated(run, made, 2**40)


def test_two_topologies_make_one_table():
    out, _ = finished(gptjax("plan", SMALL, "--topology", "cpu:1", "cpu:2", "--model.dropout", "0"))
    header = next(line for line in out.splitlines() if "cpu:1" in line)
    assert "cpu:2" in header
    assert "activations and temporaries" in out


@compiles_for_a_tpu
def test_a_run_is_planned_for_a_tpu_that_is_not_here():
    (found,) = plans(f"{PRETRAIN}:tiny", "--topology", "v5e:2x2", "--precision", "bfloat16")
    assert found["devices"] == 4
    assert found["memory"]["fits"]
    assert found["memory"]["capacity"] == round(15.75 * 2**30)
    assert {c["kind"] for c in found["collectives"]} == {"all-reduce", "all-gather"}  # of gradients; of what Muon made
    times = found["step_seconds"]
    assert 0 < times["low"] < times["expected"] < times["high"]
    assert "not measured" in found["basis"]


@compiles_for_a_gpu
def test_a_run_is_planned_for_a_gpu_that_is_not_here():
    (found,) = plans(f"{PRETRAIN}:tiny", "--topology", "h200:2", "--precision", "bfloat16")
    assert found["memory"]["fits"]
    assert any("attention: cudnn" in note for note in found["notes"])
    assert found["flops"]["kernels"] > 0
