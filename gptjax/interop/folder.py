"""A Hugging Face folder, read whole and written whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from gptjax.config import ConfigError, ModelConfig, write_json
from gptjax.data.errors import DataError
from gptjax.data.shards import sha256
from gptjax.data.tokenizer import Tokenizer
from gptjax.interop import layout, safe, shapes, tokens
from gptjax.interop.card import card
from gptjax.interop.fields import Fields, read_json
from gptjax.models import vocabulary
from gptjax.types import Params

if TYPE_CHECKING:
    from gptjax.trained import Trained

CONFIG = "config.json"
UNREADABLE = {
    "auto_map": "names code of its own, which is never run",
    "quantization_config": "packs the weights; save the model unpacked first",
}
"""Fields that no folder may have, and why."""


class Described(NamedTuple):
    """What a `config.json` of another library says."""

    shape: layout.Shape
    model: ModelConfig
    vocab_size: int
    """Rows of its vocabulary."""
    notes: tuple[str, ...]
    """What the user must know: fields that were left out."""


class Read(NamedTuple):
    """A model of another library."""

    model: ModelConfig
    vocab_size: int
    """Rows of its vocabulary."""
    params: Params
    """Host arrays, float32: of whatever kind the numbers were, they are held exactly."""
    notes: tuple[str, ...]
    """What the user must know: fields and parts that were left out."""


def described(folder: Path) -> Described:
    """The model of a folder without its numbers.

    Raises `DataError` for a file that is missing, damaged or of an unknown kind and `ConfigError` for a field that
    cannot be expressed here, in one line that names the file and the field. Nothing of the folder is run.
    """
    path = folder / CONFIG
    values = read_json(path)
    shape, fields = shapes.named(values.get("model_type"), str(path)), Fields(path, values)
    for name, why in UNREADABLE.items():
        if (value := fields.value(name)) is not None:
            raise fields.wrong(name, value, why)
    try:
        model = shape.read(fields)
    except ConfigError as error:
        raise error if str(error).startswith(str(path)) else ConfigError(f"{path}: {error}") from None
    size = fields.size("vocab_size")
    if unread := fields.unread():
        fields.notes.append(f"{path}: these fields have no like here and are left out: {', '.join(unread)}")
    return Described(shape, model, size, tuple(fields.notes))


def read(folder: Path) -> Read:
    """The model of a folder; its tokenizer is read by `tokens.read`.

    Raises what `described` raises, and `DataError` that names the tensor where the weights are not that model's.
    """
    shape, model, size, said = described(folder)
    notes = [*said]
    with safe.opened(folder) as weights:
        if (layers := vars(model)["layers"]) > len(weights.names):
            raise DataError(f"{folder / CONFIG}: names {layers} layers, and there are {len(weights.names)} tensors")
        abstract = jax.eval_shape(model.build(size, size).init, jax.random.key(0))
        params = layout.taken(shape, model, abstract, weights, notes)
    return Read(model, size, params, tuple(notes))


def write(found: Trained, folder: Path, say: Callable[[str], None], shard_bytes: int = safe.SHARD_BYTES) -> None:
    """Write a checkpoint as a folder that transformers reads; it is there whole or not at all.

    Of the parameters the model's own are written, float32, without the vocabulary's padding. Raises `ConfigError` that
    names the field of a model which no family of transformers has, and where the folder holds something already.
    """
    run, size = found.run, found.model.vocab_size
    shape = shapes.fitting(run.model)
    fields = shape.write(run.model)
    refuse_present(folder)
    params = vocabulary.rearranged(found.params["model"], np.arange(size))
    tensors = layout.given(shape, run.model, params)
    contents, note = tokens.files(found.tokenizer, run.objective.specials(), found.model.context)
    if left := sorted(found.params.keys() - {"model"}):
        say(f"left out, since {shape.architecture} has no place for them: {', '.join(left)}")
    say(f"tokenizer: {note}")
    contents["README.md"] = card(found, shape.architecture, note, found.tokenizer.padded(size)).encode()
    with fresh(folder) as making:
        safe.write(making, tensors, shard_bytes)
        found.tokenizer.save(making / tokens.OWN)
        write_json(making / CONFIG, {**described_as(found, shape, shape.architecture), **fields, "pad_token_id": None})
        if found.model.causal:
            ends = {name: id for name, id in ends_of(found.tokenizer).items() if id is not None}
            write_json(making / "generation_config.json", ends)
        write_all(making, contents)


def described_as(found: Trained, shape: layout.Shape, architecture: str) -> dict[str, Any]:
    """The fields of `config.json` that every family has."""
    kind = {"architectures": [architecture], "model_type": shape.model_type, "dtype": "float32"}
    return {**kind, **ends_of(found.tokenizer), "vocab_size": found.model.vocab_size}


def ends_of(tokenizer: Tokenizer) -> dict[str, int | None]:
    """The ids that begin and end a document, as `config.json` names them."""
    return {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}


def refuse_present(folder: Path) -> None:
    """Raise `ConfigError` where the folder holds something already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is there already; name another folder")


@contextmanager
def fresh(folder: Path) -> Iterator[Path]:
    """Where to write what is to be the folder: it is there whole when this is left, or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield making
        making.chmod(0o755)  # mkdtemp makes it private
        making.rename(folder)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise


def write_all(folder: Path, contents: dict[str, bytes]) -> None:
    """Write files by name, on disk when this returns."""
    for name, content in contents.items():
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def identity(folder: Path) -> dict[str, Any]:
    """What is remembered of a folder that was read: its path, and the SHA-256 of every file of weights."""
    return {"folder": str(folder), "sha256": {p.name: sha256(p) for p in sorted(folder.glob("*.safetensors"))}}
