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
from gptjax.config import Config, Run
from gptjax.config import write_json as write_json


class FolderError(ValueError):
    """A run folder that cannot be used as asked; the message is one line."""


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """`["model.width: 128 -> 256", ...]`: where two configurations in JSON form differ."""
    if isinstance(old, dict) and isinstance(new, dict) and old.get("type") == new.get("type"):
        return [line for k in new for line in differences(old.get(k), new[k], f"{where}.{k}" if where else k)]
    return [] if old == new else [f"{where}: {json.dumps(old)} -> {json.dumps(new)}"]


@contextmanager
def opened(folder: Path, run: Config) -> Iterator[None]:
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
        _refuse_other(folder, run)
        yield


def _refuse_other(folder: Path, run: Config) -> None:
    path = folder / "config.json"
    if not path.exists():
        strangers = [p.name for p in folder.iterdir() if p.name != ".lock" and not p.name.endswith(".tmp")]
        if strangers:
            raise FolderError(f"--out {folder}: holds {sorted(strangers)[0]} but no config.json; name an empty folder")
        return
    old = config.read(path)
    if config.fingerprint(old) != config.fingerprint(run):
        here = replace(run, mesh=old.mesh) if isinstance(run, Run) and isinstance(old, Run) else run
        changed = "; ".join(differences(config.to_json(old), config.to_json(here))[:3])
        raise FolderError(f"--out {folder}: holds another run ({changed}); name another folder, or repeat its settings")


def claim(folder: Path, run: Run, identity: str) -> None:
    """Make an open folder this run's, now that its data and model are known to be good; `identity` is its data's.

    Until then a command that was wrong can be mended and given again with the same folder.
    """
    if not (folder / "config.json").exists():
        config.save(run, folder / "config.json")
    write_json(folder / "data.json", {"identity": identity})


def check_data(folder: Path, identity: str, flag: str = "--out") -> None:
    """Raise `FolderError` where the data a run reads differ from what it began with; `flag` named the folder."""
    path = folder / "data.json"
    if path.exists() and (before := remembered(path, "identity")) != identity:
        raise FolderError(
            f"{flag} {folder}: began with data {before[:12]}, the same source now gives {identity[:12]}; "
            "restore the data, or start another run"
        )


def remembered(path: Path, name: str) -> Any:
    """A field of a JSON file in the run folder; raises `FolderError` where the file is not what was written."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))[name]
    except (ValueError, KeyError, TypeError) as error:
        raise FolderError(f"{path}: is damaged ({type(error).__name__}: {error}); restore or delete it") from None
