"""Claims about memory: what is freed is there for the next update, without a fault for every page of it."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from gptjax.train.allocator import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()

def written(floats):
    for _ in range(5):
        [np.full(floats, 1.0, np.float32) for _ in range(2)]

with ThreadPoolExecutor(1) as thread:
    for floats in (12_000_000, 5_000_000):
        thread.submit(written, floats).result()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        thread.submit(written, floats).result()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    """Page faults of a thread that writes two arrays of 48 MB at a time, or of 20 MB, ten in all, for a second time."""
    ran = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return [int(line) for line in ran.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_large_arrays_are_written_without_new_page_faults():
    assert faults("plain")[0] > 100
    assert max(faults("kept")) < 100
