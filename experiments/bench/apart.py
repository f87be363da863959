"""Forms of one thing, each in a process of its own: what one asks of its allocator and threads, no other one meets."""

import multiprocessing
import os
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

from gptjax.train.allocator import HUGE_PAGES

AS_STARTED = {"GLIBC_TUNABLES": f"{HUGE_PAGES}=1"}
"""The environment in which the command `gptjax` puts itself, where Linux gives huge pages for the asking."""
Form = Callable[[int], Any]


class Apart:
    """`prepare()` called in a new process; calls with a number reach the form that it gave, and return what that gives.

    `prepare` is pickled: a function of a module, or a `functools.partial` of one. The process ends with this one, and
    has its environment with what is given.
    """

    def __init__(self, prepare: Callable[[], Form], environment: Mapping[str, str] | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(prepare, there), daemon=True)
        before = dict(os.environ)
        os.environ.update(environment or {})
        try:
            self._process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        there.close()
        self._answer()

    def __call__(self, number: int) -> Any:
        self._here.send(number)
        return self._answer()

    def end(self) -> None:
        """Let the process end, which gives back what it holds."""
        self._here.close()
        self._process.join()

    def _answer(self) -> Any:
        try:
            failed, answer = self._here.recv()
        except EOFError:
            raise RuntimeError("a process that was to be measured ended; its error is above") from None
        if failed:
            raise RuntimeError(answer)
        return answer


def _serve(prepare: Callable[[], Form], there: Connection) -> None:
    try:
        form = prepare()
        there.send((False, None))
        while True:
            there.send((False, form(there.recv())))
    except EOFError:
        pass
    except Exception:
        there.send((True, traceback.format_exc()))
