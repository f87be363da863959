import json
import struct
import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptjax.config import ConfigError
from gptjax.train import log
from gptjax.train.folder import FolderError
from gptjax.train.log import MetricsFile


def steps(path):
    return [row["step"] for row in log.rows(path)]


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    for step in range(1, 6):
        metrics.append({"step": step, "loss_nats": 1.0 / step})
    yield path, metrics
    metrics.close()


@settings(max_examples=50, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_come_back_bit_for_bit(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("log") / "metrics.jsonl"
    metrics = MetricsFile(path)
    metrics.append({"step": 1, "double": value, "single": np.float32(0.1)})
    row = log.rows(path)[0]
    assert struct.pack("d", row["double"]) == struct.pack("d", value)
    assert np.float32(row["single"]) == np.float32(0.1)


def test_numbers_that_are_not_finite_are_null_and_the_row_is_valid_json(tmp_path):
    path = tmp_path / "metrics.jsonl"
    MetricsFile(path).append({"step": 1, "loss_nats": float("nan"), "grad_norm": np.float32("inf"), "skipped": 1})

    def refuse(constant):
        raise AssertionError(constant)

    row = json.loads(path.read_text(), parse_constant=refuse)
    assert row == {"step": 1, "loss_nats": None, "grad_norm": None, "skipped": 1}


def test_a_row_can_be_read_as_soon_as_it_is_appended(written):
    path, _ = written
    assert steps(path) == [1, 2, 3, 4, 5]


def test_rows_beyond_the_resumed_step_are_forgotten_and_the_next_follow(written):
    path, metrics = written
    before = path.read_bytes().splitlines(keepends=True)
    metrics.truncate_after(3)
    assert path.read_bytes() == b"".join(before[:3])
    metrics.append({"step": 4, "loss_nats": 0.25})
    assert steps(path) == [1, 2, 3, 4]


def test_a_row_torn_by_a_kill_is_forgotten_on_resume(written):
    path, metrics = written
    metrics.close()
    with path.open("ab") as file:
        file.write(b'{"step": 3, "loss_na')
    assert steps(path) == [1, 2, 3, 4, 5]
    again = MetricsFile(path)
    again.truncate_after(5)
    again.append({"step": 6, "loss_nats": 0.1})
    again.close()
    assert steps(path) == [1, 2, 3, 4, 5, 6]


def test_an_evaluation_repeated_after_a_kill_is_written_once(tmp_path):
    path, row = tmp_path / "metrics.jsonl", {"step": 5, "split": "validation", "nats_per_token": 1.5}
    metrics = MetricsFile(path)
    metrics.append({"step": 5, "loss_nats": 1.0})
    metrics.append(row)
    metrics.close()
    again = MetricsFile(path)
    again.truncate_after(5)
    again.append(row)
    again.append({"step": 6, "loss_nats": 1.0})
    again.close()
    assert steps(path) == [5, 5, 6]


@pytest.mark.parametrize("row", ['{"loss_nats": 1}', '{"step": "x"}', '{"step": null}', "[1]", "{"])
def test_a_damaged_row_is_refused_by_file_and_line(written, row):
    path, metrics = written
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], row + "\n", *lines[2:]]))
    with pytest.raises(FolderError, match=r"metrics\.jsonl:3: is not a row"):
        metrics.truncate_after(4)
    assert len(path.read_text().splitlines()) == 6


def test_truncation_leaves_the_whole_file_or_the_new_one(written, monkeypatch):
    path, metrics = written
    monkeypatch.setattr(log.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        metrics.truncate_after(2)
    assert steps(path) == [1, 2, 3, 4, 5]


def events(folder):
    """The TensorBoard events of a folder: (length, checksum, message, checksum) records one after another."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            yield Event.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length


def test_tensorboard_gets_the_numbers_of_each_split_and_what_it_replaces_is_hidden(tmp_path):
    board = log.tensorboard(tmp_path / "tensorboard")
    board({"step": 7, "loss_nats": 1.5, "batch": "ab12", "mfu": None})
    board({"step": 7, "split": "validation", "nats_per_token": 2.5})
    board.close()
    found = list(events(tmp_path / "tensorboard"))
    values = {v.tag: (event.step, v.simple_value) for event in found for v in event.summary.value}
    assert values == {"train/loss_nats": (7, 1.5), "validation/nats_per_token": (7, 2.5)}
    assert [event.step for event in found if event.session_log.status == 1] == [7]


def test_a_tracker_that_never_got_a_row_can_be_closed(tmp_path):
    log.tensorboard(tmp_path / "tensorboard").close()
    assert not (tmp_path / "tensorboard").exists()


def fake_wandb(calls):
    run = types.SimpleNamespace(
        define_metric=lambda *a, **k: calls.append(("define", a, k)),
        log=lambda values: calls.append(("log", values)),
        finish=lambda: calls.append(("finish",)),
    )

    def init(**kwargs):
        calls.append(("init", kwargs))
        return run

    return types.SimpleNamespace(init=init)


def test_wandb_continues_the_run_of_the_same_name_and_config_and_no_other(monkeypatch):
    calls = []
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(calls))
    tracker = log.wandb("lab", "tiny", {"seed": 1})
    tracker({"step": 3, "loss_nats": 1.5, "batch": "ab"})
    tracker.close()
    log.wandb("lab", "tiny", {"seed": 1})
    log.wandb("lab", "tiny", {"seed": 2})
    first, second, third = (kwargs["id"] for name, *rest in calls if name == "init" for kwargs in rest)
    assert first == second != third
    assert ("log", {"step": 3, "train/loss_nats": 1.5}) in calls
    assert ("finish",) in calls


def test_wandb_that_is_not_installed_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"^Weights & Biases is not installed; pip install [^\n]+$"):
        log.wandb("lab", "tiny", {})
