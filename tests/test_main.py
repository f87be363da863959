"""Claims about the start of the program: huge pages where Linux gives them for the asking, and nothing else changes."""

import os
import subprocess
import sys

import pytest
from runs import huge_pages_for_the_asking

from gptjax import __main__ as start
from gptjax.train import allocator

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
NOT_ASKED = f"{allocator.HUGE_PAGES}=0"


def started(tmp_path, tunables=None):
    """What a program prints that begins as `gptjax` does, with an environment of its own."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    return printed(program, "one", "two words", env=environment(tunables)).splitlines()


def printed(*words, env, typed=None):
    """What Python prints that is started with these words."""
    command = [sys.executable, *words]
    return subprocess.run(command, env=env, input=typed, capture_output=True, text=True, check=True, timeout=60).stdout


def environment(tunables=None):
    """This one as a user has it, in which NumPy does not ask for huge pages itself."""
    kept = {key: value for key, value in os.environ.items() if key not in ("GLIBC_TUNABLES", start.STARTED)}
    asked = {} if tunables is None else {"GLIBC_TUNABLES": tunables}
    return kept | asked | {"NUMPY_MADVISE_HUGEPAGE": "0"}


@huge_pages_for_the_asking
def test_a_program_starts_again_once_as_the_same_process_with_the_same_arguments(tmp_path):
    first, second, _ = started(tmp_path)
    assert first == second
    assert first.endswith("one two words")


@huge_pages_for_the_asking
def test_large_arrays_then_lie_in_huge_pages(tmp_path):
    tunables, megabytes = started(tmp_path)[-1].split()
    assert tunables == f"{allocator.HUGE_PAGES}=1"
    assert int(megabytes) > 80


@huge_pages_for_the_asking
def test_other_tunables_stay(tmp_path):
    assert started(tmp_path, "glibc.malloc.top_pad=4096")[-1].startswith(
        f"glibc.malloc.top_pad=4096:{allocator.HUGE_PAGES}=1 "
    )


@huge_pages_for_the_asking
def test_a_program_whose_tunables_are_taken_away_does_not_start_for_ever(tmp_path):
    thief = tmp_path / "sitecustomize.py"
    thief.write_text("import os\nos.environ.pop('GLIBC_TUNABLES', None)")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    without = environment() | {"PYTHONPATH": str(tmp_path)}
    assert len(printed(program, env=without).splitlines()) == 3


@huge_pages_for_the_asking
def test_the_command_starts_so_with_all_that_python_was_told(tmp_path):
    cli = "import os, sys\n\ndef main():\n    print(os.environ['GLIBC_TUNABLES'], sys.flags.dev_mode, *sys.argv[1:])"
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, types\n"
        "cli = types.ModuleType('gptjax.cli')\n"
        f"exec({cli!r}, cli.__dict__)\n"
        "sys.modules['gptjax.cli'] = cli\n"
        "from gptjax.__main__ import main\n"
        "main()\n"
    )
    found = printed("-X", "dev", program, "train", "two words", env=environment())
    assert found.strip() == f"{allocator.HUGE_PAGES}=1 True train two words"


@huge_pages_for_the_asking
@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_a_program_from_a_pipe_runs_as_it_is(name):
    program = "from gptjax import __main__ as start; start.with_huge_pages(); print('here')"
    assert printed(name, env=environment(), typed=program) == "here\n"


@pytest.mark.skipif(sys.platform != "linux", reason="the program reads Linux's account of a process")
def test_who_has_said_no_is_not_asked_again(tmp_path):
    _, last = started(tmp_path, NOT_ASKED)
    assert last.split()[0] == NOT_ASKED


def test_nothing_starts_again_where_huge_pages_are_not_for_the_asking(monkeypatch, tmp_path):
    for name in ("GLIBC_TUNABLES", start.STARTED):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("started again"))
    for text in ("[always] madvise never", "always madvise [never]", None):
        file = tmp_path / str(text)
        if text is not None:
            file.write_text(text)
        monkeypatch.setattr(allocator, "_OFFERED", file)
        start.with_huge_pages()
    assert "GLIBC_TUNABLES" not in os.environ
