"""Small real runs in processes of their own, for the tests that interrupt, resume and misuse them."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gptjax.plan import devices
from gptjax.train import allocator

TARGETS = Path(__file__).parent / "targets.py"
huge_pages_for_the_asking = pytest.mark.skipif(
    allocator.offered() != "madvise", reason="Linux gives huge pages to all or to none here"
)
compiles_for_a_tpu = pytest.mark.skipif(bool(devices.missing("tpu")), reason="compiling for a TPU needs libtpu")
compiles_for_a_gpu = pytest.mark.skipif(
    bool(devices.missing("gpu")), reason="compiling for a GPU needs the CUDA compiler packages"
)


def gptjax(*words: str | Path, devices: int = 1, **options) -> subprocess.Popen:
    """`gptjax WORDS` as a process of its own, on so many virtual CPU devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "gptjax", *map(str, words)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **(streams | options))


def finished(process: subprocess.Popen, code: int = 0) -> tuple[str, str]:
    """(stdout, stderr) of a process that must end with this exit code."""
    out, err = process.communicate(timeout=180)
    assert process.returncode == code, f"exit code {process.returncode}\n{out[-1000:]}\n{err[-3000:]}"
    return out, err


def rows(run: Path) -> list[dict]:
    """The whole lines of a run's metrics."""
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def reached(process: subprocess.Popen, run: Path, step: int) -> subprocess.Popen:
    """The process, as soon as its run has logged `step`."""
    deadline = time.monotonic() + 170
    while not any(row["step"] >= step for row in rows(run)):
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def killed_at(process: subprocess.Popen, run: Path, step: int) -> int:
    """Kill a process as soon as its run has logged `step`; gives the exit code."""
    reached(process, run, step).kill()
    process.communicate(timeout=60)
    return process.returncode


def results(run: Path) -> list[tuple]:
    """What a run logged, without its clocks and counters of memory."""
    noise = {
        "step_seconds",
        "update_seconds",
        "host_wait_share",
        "memory_bytes",
        "tokens_per_second",
        "mfu",
        "mfu_causal",
    }
    return [tuple(sorted((k, v) for k, v in row.items() if k not in noise)) for row in rows(run)]
