"""What a run folder has to tell, read while the run may still be going on."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gptjax import config, trained
from gptjax.config import ConfigError
from gptjax.data.errors import DataError
from gptjax.objectives.lora import Lora
from gptjax.train import log

Row = dict[str, Any]


class Adapters(NamedTuple):
    """What a run of low-rank adapters trained."""

    lora: Lora
    trained: int
    """Scalars that were, heads included."""
    frozen: int


@dataclass(frozen=True)
class Record:
    """A run as its folder shows it; what is not there is empty."""

    name: str
    config: dict[str, Any]
    """Field -> value, nested fields as "model.width"; classes by their short name, under "model"."""
    environment: dict[str, Any]
    """Of the process that went on with it last, and how often it was started."""
    training: list[Row]
    """Rows of training, in order of steps."""
    judged: list[Row]
    """Rows of evaluation, in order of steps."""
    tables: list[Row]
    """[{"title", "columns", "rows", "note"}]."""
    samples: list[Row]
    """[{"prompt", "text", "decoding"}]."""
    surprisal: list[Row]
    """[{"text", "bits"}]."""
    pictures: list[tuple[str, str]]
    """(name, SVG) of every `pictures/NAME.svg`, in order of their names."""
    parameters: int | None
    """Scalars of the model; None where its code or its tokenizer cannot be found."""
    adapters: Adapters | None = None
    """None likewise, and where all of the model was trained."""


def read(folder: Path, name: str) -> Record:
    """The run in `folder`; raises `ConfigError` where there is none or a file of it is not JSON."""
    if not (folder / "config.json").is_file():
        raise ConfigError(f"report {folder}: holds no config.json; name a run folder")
    if config.foreign(folder / "config.json"):
        raise ConfigError(f"report {folder}: a Hugging Face folder tells nothing of training; name a run folder")
    metrics = folder / "metrics.jsonl"
    rows = log.rows(metrics) if metrics.exists() else []
    starts = _json(folder / "environment.json", {"starts": []})["starts"]
    return Record(
        name=name,
        config=flat(_json(folder / "config.json", {})["run"]),
        environment={"starts": len(starts), **starts[-1]} if starts else {},
        training=[row for row in rows if "split" not in row],
        judged=[row for row in rows if "split" in row],
        tables=_json(folder / "results.json", []),
        samples=_json(folder / "samples.json", []),
        surprisal=_json(folder / "surprisal.json", {"tokens": []})["tokens"],
        pictures=[(p.stem, p.read_text(encoding="utf-8")) for p in sorted((folder / "pictures").glob("*.svg"))],
        **_sizes(folder),
    )


def _json(path: Path, absent: Any) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else absent
    except ValueError as error:
        raise ConfigError(f"{path}: is not JSON ({error}); mend or remove it") from None


def _sizes(folder: Path) -> dict[str, Any]:
    """The fields of a record that need the run's own code and tokenizer."""
    try:
        run, tokenizer, _ = trained.recall(folder)
    except (ConfigError, DataError, OSError):
        return {"parameters": None}
    adapters = None
    if isinstance(run.objective, Lora):
        with suppress(ConfigError):  # a target that names nothing in today's model
            adapters = Adapters(run.objective, *trained.scalars(run, tokenizer))
    vocab_size, multiple = tokenizer.vocab_size + len(run.objective.specials()), run.tokenizer.pad_vocab_multiple
    return {"parameters": run.model.parameter_count(-(-vocab_size // multiple) * multiple), "adapters": adapters}


def flat(value: Any, where: str = "") -> dict[str, Any]:
    """A configuration in JSON form as one level: {"model": "GPT", "model.width": 8, "data.corpora[0].weight": 1.0}."""
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):
        return {k: v for i, item in enumerate(value) for k, v in flat(item, f"{where}[{i}]").items()}
    if not isinstance(value, dict):
        return {where: value}
    module, _, name = str(value.get("type", "")).rpartition(".")
    chosen = where and name and module != "gptjax.config"  # the parts that every run has are no choice
    found: dict[str, Any] = {where: name} if chosen else {}
    for field, inner in value.items():
        if field != "type":
            found |= flat(inner, f"{where}.{field}" if where else field)
    return found
