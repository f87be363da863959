"""The most memory that a program holds while it works, in a process of its own (Linux)."""

import ctypes
import gc
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import jax
from apart import Apart

Work = Callable[[], object]


def peak_bytes(
    prepare: Callable[[], Work],
    first: Callable[[], object] = jax.devices,
    environment: Mapping[str, str] | None = None,
) -> int:
    """The most that calls of `prepare()` hold of the machine's memory beyond what the process held before it.

    What preparing took and gave back (compilation) does not count, nor what `first` leaves, which comes before it: the
    libraries' own. Both are pickled, and an environment added to: see `Apart`.
    """
    process = Apart(partial(_measured, prepare, first), environment)
    found = process(2)
    process.end()
    return int(found)


def _measured(prepare: Callable[[], Work], first: Callable[[], object]) -> Callable[[int], int]:
    first()
    before = _status("VmRSS")
    work = prepare()
    work()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what compilation held is the system's again
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten

    def most(times: int) -> int:
        for _ in range(times):
            work()
        return _status("VmHWM") - before

    return most


def _status(name: str) -> int:
    """A line of the process's status, in bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])
