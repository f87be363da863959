"""Claims about memory: what is freed is there for the next update, without a fault for every page of it."""

import os
import platform
import subprocess
import sys

import pytest
from runs import huge_pages_for_the_asking

from gptjax.train import allocator

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
HELD = """
import resource
import numpy as np
from gptjax.train.allocator import keep_freed_memory

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

assert keep_freed_memory()
def array(megabytes):
    return np.full(250_000 * megabytes, 1.0, np.float32)

before, stay = peak(), []
for _ in range(5):
    large = array(100)
    stay.append(array(1))
    del large
    stay.append(array(1))
print(peak() - before)
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


def printed(program, *words, huge=False):
    """The numbers that a program prints, in a process that has asked for huge pages or not; NumPy does not for it."""
    tunables = {"GLIBC_TUNABLES": f"{allocator.HUGE_PAGES}={int(huge)}", "NUMPY_MADVISE_HUGEPAGE": "0"}
    command = [sys.executable, "-c", program, *words]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | tunables)
    return [int(line) for line in ran.stdout.split()]


@glibc
@pytest.mark.skipif(allocator.offered() == "always", reason="all pages are huge here")
def test_large_arrays_are_written_without_new_page_faults():
    """Page faults of a thread that writes two arrays of 48 MB at a time, or of 20 MB, ten in all, for a second time."""
    assert printed(FAULTS, "plain")[0] > 100
    assert max(printed(FAULTS, "kept")) < 100


@glibc
@huge_pages_for_the_asking
def test_with_huge_pages_blocks_of_20_MB_are_written_without_new_page_faults():
    assert printed(FAULTS, "plain", huge=True)[1] > 100 > printed(FAULTS, "kept", huge=True)[1]


@glibc
@pytest.mark.skipif(allocator.offered() == "never", reason="Linux gives no huge pages here")
def test_with_huge_pages_large_arrays_leave_no_holes():
    """Megabytes that a process holds at most which writes 100 MB five times over, and small things that stay."""
    assert printed(HELD, huge=True)[0] < 150
