"""The most memory that a program holds while it works, in a process of its own (Linux)."""

import ctypes
import gc
import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path

import jax

Work = Callable[[], object]


def peak_bytes(prepare: Callable[[], Work], first: Callable[[], object] = jax.devices) -> int:
    """The most that calls of `prepare()` hold of the machine's memory beyond what the process held before it.

    What preparing took and gave back (compilation) does not count, nor what `first` leaves, which comes before it: the
    libraries' own. Both are pickled: functions of a module, or a `functools.partial` of one.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=_measured, args=(prepare, first, queue))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"a measured process ended with exit code {process.exitcode}; its error is above")
    return int(queue.get())


def _measured(
    prepare: Callable[[], Work], first: Callable[[], object], queue: "multiprocessing.SimpleQueue[int]"
) -> None:
    first()
    before = _status("VmRSS")
    work = prepare()
    work()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what compilation held is the system's again
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    for _ in range(2):
        work()
    queue.put(_status("VmHWM") - before)


def _status(name: str) -> int:
    """A line of the process's status, in bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])
