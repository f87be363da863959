"""Claims about checkpoints, on real files."""

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.train import checkpoint
from gptjax.train.checkpoint import CheckpointError, Writer


def tree(value: float):
    return {"a": jnp.full((4, 3), value), "b": {"c": jnp.arange(5) + int(value)}}


def written(folder, steps, keep_last=10, keep_best=None, metric=lambda step: 0.0):
    writer = Writer(folder, keep_last, keep_best)
    for step in steps:
        writer.save(step, {"params": tree(step)}, {"metrics": {"nats_per_token": metric(step)}})
    writer.close()


def read(path):
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree(0))
    return checkpoint.read(path, {"params": shapes})["params"]


def flip_bit(path, position=-1):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def array_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file() and p.parent.name == "d"), key=lambda p: p.stat().st_size)


def test_what_is_saved_is_read_back_exactly(tmp_path):
    written(tmp_path, [3])
    assert checkpoint.damage(tmp_path / "3") is None
    jax.tree.map(np.testing.assert_array_equal, read(tmp_path / "3"), tree(3))


def test_the_state_may_be_overwritten_while_it_is_being_saved(tmp_path):
    overwrite = jax.jit(lambda t: jax.tree.map(lambda x: x * 0 - 1, t), donate_argnums=0)
    writer = Writer(tmp_path, 1, None)
    state = jax.tree.map(lambda x: jnp.broadcast_to(x.astype(float)[..., None], (*x.shape, 50_000)) + 0, tree(7))
    expected = jax.tree.map(np.array, state)
    writer.save(1, {"params": state}, {})
    overwrite(state)
    writer.close()
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), expected)
    found = checkpoint.read(tmp_path / "1", {"params": shapes})["params"]
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_one_flipped_bit_is_found_and_the_checkpoint_before_is_used(tmp_path):
    written(tmp_path, [1, 2, 3])
    flip_bit(array_file(tmp_path / "3"))
    said = []
    assert checkpoint.newest_intact(tmp_path, said.append) == tmp_path / "2"
    assert "checkpoint" in said[0]
    assert "differs from its SHA-256 sum" in said[0]
    assert checkpoint.steps(tmp_path) == [1, 2]
    assert (tmp_path / "3.damaged").is_dir()


