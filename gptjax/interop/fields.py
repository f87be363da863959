"""A `config.json` of another library: every field is read by name, checked, and none is dropped in silence."""

import json
from pathlib import Path
from typing import Any, TypeVar

from gptjax.config import ConfigError
from gptjax.data.errors import DataError

T = TypeVar("T")

CONFIG_BYTES = 4 << 20
"""A configuration beyond this is none."""
MOST = 2**31
"""Sizes are below this."""
SILENT = {
    "architectures", "model_type", "dtype", "torch_dtype", "transformers_version", "use_cache", "_name_or_path",
    "bos_token_id", "eos_token_id", "pad_token_id", "n_ctx", "task_specific_params", "id2label", "label2id",
    "num_labels", "gradient_checkpointing", "reorder_and_upcast_attn", "pretraining_tp", "classifier_dropout",
    "predict_special_tokens", "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type",
    "summary_use_proj", "output_past", "problem_type",
}  # fmt: skip
"""Fields that change nothing of what a language model computes."""


def read_json(path: Path, most_bytes: int = CONFIG_BYTES) -> dict[str, Any]:
    """A JSON object from a file; raises `DataError` where it is missing, larger than that, or something else."""
    if not path.is_file():
        raise DataError(f"{path}: is missing")
    if path.stat().st_size > most_bytes:
        raise DataError(f"{path}: has {path.stat().st_size:,} bytes, more than the {most_bytes:,} that such a file may")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({str(error)[:200]})") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: is a {type(value).__name__}, not an object of named fields")
    return value


class Fields:
    """The fields of one file; a method each for what a field may be, all raising `ConfigError` that names it."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self.path = path
        self._values = values
        self._asked = set(SILENT)
        self.notes: list[str] = []
        """What the user must know of what was read."""

    def size(self, name: str, default: int | None = None) -> int:
        """A positive whole number; null and absent are the default."""
        value = self._get(name, default)
        if type(value) is not int or not 0 < value < MOST:
            raise self.wrong(name, value, "is not a whole number from 1 to 2**31 - 1")
        return value

    def number(self, name: str, default: float) -> float:
        """A positive number."""
        value = self._get(name, default)
        if type(value) not in (int, float) or not 0 < value < 1e30:
            raise self.wrong(name, value, "is not a positive number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, value, "is neither true nor false")
        return value

    def choice(self, name: str, meanings: dict[str, T], default: str) -> T:
        """What one of the known words means here."""
        value = self._get(name, default)
        if not isinstance(value, str) or value not in meanings:
            raise self.wrong(name, value, f"has no like here; there are {', '.join(meanings)}")
        return meanings[value]

    def only(self, name: str, value: Any) -> None:
        """The field must have this value, or be absent, which means the same."""
        found = self._get(name, value)
        if type(found) is not type(value) or found != value:
            raise self.wrong(name, found, f"has no like here; only {value!r} has")

    def dropout(self, *names: str) -> float:
        """The one share that all these fields name; 0, and a note, where they differ: it matters to training alone."""
        values = [self._get(name, 0.1) for name in names]
        for name, value in zip(names, values, strict=True):
            if type(value) not in (int, float) or not 0 <= value < 1:
                raise self.wrong(name, value, "is not a share in [0, 1)")
        if len(set(values)) == 1:
            return float(values[0])
        said = ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
        self.notes.append(f"dropout is 0: {said} differ, and a model here has one share for all")
        return 0.0

    def value(self, name: str) -> Any:
        """The field as it is; None where it is absent."""
        return self._get(name, None)

    def unread(self) -> list[str]:
        """Names of the fields that nothing has asked for."""
        return sorted(self._values.keys() - self._asked)

    def wrong(self, name: str, value: Any, why: str) -> ConfigError:
        """The error for a field."""
        return ConfigError(f"{self.path}: {name}={str(value)[:80]!r} {why}")

    def _get(self, name: str, default: Any) -> Any:
        self._asked.add(name)
        value = self._values.get(name)
        return default if value is None else value
