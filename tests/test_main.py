"""Claims about the start of the program: huge pages where Linux gives them for the asking, and nothing else changes."""

import os
import subprocess
import sys

import pytest

from gptjax import __main__ as start

PROGRAM = """
import os, sys
import numpy as np
from gptjax import __main__ as start

print(os.getpid(), *sys.argv[1:], flush=True)
start.with_huge_pages()
large = np.ones(25_000_000, np.float32)
huge = next(line for line in open("/proc/self/smaps_rollup") if line.startswith("AnonHugePages"))
print(os.environ.get("GLIBC_TUNABLES"), int(huge.split()[1]) // 1024)
"""
NOT_ASKED = f"{start.HUGE_PAGES}=0"
offered = pytest.mark.skipif(not start._for_the_asking(), reason="Linux gives huge pages to all or to none here")


def started(tmp_path, tunables=None):
    """What a program prints that begins as `gptjax` does, with an environment of its own."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    if tunables is not None:
        environment["GLIBC_TUNABLES"] = tunables
    ran = subprocess.run(
        [sys.executable, program, "one", "two words"], env=environment, capture_output=True, text=True, check=True
    )
    return ran.stdout.splitlines()


@offered
def test_a_program_starts_again_once_as_the_same_process_with_the_same_arguments(tmp_path):
    first, second, _ = started(tmp_path)
    assert first == second
    assert first.endswith("one two words")


@offered
def test_large_arrays_then_lie_in_huge_pages(tmp_path):
    tunables, megabytes = started(tmp_path)[-1].split()
    assert tunables == f"{start.HUGE_PAGES}=1"
    assert int(megabytes) > 80


@offered
def test_other_tunables_stay(tmp_path):
    assert started(tmp_path, "glibc.malloc.top_pad=4096")[-1].startswith(
        f"glibc.malloc.top_pad=4096:{start.HUGE_PAGES}=1 "
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the program reads Linux's account of a process")
def test_who_has_said_no_is_not_asked_again(tmp_path):
    _, last = started(tmp_path, NOT_ASKED)
    assert last.split()[0] == NOT_ASKED


def test_nothing_starts_again_where_huge_pages_are_not_for_the_asking(monkeypatch, tmp_path):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("started again"))
    for text in ("[always] madvise never", "always madvise [never]", None):
        file = tmp_path / str(text)
        if text is not None:
            file.write_text(text)
        monkeypatch.setattr(start, "_OFFERED", file)
        start.with_huge_pages()
    assert "GLIBC_TUNABLES" not in os.environ
