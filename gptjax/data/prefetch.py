"""Batches made and placed on the devices ahead of the loop that consumes them."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def prefetch(
    make: Callable[[int], T], steps: range, place: Callable[[T], Any], depth: int = 2
) -> Iterator[Iterator[tuple[int, Any, float]]]:
    """`with prefetch(...) as batches`: an iterator over (step, placed batch, seconds that the caller waited for it).

    A thread calls `place(make(step))` for each step in order and stays at most `depth` + 1 batches ahead. What it
    raises is raised in the loop, at the step it belongs to. Leaving the `with` block ends the thread, at any step.
    """
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def fill() -> None:
        for step in steps:
            batch, error = None, None
            try:
                batch = place(make(step))
            except BaseException as raised:
                error = raised
            if not stop.is_set():
                ready.put((batch, error))
            if stop.is_set() or error is not None:
                return

    def drain() -> Iterator[tuple[int, Any, float]]:
        for step in steps:
            started = time.perf_counter()
            batch, error = ready.get()
            if error is not None:
                raise error
            yield step, batch, time.perf_counter() - started

    thread = threading.Thread(target=fill, name="prefetch", daemon=True)
    thread.start()
    try:
        yield drain()
    finally:
        stop.set()
        with contextlib.suppress(queue.Empty):
            while True:  # the thread may wait for a free place; after this it puts at most one more batch
                ready.get_nowait()
        thread.join()
