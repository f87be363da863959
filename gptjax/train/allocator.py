"""Memory that one update frees is kept for the next: the C library's side of training on a CPU."""

import ctypes
import sys

KEPT_BYTES = 2**28
"""Allocations up to this size are kept, and as much unused memory. Larger ones are mapped and unmapped as ever: kept,
they doubled what a model of 14M parameters held, and saved it no time."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Numbers of malloc.h."""


def keep_freed_memory() -> bool:
    """Ask glibc to keep large freed blocks instead of giving them back to the system; whether it agreed.

    XLA allocates the temporary arrays of an update anew each time. By default glibc maps every block above 32 MB afresh
    and unmaps it when it is freed, and so it does with the heaps that it gives to threads: each update then takes a
    page fault for every 4 KB that it writes. To be called before the devices are asked for, whose threads would have
    heaps of their own. No number changes. Elsewhere nothing happens.
    """
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    wanted = {_TRIM_THRESHOLD: KEPT_BYTES, _MMAP_THRESHOLD: KEPT_BYTES, _ARENA_MAX: 1}
    return all(library.mallopt(option, value) == 1 for option, value in wanted.items())
