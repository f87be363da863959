"""Claims about the loop over a linear model: what is saved, judged and kept, and what a signal finds unsaved."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.config import Checkpoints, ConfigError, Evaluation, Mesh, ModelConfig, ObjectiveConfig, Run, TokenizerConfig
from gptjax.train import checkpoint, loop, sharding
from gptjax.train.optim import SGD
from gptjax.train.schedules import Constant
from gptjax.train.stop import Stopped, StopSignal
from gptjax.types import Objective

RUN = Run(
    model=ModelConfig(),
    tokenizer=TokenizerConfig(),
    objective=ObjectiveConfig(),
    optimizer=SGD(learning_rate=0.1),
    schedule=Constant(),
    steps=4,
    batch_rows=2,
    log_every_steps=1,
    evaluation=Evaluation(every_steps=2),
    checkpoints=Checkpoints(every_steps=1, keep_last=9),
)


class Judge:
    """An evaluator whose metrics are given one after another, and which does something meanwhile."""

    def __init__(self, *values, meanwhile=lambda: None):
        self.values, self.meanwhile = list(values), meanwhile

    def compile(self, params):
        """Nothing to compile."""

    def __call__(self, params, between):
        self.meanwhile()
        between()
        return {"accuracy": self.values.pop(0)}


def linear(params, batch, key):
    error_B = (batch @ params["kernel"] - 1.0) ** 2
    return jnp.sum(error_B), jnp.float32(len(error_B)), {}


def work(run=RUN, judge=None, transfer=None):
    return loop.Work(
        run=run,
        objective=Objective(lambda key: {"kernel": jax.random.normal(key, (3,))}, lambda rows: rows, linear),
        mesh=sharding.make_mesh(Mesh(), jax.devices()[:1]),
        batch=lambda step: np.random.default_rng(step).normal(size=(2, 3)).astype(np.float32),
        describe=str,
        learning_rate=lambda step: 0.1,
        evaluator=judge,
        transfer=transfer,
    )


def train(folder, parts):
    """The final state and the rows of metrics, under real signal handlers."""
    rows = []
    news = loop.Observers(lambda step: None, rows.append, lambda done, row: None, lambda line: None)
    with StopSignal() as stop:
        return loop.train(parts, folder, news, stop), rows


def abouts(folder):
    steps = checkpoint.steps(folder / "checkpoints")
    return {step: checkpoint.about(folder / "checkpoints" / str(step)) for step in steps}


def interrupt():
    """A real SIGTERM, and the moment that the watching thread needs."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.2)


def test_only_a_checkpoint_that_was_judged_carries_metrics_and_each_carries_its_own_step(tmp_path):
    train(tmp_path, work(judge=Judge(0.5, 0.25)))
    found = abouts(tmp_path)
    assert {step: one["step"] for step, one in found.items()} == {1: 1, 2: 2, 3: 3, 4: 4}
    assert [one["metrics"] for one in found.values()] == [{}, {"accuracy": 0.5}, {}, {"accuracy": 0.25}]


def test_the_best_by_accuracy_is_the_largest(tmp_path):
    run = replace(RUN, checkpoints=Checkpoints(every_steps=1, keep_last=1, keep_best="accuracy"))
    train(tmp_path, work(run, Judge(0.75, 0.5)))
    assert list(abouts(tmp_path)) == [2, 4]


@pytest.mark.parametrize(("judge", "found"), [(Judge(0.5), "it has accuracy"), (None, "none, for nothing is held out")])
def test_a_best_by_a_metric_that_there_is_not_is_refused(tmp_path, judge, found):
    run = replace(RUN, checkpoints=Checkpoints(keep_best="acuracy"))
    with pytest.raises(ConfigError, match=f"^checkpoints.keep_best='acuracy' is no metric .* {found}"):
        train(tmp_path, work(run, judge))


def test_checkpoints_that_were_deleted_never_restart_a_run_silently(tmp_path):
    train(tmp_path, work())
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(checkpoint.CheckpointError, match="the checkpoints are gone; restore them, or start another"):
        train(tmp_path, work())


def test_a_signal_during_an_evaluation_saves_first_and_the_evaluation_is_made_again(tmp_path):
    with pytest.raises(Stopped):
        train(tmp_path, work(judge=Judge(0.5, meanwhile=interrupt)))
    assert [(step, one["metrics"]) for step, one in abouts(tmp_path).items()] == [(1, {}), (2, {})]
    _, rows = train(tmp_path, work(judge=Judge(0.5, 0.25)))
    assert [row["step"] for row in rows if "split" in row] == [2, 4]
    assert abouts(tmp_path)[2]["metrics"] == {"accuracy": 0.5}


def test_a_signal_during_the_final_save_waits_for_it(tmp_path, monkeypatch):
    write_sums = checkpoint._write_sums

    def interrupted(folder):
        if folder.name == "tmp-4":
            interrupt()
        write_sums(folder)

    monkeypatch.setattr(checkpoint, "_write_sums", interrupted)
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    with pytest.raises(Stopped):
        train(tmp_path, work())
    assert not ended, "the process is not ended while a save is under way"
    assert checkpoint.damage(tmp_path / "checkpoints" / "4") is None


def test_what_a_run_takes_from_another_is_saved_before_its_first_update(tmp_path):
    def given(value):
        return lambda params: jax.tree.map(lambda leaf: jnp.full_like(leaf, value), params)

    run = replace(RUN, checkpoints=Checkpoints(every_steps=4, keep_last=9))
    expected, _ = train(tmp_path / "whole", work(run, transfer=given(3.0)))

    def stop_at_once():
        raise Stopped

    early = replace(run, evaluation=Evaluation(every_steps=1))
    with pytest.raises(Stopped):
        train(tmp_path / "part", work(early, Judge(meanwhile=stop_at_once), transfer=given(3.0)))
    shutil.rmtree(tmp_path / "part" / "checkpoints" / "1")
    state, _ = train(tmp_path / "part", work(run, transfer=given(5.0)))
    np.testing.assert_array_equal(state.params["kernel"], expected.params["kernel"])


def test_one_interrupt_that_arrives_twice_still_saves(monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda code: ended.set())
    with StopSignal() as stop:
        stop.unsaved = True
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)
        assert not ended.wait(0.1)
        assert stop.asked
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGINT)
        assert ended.wait(1.0), "asked again later, it ends at once"


COMPILING = """
    import sys
    import time
    from pathlib import Path
    from test_loop import Judge, train, work

    class Slow(Judge):
        def compile(self, params):
            print("compiling", flush=True)
            time.sleep(60)  # out of the interpreter, as a compiler is

    train(Path(sys.argv[1]), work(judge=Slow()))
"""


def test_a_signal_during_compilation_ends_the_process_at_once(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(COMPILING), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout.readline() == "compiling\n"
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "nothing was unsaved" in err
    assert time.monotonic() - asked < 5
