"""Memory that one update frees is kept for the next: the C library's side of training on a CPU."""

import ctypes
import os
import re
import sys
from pathlib import Path

HUGE_PAGES = "glibc.malloc.hugetlb"
"""The tunable of glibc 2.35 and newer by which malloc asks Linux for huge pages: 1 is to ask, 0 not to."""
_OFFERED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
KEPT_BYTES = (2**28, 2**25)
"""Freed allocations up to this size are kept: the second with huge pages, and where an older glibc takes no more.

What is kept leaves holes: with 2 rows `medium_cpu` of experiments/bench/training.py held 905 MB by the first and 563 MB
by the second. Not to keep it costs such updates 10% of their time in pages of 4 KB, and 0 to 3% in huge ones.
"""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Numbers of malloc.h."""


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed blocks instead of giving them back to the system; whether it agreed.

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
    sizes = KEPT_BYTES[1:] if huge_pages() else KEPT_BYTES
    kept = next((size for size in sizes if library.mallopt(_MMAP_THRESHOLD, size) == 1), None)
    if kept is None:
        return False
    return all(library.mallopt(option, value) == 1 for option, value in ((_TRIM_THRESHOLD, kept), (_ARENA_MAX, 1)))


def offered() -> str:
    """To whom Linux gives huge pages: always, madvise (who asks) or never; never where nothing says."""
    try:
        found = re.search(r"\[(\w+)\]", _OFFERED.read_text())
    except OSError:
        return "never"
    return found[1] if found else "never"


def huge_pages() -> bool:
    """Whether malloc has huge pages: Linux gives them to all, or the process was started as `gptjax` starts itself."""
    asked = f"{HUGE_PAGES}=1" in os.environ.get("GLIBC_TUNABLES", "").split(":")
    return offered() == "always" or (asked and offered() == "madvise")
