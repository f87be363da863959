"""The run folder: one run, one writer, one configuration."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gptjax import config
from gptjax.config import Run


class FolderError(ValueError):
    """A run folder that cannot be used as asked; the message is one line."""


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a kill at any moment leaves the old file or the new one, never half of it."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """`["model.width: 128 -> 256", ...]`: where two configurations in JSON form differ."""
    if isinstance(old, dict) and isinstance(new, dict) and old.get("type") == new.get("type"):
        return [line for k in new for line in differences(old.get(k), new[k], f"{where}.{k}" if where else k)]
    return [] if old == new else [f"{where}: {json.dumps(old)} -> {json.dumps(new)}"]


@contextmanager
def opened(folder: Path, run: Run) -> Iterator[None]:
    """Hold the folder for this run, exclusively, until the process ends or the context is left.

    Raises `FolderError` where another process writes there, where it belongs to another configuration, or where it is
    something else than a run folder.
    """
    if folder.exists() and not folder.is_dir():
        raise FolderError(f"--out {folder}: is a file; name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().strip() or "unknown"
            raise FolderError(f"--out {folder}: process {pid} is writing there; wait for it or name another") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        _claim(folder, run)
        yield


def _claim(folder: Path, run: Run) -> None:
    path = folder / "config.json"
    if not path.exists():
        strangers = [p.name for p in folder.iterdir() if p.name not in (".lock", "config.json.tmp")]
        if strangers:
            raise FolderError(f"--out {folder}: holds {sorted(strangers)[0]} but no config.json; name an empty folder")
        write_json(path, {"hash": config.fingerprint(run), "run": config.to_json(run)})
        return
    old = config.load(path)
    if config.fingerprint(old) != config.fingerprint(run):
        same_place = config.to_json(replace(run, mesh=old.mesh))
        changed = "; ".join(differences(config.to_json(old), same_place)[:3])
        raise FolderError(f"--out {folder}: holds another run ({changed}); name another folder, or repeat its settings")


def check_data(folder: Path, identity: str) -> None:
    """Remember which data a run reads; raise `FolderError` where it now differs from what the run began with."""
    path = folder / "data.json"
    if not path.exists():
        write_json(path, {"identity": identity})
    elif (before := json.loads(path.read_text(encoding="utf-8"))["identity"]) != identity:
        raise FolderError(
            f"--out {folder}: began with data {before[:12]}, the same source now gives {identity[:12]}; "
            "restore the data, or start another run"
        )
