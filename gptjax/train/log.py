"""Where a run's metrics go: metrics.jsonl (the truth), TensorBoard, Weights & Biases."""

import hashlib
import json
import math
import operator
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from gptjax.config import ConfigError
from gptjax.train.folder import FolderError

Row = Mapping[str, Any]


class MetricsFile:
    """metrics.jsonl: one JSON object a line, on disk before `append` returns.

    Floats come back exactly as they were. JSON has no NaN or infinity: a number that is not finite is null.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("a", encoding="utf-8")
        self._last = ""

    def truncate_after(self, step: int) -> None:
        """Forget rows beyond `step`, and a last row torn by a kill; atomic. Raises `FolderError` for a damaged file."""
        kept = "".join(_dump(row) for row in rows(self._path) if row["step"] <= step)
        temporary = self._path.with_name(self._path.name + ".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(kept)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        self._file.close()
        self._file = self._path.open("a", encoding="utf-8")
        self._last = kept[kept.rfind("\n", 0, -1) + 1 :]

    def append(self, row: Row) -> None:
        """Write one row. A run killed between an evaluation and its checkpoint judges again: the same row, once."""
        line = _dump(row)
        if line != self._last:
            self._file.write(line)
            self._file.flush()
            self._last = line

    def close(self) -> None:
        """Close the file; nothing is left to write."""
        self._file.close()


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl, also of one being written: a last line without its end is left out.

    Raises `FolderError` where any other line is not a row.
    """
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
            found.append({**row, "step": operator.index(row["step"])})
        except (ValueError, TypeError, KeyError):
            raise FolderError(
                f"{path}:{number}: is not a row of metrics; remove the line, or start another run"
            ) from None
    return found


def _dump(row: Row) -> str:
    return json.dumps({name: _plain(value) for name, value in row.items()}, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Tracker(Protocol):
    """A place for metrics besides metrics.jsonl; called with every row, closed at the end."""

    def __call__(self, row: Row) -> None:
        """Take one row."""

    def close(self) -> None:
        """Hand over what is still held back."""


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def __call__(self, row: Row) -> None:
        if self._writer is None:
            from tensorboardX import SummaryWriter

            # Opened at the first row, so that what an interrupted run wrote beyond its checkpoint is hidden.
            self._writer = SummaryWriter(str(self._folder), purge_step=row["step"], flush_secs=10)
        for name, value in _scalars(row).items():
            self._writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def tensorboard(folder: Path) -> Tracker:
    """Writes TensorBoard events into `folder`: train/loss_nats, validation/nats_per_token, ..."""
    return _TensorBoard(folder)


class _Wandb:
    def __init__(self, run: Any) -> None:
        self._run = run

    def __call__(self, row: Row) -> None:
        self._run.log({"step": row["step"], **_scalars(row)})

    def close(self) -> None:
        self._run.finish()


def wandb(project: str, name: str, config: Mapping[str, Any]) -> Tracker:
    """Sends rows to Weights & Biases; the same project, name and config continue the same run there.

    Raises `ConfigError` where the library is not installed. WANDB_MODE=offline keeps everything on this machine.
    """
    try:
        import wandb as library
    except ImportError:
        raise ConfigError(
            "Weights & Biases is not installed; pip install 'gptjax[wandb]', or train without it"
        ) from None
    identity = json.dumps([project, name, config], sort_keys=True).encode()
    run = library.init(
        project=project, name=name, config=dict(config), id=hashlib.sha256(identity).hexdigest()[:16], resume="allow"
    )
    run.define_metric("*", step_metric="step")  # its own step counter refuses the rows that a resumed run repeats
    return _Wandb(run)


def _scalars(row: Row) -> dict[str, float]:
    """The numbers of a row under the name of its split."""
    split = row.get("split", "train")
    return {f"{split}/{k}": v for k, v in row.items() if k != "step" and isinstance(v, int | float)}
