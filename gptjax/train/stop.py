"""Stopping on SIGTERM and Ctrl-C within seconds, whatever the main thread is doing."""

import math
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import Any

EXIT_INTERRUPTED = 130
REPEAT_SECONDS = 1.0


class Stopped(Exception):
    """Raised in the main thread, between two pieces of work, after a signal asked the process to stop."""


class StopSignal:
    """Turns SIGTERM and SIGINT into a `Stopped` at the next `check()`; a context manager of the main thread.

    Python runs a signal handler only when the main thread is back in the interpreter, and it may be inside a
    compilation for minutes. The operating system's handler, though, writes to a socket at once, and a thread of ours
    reads it: as long as nothing would be lost (`unsaved` is False) that thread ends the process there and then with
    exit code 130. With work to save, the main thread's next `check()` raises. A second signal ends the process in any
    case, unless it comes within a second: a terminal and a wrapper may both deliver one Ctrl-C.
    """

    def __init__(self) -> None:
        self.unsaved = False
        """True while the process holds work that a checkpoint should keep."""
        self._asked = threading.Event()
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        self._wakeup = signal.set_wakeup_fd(self._write.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._nothing)
        threading.Thread(target=self._watch, name="stop", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._write.close()

    @property
    def asked(self) -> bool:
        """Whether a signal has arrived."""
        return self._asked.is_set()

    def check(self) -> None:
        """Raise `Stopped` if a signal has arrived."""
        if self.asked:
            raise Stopped

    def _nothing(self, number: int, frame: FrameType | None) -> None:
        """The wake-up socket already told the watching thread."""

    def _watch(self) -> None:
        asked_at = -math.inf
        while self._read.recv(16):
            if self.asked and time.monotonic() - asked_at < REPEAT_SECONDS:
                continue
            if self.asked or not self.unsaved:
                state = "without saving" if self.unsaved else "nothing was unsaved"
                print(f"gptjax: stopped ({state}); the same command continues", file=sys.stderr, flush=True)
                os._exit(EXIT_INTERRUPTED)
            asked_at = time.monotonic()
            self._asked.set()
            print("gptjax: stopping: saving first; once more stops at once", file=sys.stderr, flush=True)
        self._read.close()
