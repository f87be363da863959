"""The files that a source of text names."""

import glob
import hashlib
import os
import sysconfig
from pathlib import Path

from gptjax.data import hub
from gptjax.data.errors import DataError

STDLIB = "stdlib"
"""The source that every Python has: its own standard library, about 12 MB of code without its tests."""

_FORMS = "a source is a text, .jsonl or .parquet file, a folder or glob of them, hf://NAME, or stdlib"
_NOT_STDLIB = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
_NOT_MODULES = ("_sysconfigdata", "sitecustomize", "usercustomize")


def files(source: str) -> list[Path]:
    """The files of a source in the one order they are read in: sorted by path.

    Hidden files, and those in hidden folders, are no part of a folder. Raises `DataError` where there is none.
    """
    if source == STDLIB:
        return _stdlib()
    path = Path(source)
    if path.is_dir():
        found = _below(path)
    elif path.exists():
        return [path]
    elif glob.has_magic(source):
        matches = [Path(match) for match in glob.glob(source, recursive=True)]
        found = sorted({file for match in matches for file in (_below(match) if match.is_dir() else [match])})
    else:
        raise DataError(f"{source}: no such file or folder; {_FORMS}")
    if not found:
        raise DataError(f"{source}: no file there; {_FORMS}")
    return found


def fingerprint(source: str) -> str:
    """SHA-256 (hex) that changes when a file of the source does: over every path, size and time of change.

    A hub set gives its own hash. Nothing is read, so a file rewritten within the clock's grain at the same size goes
    unnoticed.
    """
    if source.startswith(hub.PREFIX):
        return hub.fingerprint(source)
    digest = hashlib.sha256()
    for path in files(source):
        state = path.stat()
        digest.update(f"{path.resolve()}\0{state.st_size}\0{state.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _below(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if not any(p.startswith(".") for p in path.relative_to(folder).parts))


def _stdlib() -> list[Path]:
    """The standard library's modules: no tests, nothing installed beside it, nothing made by this machine's build.

    So that the text depends on the version of Python alone, wherever it runs.
    """
    root = Path(sysconfig.get_path("stdlib"))
    found: list[Path] = []
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if name not in _NOT_STDLIB and not name.startswith("config-")]
        modules = (name for name in names if name.endswith(".py") and not name.startswith(_NOT_MODULES))
        found.extend(Path(folder, name) for name in modules)
    found.sort(key=lambda path: path.relative_to(root).as_posix())
    if not found:
        raise DataError(f"stdlib: this Python has no source files in {root}; name a file or folder of text")
    return found
