"""How far a run is, for the person in front of it."""

import math
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

Row = Mapping[str, Any]


class Progress:
    """How far a run is, on stderr: a live line in a terminal, else a plain line every ten seconds.

    `tokens_per_step` is what an update processes; None takes the counted targets of each row.
    """

    def __init__(self, total_steps: int, tokens_per_step: int | None = None, console: Console | None = None) -> None:
        self._total, self._tokens_per_step = total_steps, tokens_per_step
        self._console = console or Console(stderr=True)
        self._bar: Bar | None = None
        self._shown = -math.inf
        self._began: tuple[int, float] | None = None
        self._tokens = self._seconds = 0.0
        if self._console.is_terminal:
            text = TextColumn("{task.description}", markup=False)
            self._bar = Bar(BarColumn(bar_width=24), text, console=self._console, auto_refresh=False)
            self._task = self._bar.add_task("starting", total=total_steps)
            self._bar.start()
            self._console.show_cursor(True)  # a signal may end the process with no chance to bring it back

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def resumed(self, step: int) -> None:
        """The run goes on from `step`."""
        self._began = None
        if self._bar is not None:
            self._bar.update(self._task, completed=step, refresh=True)

    def row(self, row: Row) -> None:
        """Say what an evaluation found; rows of training are what `tick` is for."""
        if "split" in row:
            values = (f"{k} {v:.4f}" for k, v in row.items() if isinstance(v, float))
            self.say(f"step {row['step']}: {row['split']}: {', '.join(values)}")

    def tick(self, step: int, row: Row) -> None:
        """`step` updates are done; `row` has the last one's loss_nats, tokens and step_seconds."""
        now = time.monotonic()
        self._began = self._began or (step, now)
        self._tokens = 0.9 * self._tokens + (self._tokens_per_step or row["tokens"])
        self._seconds = 0.9 * self._seconds + row["step_seconds"]
        if now - self._shown < (0.2 if self._bar else 10.0) and step != self._total:
            return
        self._shown = now
        line = self._line(step, row["loss_nats"], now)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=line, refresh=True)
        else:
            self.say(line)

    def _line(self, step: int, loss_nats: float, now: float) -> str:
        first, since = self._began or (step, now)
        left = "" if step == first else f" · {_clock((now - since) / (step - first) * (self._total - step))} left"
        rate = self._tokens / max(self._seconds, 1e-9)
        return f"step {step}/{self._total} · loss {loss_nats:.4f} · {_short(rate)} tokens/s{left}"

    def say(self, line: str) -> None:
        """One line of its own, that does not tear the live one."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _short(number: float) -> str:
    """`812`, `48.1k`, `1.20M`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.0f}"


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
