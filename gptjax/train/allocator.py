"""Memory that one update frees is kept for the next: the C library's side of training on a CPU."""

import ctypes
import sys

KEPT_BYTES = (2**28, 2**25)
"""Freed allocations up to this size are kept; an older glibc takes no more than the second. Larger ones are mapped and
unmapped as ever: kept, they doubled what a model of 14M parameters held, and saved it no time."""
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
    kept = next((size for size in KEPT_BYTES if library.mallopt(_MMAP_THRESHOLD, size) == 1), None)
    if kept is None:
        return False
    return all(library.mallopt(option, value) == 1 for option, value in ((_TRIM_THRESHOLD, kept), (_ARENA_MAX, 1)))
