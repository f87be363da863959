"""Weights on disk as safetensors, the only form that is read or written: names, shapes and numbers, and nothing to run.

A folder holds `model.safetensors`, or several files and `model.safetensors.index.json`, which names the file of every
tensor. The library checks each header before anything is read: its size, and that the tensors cover the file without
overlap or hole; here that the index, the files and what a model needs agree.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  # gives NumPy the bfloat16 that the library asks it for
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gptjax.config import write_json
from gptjax.data.errors import DataError
from gptjax.interop.fields import read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
INDEX_BYTES = 64 << 20
"""An index beyond this is none."""
SHARD_BYTES = 5_000_000_000
"""Larger models are written as several files."""
FLOATS = ("F32", "F16", "BF16")
"""Kinds of number that float32 holds exactly."""
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.h5", "*.msgpack")
"""What weights without safetensors lie in."""


class Weights:
    """The tensors of a folder by name; they stay on disk until they are read."""

    def __init__(self, folder: Path, handles: Mapping[str, Any]) -> None:
        self.folder = folder
        self._handles = handles

    @property
    def names(self) -> frozenset[str]:
        """Of every tensor."""
        return frozenset(self._handles)

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise `DataError` where a tensor is of another shape, or of numbers that float32 does not hold."""
        found = self._handles[name].get_slice(name)
        if tuple(found.get_shape()) != shape:
            raise DataError(f"{self.folder}: tensor {name} is {found.get_shape()}, and not {list(shape)} as configured")
        if found.get_dtype() not in FLOATS:
            kinds = ", ".join(FLOATS)
            raise DataError(f"{self.folder}: tensor {name} is {found.get_dtype()}; only {kinds} are read: convert it")

    def read(self, name: str) -> np.ndarray:
        """One tensor in its own dtype."""
        return self._handles[name].get_tensor(name)


@contextmanager
def opened(folder: Path, name: str = SINGLE) -> Iterator[Weights]:
    """The weights of a folder, the file of that name before an index; raises `DataError` naming what is wrong."""
    single, index = folder / name, folder / INDEX
    with ExitStack() as stack:
        if single.is_file():
            handle = stack.enter_context(_open(single))
            yield Weights(folder, dict.fromkeys(handle.keys(), handle))
        elif name != SINGLE:
            raise DataError(f"{folder}: there is no {name}")
        elif index.is_file():
            yield Weights(folder, _sharded(index, stack))
        else:
            raise _missing(folder)


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="np")
    except (SafetensorError, OSError) as error:
        reason = str(error).removeprefix("Error while deserializing header: ")[:200]
        raise DataError(f"{path}: not a whole safetensors file ({reason}); fetch or write it again") from None


def _sharded(index: Path, stack: ExitStack) -> dict[str, Any]:
    """Each tensor's file, once the index and the files are found to say the same."""
    places = read_json(index, INDEX_BYTES).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise DataError(f"{index}: weight_map must name a file for every tensor")
    handles: dict[str, Any] = {}
    for file in sorted(set(places.values())):
        # The name comes from the file: it may lead nowhere but into this folder.
        if file != os.path.basename(file) or "\\" in file or "\0" in file or not file.endswith(".safetensors"):
            raise DataError(f"{index}: {file!r} is not the plain name of a .safetensors file beside it")
        if not (index.parent / file).is_file():
            raise DataError(f"{index}: names {file}, which is not there; fetch the folder again")
        handle = stack.enter_context(_open(index.parent / file))
        promised = {name for name, place in places.items() if place == file}
        if strange := promised ^ set(handle.keys()):
            name = min(strange)
            missing = "is missing from" if name in promised else "is in, against the index,"
            raise DataError(f"{index}: tensor {name} {missing} {file}; fetch the folder again")
        handles |= dict.fromkeys(promised, handle)
    return handles


def _missing(folder: Path) -> DataError:
    found = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
    if found:
        return DataError(
            f"{folder}: {found[0]} is not read, since such files can run code or are not checked; "
            "save the model again with safetensors (save_pretrained of transformers does)"
        )
    return DataError(f"{folder}: holds no weights ({SINGLE}, or {INDEX} and its files)")


def write(folder: Path, tensors: Mapping[str, np.ndarray], shard_bytes: int = SHARD_BYTES) -> None:
    """Write tensors into a folder, as several files and an index where they are larger than `shard_bytes` together.

    The folder is the caller's to make visible at once: what is here when this returns is on disk.
    """
    shards = _shards(tensors, shard_bytes)
    files = [SINGLE] if len(shards) == 1 else [_name(n, len(shards)) for n in range(1, len(shards) + 1)]
    for file, names in zip(files, shards, strict=True):
        write_file(folder / file, {name: tensors[name] for name in names})
    if len(shards) > 1:
        places = {name: file for file, names in zip(files, shards, strict=True) for name in names}
        total = sum(tensor.nbytes for tensor in tensors.values())
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})


def write_file(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write tensors into one file; it is on disk when this returns."""
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path, {"format": "pt"})
    with path.open("rb") as written:
        os.fsync(written.fileno())


def _name(number: int, count: int) -> str:
    return f"model-{number:05}-of-{count:05}.safetensors"


def _shards(tensors: Mapping[str, np.ndarray], shard_bytes: int) -> list[list[str]]:
    """Names in order, a new shard where the next tensor does not fit; one that never fits has a shard of its own."""
    shards: list[list[str]] = [[]]
    held = 0
    for name, tensor in tensors.items():
        if shards[-1] and held + tensor.nbytes > shard_bytes:
            shards.append([])
            held = 0
        shards[-1].append(name)
        held += tensor.nbytes
    return shards
