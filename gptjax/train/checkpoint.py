"""Checkpoints: written by Orbax in the background, committed by one rename, and believed only with their sums.

`checkpoints/STEP/` holds one Orbax item a name, `about.json`, and `SHA256SUMS` (which `sha256sum -c` reads). A folder
with a number for a name is complete; one flipped bit in array data would restore silently, so every file is summed.
`checkpoints.begun` beside it remembers that there has been one.
"""

import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from gptjax.data.shards import sha256

SUMS = "SHA256SUMS"
LARGER_IS_BETTER = (
    *("accuracy", "accuracy_sum", "accuracy_mean", "accuracy_byte", "f1", "matthews", "pearson", "spearman"),
    *("exact_match", "bleu", "chrf", "rouge_l"),
)
"""Metrics whose best value is the largest, also where a task's name stands before it (lambada/accuracy); of all others
it is the smallest."""


class CheckpointError(RuntimeError):
    """A checkpoint that could not be written or read; the message is one line and says what is left."""


def steps(folder: Path) -> list[int]:
    """Steps of the committed checkpoints in `folder`, ascending; intact or not."""
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []


def damage(checkpoint: Path) -> str | None:
    """The first thing wrong with a checkpoint by its SHA-256 sums, in words; None where it is intact."""
    try:
        lines = (checkpoint / SUMS).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return f"{SUMS} cannot be read"
    expected = {line[66:]: line[:64] for line in lines}
    for name, digest in expected.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if sha256(path) != digest:
            return f"{name} differs from its SHA-256 sum"
    strangers = {str(p.relative_to(checkpoint)) for p in _files(checkpoint)} - expected.keys() - {SUMS}
    return f"{min(strangers)} has no SHA-256 sum" if strangers or not expected else None


def newest_intact(folder: Path, report: Callable[[str], None], set_aside: bool = True) -> Path | None:
    """The newest checkpoint that verifies; damaged ones on the way are reported, and renamed `STEP.damaged`.

    Without `set_aside` nothing is renamed, as befits a reader of a folder that another process may be writing.
    None where there never was a checkpoint. Raises `CheckpointError` where all of them are damaged or gone: starting
    again from nothing is the user's decision.
    """
    if set_aside:
        _settle(folder)
    found = steps(folder)
    for step in reversed(found):
        path = folder / str(step)
        problem = damage(path)
        if problem is None:
            return path
        report(f"checkpoint {path} is damaged ({problem}){f'; set aside as {step}.damaged' if set_aside else ''}")
        if set_aside:
            shutil.rmtree(folder / f"{step}.damaged", ignore_errors=True)
            path.rename(folder / f"{step}.damaged")
    if found or (folder.is_dir() and any(folder.glob("*.damaged"))):
        raise CheckpointError(f"{folder}: no intact checkpoint is left; restore one, or start another run")
    if _begun(folder).exists():
        raise CheckpointError(f"{folder}: the checkpoints are gone; restore them, or start another run")
    return None


def about(checkpoint: Path) -> dict[str, Any]:
    """What `Writer.save` was told about a checkpoint (step, metrics)."""
    return json.loads((checkpoint / "about.json").read_text(encoding="utf-8"))


def read(checkpoint: Path, items: Mapping[str, Any]) -> dict[str, Any]:
    """The named items, each restored into the shapes, dtypes and shardings of its abstract pytree.

    Raises `CheckpointError` where the stored arrays have another structure or shape.
    """
    handler = ocp.CompositeCheckpointHandler(*items)
    with ocp.Checkpointer(handler) as reader:
        arguments = {name: ocp.args.StandardRestore(abstract) for name, abstract in items.items()}
        try:
            restored = reader.restore(checkpoint.absolute(), args=ocp.args.Composite(**arguments))
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            reason = str(error).strip().splitlines()[0][:300]
            raise CheckpointError(f"{checkpoint}: does not hold what this run needs ({reason})") from error
    return {name: restored[name] for name in items}


