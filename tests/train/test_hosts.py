"""Claims about a job of several real processes."""

import signal
import socket

import numpy as np
from runs import TARGETS, finished, gptjax, reached, rows

from gptjax.train import checkpoint


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes_train_the_run_of_one_and_one_process_can_go_on_from_there(text, tmp_path):
    command = ("train", f"{TARGETS}:small", "--data", text, "--cache", tmp_path / "cache", "--steps", "40")
    alone, together = tmp_path / "alone", tmp_path / "together"
    finished(gptjax(*command, "--out", alone))
    hosts = ("--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2")
    processes = [gptjax(*command, "--out", together, *hosts, "--process", i, devices=2) for i in range(2)]
    for process in processes:
        finished(process)
    assert checkpoint.steps(together / "checkpoints") == checkpoint.steps(alone / "checkpoints")
    assert len(rows(together)) == len(rows(alone))
    for one, both in zip(rows(alone), rows(together), strict=True):
        assert one["step"] == both["step"]
        for name in ("loss_nats", "nats_per_token"):
            if name in one:
                np.testing.assert_allclose(one[name], both[name], rtol=2e-4)
        assert one.get("batch") == both.get("batch"), "the same global batch, whoever feeds it"
    _, err = finished(gptjax(*command, "--out", together))
    assert "already trained" in err


def test_a_signal_to_one_of_two_processes_stops_both_at_the_same_update_and_saves(text, tmp_path):
    run = tmp_path / "run"
    command = ("train", f"{TARGETS}:small", "--data", text, "--cache", tmp_path / "cache", "--steps", "1000")
    hosts = ("--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2")
    processes = [gptjax(*command, "--out", run, *hosts, "--process", i, devices=2) for i in range(2)]
    reached(processes[0], run, 20)
    processes[1].send_signal(signal.SIGTERM)
    for process in processes:
        finished(process, code=130)
    assert checkpoint.steps(run / "checkpoints")[-1] == rows(run)[-1]["step"] >= 20
    assert checkpoint.newest_intact(run / "checkpoints", print) is not None


def together(*words, ports, **options):
    hosts = ("--coordinator", f"127.0.0.1:{ports}", "--processes", "2")
    return [gptjax(*words, *hosts, "--process", i, **options) for i in range(2)]


def test_a_folder_that_the_first_process_refuses_is_refused_by_all(text, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "letter.txt").write_text("dear reader")
    command = ("train", f"{TARGETS}:small", "--data", text, "--cache", tmp_path / "cache", "--out", tmp_path / "run")
    for process in together(*command, ports=free_port()):
        _, err = finished(process, code=2)
        assert "holds letter.txt but no config.json" in err


def test_data_that_one_process_cannot_read_stop_the_others_in_its_words(text, tmp_path):
    hosts = ("--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2")
    command = ("train", f"{TARGETS}:small", "--cache", tmp_path / "cache", "--out", tmp_path / "run", *hosts)
    here = gptjax(*command, "--data", text, "--process", 0)
    there = gptjax(*command, "--data", tmp_path / "absent.txt", "--process", 1)
    assert "process 1: " in (err := finished(here, code=2)[1])
    assert "absent.txt" in err
    assert "absent.txt" in finished(there, code=2)[1]
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_checkpoint_folder_without_an_intact_checkpoint_stops_all(text, tmp_path):
    run = tmp_path / "run"
    command = (
        "train",
        f"{TARGETS}:small",
        "--data",
        text,
        "--cache",
        tmp_path / "cache",
        "--steps",
        "20",
        "--out",
        run,
    )
    finished(gptjax(*command))
    for sums in run.glob("checkpoints/*/SHA256SUMS"):
        sums.unlink()
    for process in together(*command, ports=free_port()):
        assert "no intact checkpoint is left" in finished(process, code=1)[1]