def test_every_file_of_a_checkpoint_is_guarded(tmp_path):
    written(tmp_path, [1])
    for path in [p for p in (tmp_path / "1").rglob("*") if p.is_file() and p.stat().st_size]:
        content = path.read_bytes()
        flip_bit(path, len(content) // 2)
        assert checkpoint.damage(tmp_path / "1"), path
        path.unlink()
        assert checkpoint.damage(tmp_path / "1"), path
        path.write_bytes(content)
        assert checkpoint.damage(tmp_path / "1") is None


def test_a_stranger_in_a_checkpoint_is_damage(tmp_path):
    written(tmp_path, [1])
    (tmp_path / "1" / "extra").write_text("?")
    assert "extra has no SHA-256 sum" in str(checkpoint.damage(tmp_path / "1"))


def test_with_no_intact_checkpoint_nothing_restarts_silently(tmp_path):
    written(tmp_path, [1])
    flip_bit(array_file(tmp_path / "1"))
    for _ in range(2):  # the second start finds only what the first set aside
        with pytest.raises(CheckpointError, match="no intact checkpoint is left"):
            checkpoint.newest_intact(tmp_path, lambda line: None)


def test_a_reader_renames_nothing(tmp_path):
    written(tmp_path, [1, 2])
    flip_bit(array_file(tmp_path / "2"))
    assert checkpoint.newest_intact(tmp_path, lambda line: None, set_aside=False) == tmp_path / "1"
    assert checkpoint.steps(tmp_path) == [1, 2]


def test_the_last_and_the_best_are_kept(tmp_path):
    written(tmp_path, range(1, 8), keep_last=2, keep_best="nats_per_token", metric=lambda step: abs(step - 3))
    assert checkpoint.steps(tmp_path) == [3, 6, 7]


def test_other_shapes_are_refused(tmp_path):
    written(tmp_path, [1])
    wanted = {"a": jax.ShapeDtypeStruct((4, 9), jnp.float32), "b": {"c": jax.ShapeDtypeStruct((5,), jnp.int32)}}
    with pytest.raises(CheckpointError, match="does not hold what this run needs"):
        checkpoint.read(tmp_path / "1", {"params": wanted})


FULL_DISK = """
    import resource, signal, sys
    from pathlib import Path
    import jax.numpy as jnp
    from gptjax.train.checkpoint import CheckpointError, Writer

    folder = Path(sys.argv[1])
    writer = Writer(folder, 5, None)
    writer.save(1, {"params": {"a": jnp.ones(10)}}, {})
    writer.wait()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        writer.save(2, {"params": {"a": jnp.arange(1_000_000.0) ** 0.5}}, {})
        writer.wait()
    except CheckpointError as error:
        print(error)
"""


def test_a_disk_that_takes_no_more_is_an_error_and_the_older_checkpoint_stays(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "a checkpoint could not be saved" in result.stdout, result.stderr[-2000:]
    assert "checkpoint 1 is intact" in result.stdout
    assert checkpoint.steps(tmp_path) == [1]
    assert checkpoint.damage(tmp_path / "1") is None
    assert not list(tmp_path.glob("tmp-*"))


KILLED = """
    import sys
    from pathlib import Path
    import jax.numpy as jnp
    from gptjax.train.checkpoint import Writer

    writer = Writer(Path(sys.argv[1]), 3, None)
    for step in range(1, 1000):
        writer.save(step, {"params": {"a": jnp.full(200_000, step), "b": {"c": jnp.arange(5)}}}, {})
        print(step, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 2, 4])
def test_a_kill_in_the_middle_of_a_save_leaves_an_intact_checkpoint(tmp_path, lines):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(lines):
        process.stdout.readline()
    process.kill()
    process.wait()
    found = checkpoint.newest_intact(tmp_path, lambda line: pytest.fail(line))
    assert found is None or int(found.name) >= lines - 1
    Writer(tmp_path, 3, None).close()
    assert not list(tmp_path.glob("tmp-*"))


class Killed(BaseException):
    """Stands for a kill: nothing in the code under test catches it, so nothing after it runs."""


def killed_at_call(number, monkeypatch, act):
    """Run `act` and end it before its n-th rename or deletion, deletions half done; False where it had fewer calls."""
    calls = iter(range(number))
    rename, rmtree = checkpoint.Path.rename, checkpoint.shutil.rmtree

    def renamed(path, target):
        if next(calls, None) is None:
            raise Killed
        return rename(path, target)

    def removed(path, **options):
        if next(calls, None) is None:
            next(p for p in sorted(path.rglob("*")) if p.is_file()).unlink()
            raise Killed
        rmtree(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint.Path, "rename", renamed)
        patched.setattr(checkpoint.shutil, "rmtree", removed)
        try:
            act()
        except Killed:
            return True
    return False


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_kill_while_the_only_checkpoint_is_replaced_leaves_the_old_one_or_the_new_one(tmp_path, monkeypatch, number):
    folder = tmp_path / "checkpoints"
    written(folder, [1])
    written(tmp_path / "new", [1], metric=lambda step: 0.5)
    new = (tmp_path / "new" / "1").rename(folder / "tmp-1")
    assert killed_at_call(number, monkeypatch, lambda: checkpoint._replace(new, folder / "1"))
    found = checkpoint.newest_intact(folder, pytest.fail)
    assert found == folder / "1"
    assert checkpoint.about(found)["metrics"]["nats_per_token"] == (0.5 if number == 2 else 0.0)
    written(folder, [2])
    assert sorted(p.name for p in folder.iterdir()) == ["1", "2"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_kill_while_old_checkpoints_are_deleted_leaves_whole_ones_and_pruning_goes_on(tmp_path, monkeypatch, number):
    written(tmp_path, [1, 2, 3])
    writer = Writer(tmp_path, 1, "nats_per_token")
    (tmp_path / "2" / "about.json").write_text("{")  # whatever it was judged by, it does not say
    assert killed_at_call(number, monkeypatch, writer._prune) == (number < 2)
    writer.close()
    assert {"1", "3"} <= {p.name for p in tmp_path.iterdir()}
    written(tmp_path, [4], keep_last=1, keep_best="nats_per_token", metric=lambda step: -1.0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["4"]
