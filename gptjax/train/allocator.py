"""Memory that one update frees is kept for the next: the C library's side of training on a CPU."""

import ctypes
import functools
import os
import sys
import tempfile

KEPT_BYTES = (2**28, 2**25)
"""Freed allocations up to this size are kept; an older glibc takes no more than the second. Larger ones are mapped and
unmapped as ever: kept, they doubled what a model of 14M parameters held, and saved it no time."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Numbers of malloc.h."""


@functools.cache
def keep_freed_memory() -> str | None:
    """Ask glibc to keep large freed blocks instead of giving them back to the system; says why where it will not.

    XLA allocates the temporary arrays of an update anew each time. By default glibc maps every block above 32 MB afresh
    and unmaps it when it is freed, and so it does with the heaps that it gives to threads: each update then takes a
    page fault for every 4 KB that it writes. Once the devices have been asked for, their threads have such heaps, and
    nothing changes that: the first call in a process decides. No number changes. None where memory is kept, and without
    glibc, where there is nobody to ask.
    """
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return None
    kept = next((size for size in KEPT_BYTES if library.mallopt(_MMAP_THRESHOLD, size) == 1), None)
    asked = {} if kept is None else {_TRIM_THRESHOLD: kept, _ARENA_MAX: 1}
    if not asked or any(library.mallopt(option, value) != 1 for option, value in asked.items()):
        return "the C library refuses to keep what is freed"
    if _heaps(library) > 1:
        first = "gptjax.train.allocator.keep_freed_memory() goes before jax.devices()"
        return f"threads have heaps of their own by now; {first}"
    return None


def _heaps(library: ctypes.CDLL) -> int:
    """Heaps that there are, the main one included, as glibc lists them."""
    library.fdopen.restype = ctypes.c_void_p
    with tempfile.TemporaryFile() as file:
        stream = ctypes.c_void_p(library.fdopen(os.dup(file.fileno()), b"w"))
        library.malloc_info(0, stream)
        library.fclose(stream)
        file.seek(0)
        return file.read().count(b"<heap nr=")