class Writer:
    """Saves checkpoints in the background, one at a time, and prunes old ones; only the primary process commits.

    Raises `CheckpointError` from `save`, `wait` or `check` where the save before it failed (a full disk, say); the
    checkpoints before that are untouched.
    """

    def __init__(self, folder: Path, keep_last: int, keep_best: str | None, primary: bool = True) -> None:
        self._folder, self._keep_last, self._keep_best, self._primary = folder, keep_last, keep_best, primary
        self._orbax = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        if primary:
            folder.mkdir(parents=True, exist_ok=True)
            self._clear()

    def save(self, step: int, items: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Start saving; returns once the arrays may be donated. `items` are pytrees of arrays by name.

        `about["metrics"]` holds the metric that the best checkpoint is kept by. The same step's checkpoint is replaced.
        """
        self.wait()
        temporary = (self._folder / f"tmp-{step}").absolute()
        arguments = {name: ocp.args.StandardSave(_private(tree)) for name, tree in items.items()}
        try:
            self._orbax.save(temporary, args=ocp.args.Composite(**arguments), force=True)
        except Exception as error:
            self._failure = error
            self._clear()
            self.check()
        commit = {**about, "step": step}
        self._thread = threading.Thread(target=self._finish, args=(step, temporary, commit), name="checkpoint")
        self._thread.start()

    def check(self) -> None:
        """Raise `CheckpointError` if a save in the background has failed."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            kept = steps(self._folder)
            left = f"checkpoint {kept[-1]} is intact" if kept else "there is no earlier one"
            reason = " ".join(str(failure).split())[:300] or type(failure).__name__
            raise CheckpointError(f"{self._folder}: a checkpoint could not be saved ({reason}); {left}") from failure

    def wait(self) -> None:
        """Until the save under way is committed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def close(self) -> None:
        """Finish the save under way and release Orbax's threads."""
        try:
            self.wait()
        finally:
            self._orbax.close()

    def _finish(self, step: int, temporary: Path, commit: dict[str, Any]) -> None:
        try:
            self._orbax.wait_until_finished()
            if self._primary:
                (temporary / "about.json").write_text(json.dumps(commit), encoding="utf-8")
                _write_sums(temporary)
                _replace(temporary, self._folder / str(step))
                _sync(self._folder)
                _begun(self._folder).touch()
                self._prune()
        except Exception as error:
            self._failure = error
            self._clear()

    def _clear(self) -> None:
        """Remove what kills and failures left half-written, Orbax's own temporary folders included."""
        for leftover in self._folder.glob("tmp-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        _settle(self._folder)

    def _prune(self) -> None:
        found = steps(self._folder)
        keep = set(found[-self._keep_last :])
        if self._keep_best is not None:
            best = max if self._keep_best.rpartition("/")[2] in LARGER_IS_BETTER else min
            scores = {s: _score(self._folder / str(s), self._keep_best) for s in found}
            judged = {s: score for s, score in scores.items() if score is not None}
            keep |= {best(judged, key=judged.__getitem__)} if judged else set()
        for step in found:
            if step not in keep:  # renamed first: a number never names half a checkpoint
                doomed = (self._folder / str(step)).rename(self._folder / f"tmp-pruned-{step}")
                shutil.rmtree(doomed)


def _score(checkpoint: Path, metric: str) -> float | None:
    """The metric that a checkpoint was judged by; None where it was not judged, or does not say."""
    try:
        return about(checkpoint)["metrics"].get(metric)
    except (OSError, ValueError, KeyError):
        return None


def _begun(folder: Path) -> Path:
    """The file beside a folder of checkpoints that outlives them: there has been one."""
    return folder.with_name(folder.name + ".begun")


def _replace(temporary: Path, final: Path) -> None:
    """Commit by rename. An old checkpoint of the same step steps aside, and is deleted once the new one is there."""
    if final.exists():
        final.rename(final.with_name(final.name + ".old"))
    temporary.rename(final)
    _settle(final.parent)


def _settle(folder: Path) -> None:
    """End what a replacement began: the old checkpoint goes where the new one came, and comes back where it did not."""
    for old in folder.glob("*.old"):
        if (final := folder / old.stem).exists():
            shutil.rmtree(old)
        else:
            old.rename(final)


def _private(tree: Any) -> Any:
    """On the CPU Orbax would read the very buffers that the next, donating step overwrites: give it copies."""
    return jax.tree.map(jnp.copy, tree) if jax.default_backend() == "cpu" else tree


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def _write_sums(folder: Path) -> None:
    files = _files(folder)
    text = "".join(f"{sha256(path)}  {path.relative_to(folder)}\n" for path in files)
    (folder / SUMS).write_text(text, encoding="ascii")
    for path in [*files, folder / SUMS]:
        _sync(path)
    for path in [p for p in folder.rglob("*") if p.is_dir()] + [folder]:
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
