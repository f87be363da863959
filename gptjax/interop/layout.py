"""How parameters here and tensors there correspond: one table a family, read in both directions."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gptjax.config import ConfigError, ModelConfig
from gptjax.data.errors import DataError
from gptjax.interop.fields import Fields
from gptjax.interop.safe import Weights
from gptjax.train.state import path_of
from gptjax.types import Params


class Entry(NamedTuple):
    """A tensor there, and the parameters here that it holds."""

    ours: tuple[str, ...]
    """Paths; several lie side by side along the last axis. Under blocks/ each is stacked over layers."""
    theirs: str
    """The name; {} is the layer's number."""
    transposed: bool = False
    """Axes are in the other order there: [out, in] for a matrix."""


class Shape(NamedTuple):
    """A family of models of another library: its configuration and its tensors, in both directions."""

    model_type: str
    """As `config.json` names it."""
    architecture: str
    """The class that reads what is written."""
    prefix: str
    """Before the names of the body; files of the body alone leave it out."""
    skipped: re.Pattern[str]
    """Tensors that are no parameters: masks and the like that old files carry."""
    read: Callable[[Fields], ModelConfig]
    """The configuration here; raises `ConfigError` for a field that cannot be expressed."""
    write: Callable[[Any], dict[str, Any]]
    """The fields there; raises `ConfigError` for a field that cannot be expressed."""
    entries: Callable[[Any], list[Entry]]
    """The table for a configuration."""
    copies: dict[str, str]
    """Tensors that may stand there a second time where they are tied: the copy's name, and the original's."""
    classifier: str | None = None
    """The class that reads the body with a linear read-out of the last token in the language model's place."""
    optional: tuple[str, ...] = ()
    """Beginnings of paths that some files leave out whole; such parameters become 0."""


def linear(ours: str | Sequence[str], theirs: str, bias: bool, transposed: bool) -> list[Entry]:
    """The entries of a linear layer, or of several side by side."""
    names = (ours,) if isinstance(ours, str) else tuple(ours)
    kernel = Entry(tuple(f"{name}/kernel" for name in names), f"{theirs}.weight", transposed)
    return [kernel, Entry(tuple(f"{name}/bias" for name in names), f"{theirs}.bias")] if bias else [kernel]


def norm(ours: str, theirs: str, bias: bool) -> list[Entry]:
    """The entries of a LayerNorm, or without a bias of an RMSNorm."""
    scale = Entry((f"{ours}/scale",), f"{theirs}.weight")
    return [scale, Entry((f"{ours}/bias",), f"{theirs}.bias")] if bias else [scale]


def refuse(config: ModelConfig, model_type: str, only: dict[str, Any]) -> None:
    """Raise `ConfigError` naming the first field whose value the family there does not have."""
    for name, value in only.items():
        if (found := getattr(config, name)) != value:
            raise ConfigError(f"model.{name}={found!r} cannot be expressed as {model_type}, which has {value!r} alone")


def given(shape: Shape, config: ModelConfig, params: Params) -> dict[str, np.ndarray]:
    """The tensors there of parameters here, float32, in the order of the table."""
    leaves = {path_of(path): np.asarray(x, np.float32) for path, x in jax.tree_util.tree_leaves_with_path(params)}
    tensors = {}
    for entry in shape.entries(config):
        parts = [leaves.pop(path) for path in entry.ours]
        for number in _numbers(entry, parts[0].shape):
            here = parts if number is None else [part[number] for part in parts]
            whole = np.concatenate(here, axis=-1)
            tensors[entry.theirs.format(number)] = whole.T if entry.transposed else whole
    assert not leaves, f"{shape.model_type} has no place for {sorted(leaves)}"
    return tensors


def taken(shape: Shape, config: ModelConfig, abstract: Params, weights: Weights, notes: list[str]) -> Params:
    """Parameters of the structure and shapes of `abstract`, float32, from the tensors there.

    Every name, shape and dtype is checked before the first number is read. Raises `DataError` naming the first tensor
    that is missing, of another shape, or has no place.
    """
    shapes = {path_of(path): x.shape for path, x in jax.tree_util.tree_leaves_with_path(abstract)}
    entries = _present(shape, shape.entries(config), weights, notes)
    names = {}
    for entry in entries:
        for number in _numbers(entry, shapes[entry.ours[0]]):
            name = names[entry, number] = _spelt(shape, entry.theirs.format(number), weights)
            weights.check(name, _tensor_shape(entry, number, [shapes[path] for path in entry.ours]))
    _check_others(shape, weights, set(names.values()))
    filled = {path: np.zeros(size, np.float32) for path, size in shapes.items()}
    for (entry, number), name in names.items():
        tensor = weights.read(name)
        _put(filled, entry, number, tensor.T if entry.transposed else tensor)
    return jax.tree_util.tree_map_with_path(lambda path, _: filled[path_of(path)], abstract)


def _numbers(entry: Entry, shape: tuple[int, ...]) -> Iterable[int | None]:
    return range(shape[0]) if "{}" in entry.theirs else (None,)


def _tensor_shape(entry: Entry, number: int | None, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    alone = [shape if number is None else shape[1:] for shape in shapes]
    joined = (*alone[0][:-1], sum(shape[-1] for shape in alone))
    return joined[::-1] if entry.transposed else joined


def _put(filled: dict[str, np.ndarray], entry: Entry, number: int | None, tensor: np.ndarray) -> None:
    start = 0
    for path in entry.ours:
        target = filled[path] if number is None else filled[path][number]
        target[...] = tensor[..., start : start + target.shape[-1]]
        start += target.shape[-1]


def _spelt(shape: Shape, name: str, weights: Weights) -> str:
    """The name as this file writes it: BERT's first norms were gamma and beta, and a body alone has no prefix."""
    old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    for spelling in (name, old, name.removeprefix(shape.prefix), old.removeprefix(shape.prefix)):
        if spelling in weights.names:
            return spelling
    raise DataError(f"{weights.folder}: tensor {name} is missing; a {shape.architecture} has it")


def _present(shape: Shape, entries: list[Entry], weights: Weights, notes: list[str]) -> list[Entry]:
    """The entries without the optional parts of which the file has nothing at all; each is said."""
    for part in shape.optional:
        own = [entry for entry in entries if entry.ours[0].startswith(part)]
        if not any(entry.theirs in weights.names for entry in own):
            notes.append(f"there is no {own[0].theirs.rpartition('.')[0]}: {part} is left at 0")
            entries = [entry for entry in entries if entry not in own]
    return entries


def _check_others(shape: Shape, weights: Weights, used: set[str]) -> None:
    """Tensors that no entry asks for must be known buffers, or equal what they are tied to."""
    for name in sorted(weights.names - used):
        if name in shape.copies:
            original = _spelt(shape, shape.copies[name], weights)
            if not np.array_equal(weights.read(name), weights.read(original)):
                raise DataError(f"{weights.folder}: tensor {name} differs from {original}, to which it is tied")
        elif shape.skipped.fullmatch(name) is None:
            raise DataError(
                f"{weights.folder}: tensor {name} has no place in a {shape.architecture}; save that kind of model"
            )
