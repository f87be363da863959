"""Claims about memory: what is freed is there for the next update, without a fault for every page of it."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")

FAULTS = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from gptjax.train.allocator import keep_freed_memory

def written(floats):
    for _ in range(5):
        [np.full(floats, 1.0, np.float32) for _ in range(2)]

with ThreadPoolExecutor(1) as thread:
    if sys.argv[1] == "late":
        thread.submit(written, 10).result()
    if sys.argv[1] != "plain":
        print(keep_freed_memory())
    for floats in (12_000_000, 5_000_000):
        thread.submit(written, floats).result()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        thread.submit(written, floats).result()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
LATE = """
import sys
from dataclasses import replace
from pathlib import Path
import jax
from targets import small
from gptjax.arguments import reading
from gptjax.launch import launch

jax.devices()
launch(replace(reading(small(), sys.argv[2:]), steps=6), Path(sys.argv[1]) / "run", Path(sys.argv[1]) / "cache", print)
"""


def lines(program, *arguments, **options):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout.splitlines()


def faults(how):
    """Page faults of a thread that writes two arrays of 48 MB at a time, or of 20 MB, ten in all, for a second time."""
    return [int(line) for line in lines(FAULTS, how)[-2:]]


def test_large_arrays_are_written_without_new_page_faults():
    assert faults("plain")[0] > 100
    assert max(faults("kept")) < 100


def test_what_was_asked_too_late_to_help_is_known_and_said(text, tmp_path):
    assert faults("late")[0] > 100
    assert "threads have heaps of their own" in lines(FAULTS, "late")[0]
    said = lines(LATE, tmp_path, text, cwd=Path(__file__).parents[1])
    assert sum("from the system anew" in line for line in said) == 1
