"""Claims about interruption, on real processes that are really killed."""

import signal
import time

import jax
import numpy as np
import pytest
from runs import TARGETS, finished, gptjax, killed_at, reached, results, rows

from gptjax.train import checkpoint


def command(text, folder, name="small"):
    return ("train", f"{TARGETS}:{name}", "--data", text, "--out", folder, "--cache", text.parent / "cache")


def final_arrays(folder) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint, read without knowing what it should be."""
    import orbax.checkpoint as ocp

    path = checkpoint.newest_intact(folder / "checkpoints", pytest.fail)
    found = {}
    for item in ("params", "training"):
        tree = ocp.StandardCheckpointer().restore((path / item).absolute())
        for key, leaf in jax.tree_util.tree_leaves_with_path(tree):
            found[item + jax.tree_util.keystr(key)] = np.asarray(leaf)
    return found


@pytest.fixture(scope="module")
def uninterrupted(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    finished(gptjax(*command(text, folder)))
    return folder


def assert_equal_runs(folder, other):
    assert results(folder) == results(other)
    first, second = final_arrays(folder), final_arrays(other)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_a_run_killed_twice_equals_the_uninterrupted_run_bit_for_bit(text, tmp_path, uninterrupted):
    folder = tmp_path / "run"
    for step in (22, 71):
        assert killed_at(gptjax(*command(text, folder)), folder, step) == -signal.SIGKILL
    finished(gptjax(*command(text, folder)))
    assert_equal_runs(folder, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_exits_and_the_run_continues_exactly(text, tmp_path, uninterrupted, number):
    folder = tmp_path / "run"
    process = reached(gptjax(*command(text, folder)), folder, 37)
    asked = time.monotonic()
    process.send_signal(number)
    finished(process, code=130)
    assert time.monotonic() - asked < 30
    stopped = checkpoint.steps(folder / "checkpoints")[-1]
    assert stopped == rows(folder)[-1]["step"] >= 37, "the checkpoint is of the step that was reached"
    finished(gptjax(*command(text, folder)))
    assert_equal_runs(folder, uninterrupted)


def test_a_flipped_bit_in_the_newest_checkpoint_is_found_and_the_run_ends_the_same(text, tmp_path, uninterrupted):
    folder = tmp_path / "run"
    killed_at(gptjax(*command(text, folder)), folder, 50)
    newest = folder / "checkpoints" / str(checkpoint.steps(folder / "checkpoints")[-1])
    largest = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 4
    largest.write_bytes(content)
    _, err = finished(gptjax(*command(text, folder)))
    assert "is damaged" in err
    assert f"{newest.name}.damaged" in err
    assert_equal_runs(folder, uninterrupted)


def test_a_run_continues_on_another_number_of_devices_within_float_tolerance(text, tmp_path, uninterrupted):
    folder = tmp_path / "run"
    killed_at(gptjax(*command(text, folder)), folder, 50)
    finished(gptjax(*command(text, folder), devices=4))
    expected = {row["step"]: row["loss_nats"] for row in rows(uninterrupted) if "loss_nats" in row}
    for row in rows(folder):
        if "loss_nats" in row:
            np.testing.assert_allclose(row["loss_nats"], expected[row["step"]], rtol=2e-4)


def test_a_finished_run_has_nothing_to_do(text, uninterrupted):
    before = results(uninterrupted)
    _, err = finished(gptjax(*command(text, uninterrupted)))
    assert "already trained" in err
    assert results(uninterrupted) == before


def test_a_second_writer_and_another_config_are_refused(text, tmp_path, uninterrupted):
    folder = tmp_path / "run"
    process = gptjax(*command(text, folder))
    while not (folder / "config.json").exists():
        time.sleep(0.01)
    _, err = finished(gptjax(*command(text, folder)), code=2)
    assert f"process {process.pid} is writing there" in err
    process.kill()
    process.communicate()
    _, err = finished(gptjax(*command(text, uninterrupted), "--seed", "3"), code=2)
    assert "holds another run (seed: 0 -> 3)" in err
    assert len(err.strip().splitlines()) == 1


def test_changed_data_is_refused(text, tmp_path):
    own = tmp_path / "own.txt"
    own.write_text(text.read_text())
    folder = tmp_path / "run"
    arguments = ("train", f"{TARGETS}:small", "--data", own, "--out", folder, "--cache", tmp_path / "cache")
    killed_at(gptjax(*arguments), folder, 3)
    own.write_text(text.read_text().replace("no more", "no less"))
    _, err = finished(gptjax(*arguments), code=2)
    assert "began with data" in err


def test_updates_that_are_not_finite_are_skipped_and_end_the_run_with_exit_code_1(text, tmp_path):
    folder = tmp_path / "run"
    options = ("--optimizer.learning-rate", "1e15", "--clip-norm", "None", "--abort-after-skips", "4")
    _, err = finished(gptjax(*command(text, folder), *options, "--checkpoints.every-steps", "1"), code=1)
    assert "4 updates in a row" in err
    last = rows(folder)[-1]
    assert last["skipped_in_a_row"] == 4
    assert last["loss_nats"] is None
    saved = checkpoint.steps(folder / "checkpoints")
    assert saved[-1] == last["step"] - 1, "saved while its updates were being skipped"
    for step in saved:
        assert checkpoint.about(folder / "checkpoints" / str(step))["step"] == step
    for name, array in final_arrays(folder).items():
        assert np.isfinite(array).all(), name
