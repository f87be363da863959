"""Configurations as values: frozen dataclasses, checked at birth, and the same after a round trip through JSON."""

import contextlib
import dataclasses
import difflib
import importlib
import json
import math
import os
import sys
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


class ConfigError(ValueError):
    """A user's mistake in a configuration; the message is one line."""


@dataclass(frozen=True)
class Config:
    """A frozen dataclass whose fields hold what their annotations say; raises `ConfigError` otherwise."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if hints[item.name] is float and type(value) is int:
                object.__setattr__(self, item.name, value := float(value))
            if not _fits(value, hints[item.name]):
                raise ConfigError(f"{item.name}={value!r} is not {_spell(hints[item.name])}")
        self.check()

    def check(self) -> None:
        """Raise `ConfigError` where fields contradict each other or are out of range."""

    def require(self, holds: bool, message: str) -> None:
        """Raise `ConfigError(message)` unless `holds`."""
        if not holds:
            raise ConfigError(message)


def _fits(value: object, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return any(value == a and type(value) is type(a) for a in arguments)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, a) for a in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(v, arguments[0]) for v in value)
    if hint is float:
        return isinstance(value, float) and math.isfinite(value)
    if hint is int:
        return type(value) is int
    return isinstance(value, hint)


def _spell(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(a) for a in typing.get_args(hint))
    if hint is float:
        return "a finite number"
    return getattr(hint, "__name__", str(hint)) if not typing.get_args(hint) else str(hint).replace("typing.", "")


# --- JSON ---


def to_json(config: Any) -> Any:
    """The config as plain JSON values; a nested config carries its qualified class name under "type"."""
    if isinstance(config, Config):
        fields = {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
        return {"type": f"{type(config).__module__}.{type(config).__qualname__}", **fields}
    return [to_json(v) for v in config] if isinstance(config, tuple) else config


def from_json(value: Any, where: str = "config") -> Any:
    """The config that `to_json` wrote; unknown or missing fields raise `ConfigError` and name the nearest right one."""
    if isinstance(value, list):
        return tuple(from_json(v, f"{where}[{i}]") for i, v in enumerate(value))
    if not isinstance(value, dict):
        return value
    cls = _config_class(value.get("type"), where)
    names = [f.name for f in dataclasses.fields(cls)]
    given = {k: v for k, v in value.items() if k != "type"}
    for name in given:
        if name not in names:
            raise ConfigError(f"{where}: unknown field {name!r}{nearest(name, names)}; fields are {', '.join(names)}")
    missing = [name for name in names if name not in given]
    if missing:
        raise ConfigError(f"{where}: field {missing[0]!r} of {cls.__name__} is missing")
    try:
        return cls(**{k: from_json(v, f"{where}.{k}") for k, v in given.items()})
    except ConfigError as error:
        raise error if str(error).startswith(where) else ConfigError(f"{where}: {error}") from None


def _config_class(name: Any, where: str) -> type[Config]:
    """Only classes of gptjax itself, or of modules that the caller has already imported: a file cannot load code."""
    module, _, attribute = str(name).rpartition(".")
    if module.startswith("gptjax."):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    found = getattr(sys.modules.get(module), attribute, None)
    if not (isinstance(found, type) and issubclass(found, Config)):
        raise ConfigError(f"{where}: type {name!r} is not a configuration class of gptjax or of an imported module")
    return found


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a kill or a crash at any moment leaves the old file or the new one, never half of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # others may be writing the same file
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def nearest(name: str, names: list[str]) -> str:
    """`", did you mean 'width'?"`, or nothing where no name is near."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""
