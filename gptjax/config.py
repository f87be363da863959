"""The configuration of a run: every choice that determines it, complete and hashable."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gptjax.choices import ModelConfig as ModelConfig
from gptjax.choices import ObjectiveConfig as ObjectiveConfig
from gptjax.choices import OptimizerConfig as OptimizerConfig
from gptjax.choices import ScheduleConfig as ScheduleConfig
from gptjax.choices import Sources as Sources
from gptjax.choices import TaskConfig as TaskConfig
from gptjax.choices import TokenizerConfig as TokenizerConfig
from gptjax.choices import Widest as Widest
from gptjax.fields import Config as Config
from gptjax.fields import ConfigError as ConfigError
from gptjax.fields import from_json as from_json
from gptjax.fields import nearest as nearest
from gptjax.fields import to_json as to_json
from gptjax.fields import write_json as write_json

Gather = Literal["update", "layer"]
IN_FINGERPRINT = ("type", "data", "fsdp", "tensor")
"""Fields of a mesh that a fingerprint has, at their defaults; what came later it does not, for older folders' sake."""
SEEDS = 2**32  # random keys of jax know this many; larger ones would be taken for small ones


@dataclass(frozen=True)
class Corpus(Config):
    """One source of text, and its share of the training rows."""

    source: str = "stdlib"
    """Text, JSONL or Parquet file, a folder or glob of them, hf://name[/config][:split], or stdlib (Python's own)."""
    weight: float = 1.0
    """Relative share of the training rows that come from this corpus."""

    def check(self) -> None:
        self.require(self.source != "", "source is empty; name a file, a folder, a glob, hf://NAME or stdlib")
        self.require(self.weight > 0, f"weight={self.weight} must be positive")


@dataclass(frozen=True)
class Data(Config):
    """Which text is trained on, which is held out, and how documents become rows."""

    corpora: tuple[Corpus, ...] = (Corpus(),)
    """The corpora; more than one is a weighted mixture."""
    validation: str | None = None
    """A source of its own for validation; None holds out part of the corpora."""
    split: Literal["position", "document"] = "position"
    """Hold out the last part of the text, or whole documents by their hash."""
    validation_fraction: float = 0.1
    """Share of the documents, or of the characters, held out; unused where validation is a source."""
    packing: Literal["contiguous", "documents"] = "contiguous"
    """contiguous: rows cut from the running text (GPT-1); documents: whole documents, best fit, masked apart."""
    order: Literal["shuffled", "running"] = "shuffled"
    """running: row i of an update continues row i of the one before, and a recurrent model's state is carried over."""

    def check(self) -> None:
        self.require(len(self.corpora) > 0, "corpora is empty; name at least one source")
        f = self.validation_fraction
        self.require(0 <= f < 1, f"validation_fraction={f} is not in [0, 1)")
        alone = len(self.corpora) == 1 and self.packing == "contiguous"
        self.require(
            self.order == "shuffled" or alone, "order='running' reads one corpus with packing='contiguous', no mixture"
        )


@dataclass(frozen=True)
class Evaluation(Config):
    """Judging the held-out split during training."""

    every_steps: int = 500
    """Updates between evaluations; there is always one after the last update."""
    stride: int | None = None
    """Tokens between the windows of the held-out text; None is the context (each window starts afresh)."""
    rows: int = 32
    """Rows judged at once."""
    max_tokens: int | None = None
    """Judge only this many tokens from the start of the split; None judges all of it."""
    state: Literal["fresh", "carried"] = "fresh"
    """fresh: every window begins anew; carried: a recurrent model reads the text in `rows` long parts, each through."""
    tasks: tuple[TaskConfig, ...] = ()
    """What the model is asked besides, at every evaluation; an experiment's function sets it."""

    def check(self) -> None:
        self.require(self.every_steps > 0, f"every_steps={self.every_steps} must be positive")
        names = [task.name for task in self.tasks]
        self.require(len(set(names)) == len(names), f"tasks: two have one name; they are {', '.join(names)}")
        self.require(self.stride is None or self.stride > 0, f"stride={self.stride} must be positive")
        self.require(self.rows > 0, f"rows={self.rows} must be positive")
        fresh = self.state == "fresh" or self.stride is None
        self.require(fresh, f"stride={self.stride} is of windows that begin anew; with state='carried' there are none")
        self.require(self.max_tokens is None or self.max_tokens > 0, f"max_tokens={self.max_tokens} must be positive")


@dataclass(frozen=True)
class Checkpoints(Config):
    """When the state is saved, and what is kept."""

    every_steps: int = 500
    """Updates between checkpoints; there is always one after the last update."""
    keep_last: int = 2
    """Newest checkpoints kept."""
    keep_best: str | None = None
    """Metric of the evaluations (nats_per_token, lambada/accuracy); the best checkpoint by it is kept as well."""

    def check(self) -> None:
        self.require(self.every_steps > 0, f"every_steps={self.every_steps} must be positive")
        self.require(self.keep_last > 0, f"keep_last={self.keep_last} must be positive")


@dataclass(frozen=True)
class Mesh(Config):
    """How devices are laid out; never part of what a run is, so a run continues on another number of them."""

    data: int | None = None
    """Devices along which rows are split; None takes all that fsdp and tensor leave (see train.virtual)."""
    fsdp: int = 1
    """Devices along which rows, parameters and optimizer state are split."""
    tensor: int = 1
    """Devices along which heads, MLP width and vocabulary are split."""
    gather: Gather = "update"
    """When the parts that fsdp makes come together: all as an update begins; or a layer's as it is computed, and again
    backward: more to move, and with model.scan room for one layer instead of all. Needs model.remat other than none;
    without fsdp there is nothing to do."""

    def check(self) -> None:
        for name in ("data", "fsdp", "tensor"):
            value = getattr(self, name)
            self.require(value is None or value > 0, f"{name}={value} must be positive")


@dataclass(frozen=True)
class Run(Config):
    """Everything that determines a run, and where it is placed."""

    model: ModelConfig
    """The model family and its sizes."""
    tokenizer: TokenizerConfig
    """How text becomes token ids."""
    objective: ObjectiveConfig
    """What is learnt."""
    optimizer: OptimizerConfig
    """The update rule."""
    schedule: ScheduleConfig
    """The learning rate over time."""
    data: Data = field(default_factory=Data)
    """The text."""
    steps: int = 1000
    """Updates in all."""
    batch_rows: int = 32
    """Rows (sequences) of one update, over all devices and micro-batches."""
    accumulation: int = 1
    """Micro-batches that one update is split into."""
    clip_norm: float | None = 1.0
    """Largest global norm of the gradient; None does not clip."""
    ema_decay: float | None = None
    """Decay per update of a moving average of the parameters, used to evaluate and sample; None has none."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the computation; parameters and optimizer state are float32 always."""
    seed: int = 0
    """Seed of initial parameters, data order and dropout."""
    init: str | None = None
    """A run, checkpoint or Hugging Face folder whose model, tokenizer and parameters this run starts from."""
    transfer: Literal["all", "embeddings", "none"] = "all"
    """What is taken from init: all parameters; embeddings alone, into this run's own model; none (its model, new)."""
    abort_after_skips: int = 20
    """Updates in a row that may be skipped for a non-finite loss or gradient before the run gives up."""
    log_every_steps: int = 10
    """Updates between rows of metrics.jsonl."""
    evaluation: Evaluation = field(default_factory=Evaluation)
    """Judging during training."""
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    """Saving."""
    mesh: Mesh = field(default_factory=Mesh)
    """Layout of the devices; not part of the run's identity."""

    def check(self) -> None:
        for name in ("steps", "batch_rows", "accumulation", "abort_after_skips", "log_every_steps"):
            self.require(getattr(self, name) > 0, f"{name}={getattr(self, name)} must be positive")
        self.require(
            self.batch_rows % self.accumulation == 0,
            f"batch_rows={self.batch_rows} is not divisible by accumulation={self.accumulation}",
        )
        self.require(self.clip_norm is None or self.clip_norm > 0, f"clip_norm={self.clip_norm} must be positive")
        self.require(
            self.ema_decay is None or 0 < self.ema_decay < 1, f"ema_decay={self.ema_decay} is not between 0 and 1"
        )
        self.require(0 <= self.seed < SEEDS, f"seed={self.seed} is not in [0, 2**32)")
        self.schedule.build(self.steps)


def canonical(config: Config | dict[str, Any]) -> str:
    """The one JSON text of a config, or of its values as `to_json` gives them: sorted keys, no spaces."""
    return json.dumps(to_json(config), sort_keys=True, separators=(",", ":"))


def fingerprint(run: Config) -> str:
    """SHA-256 (hex) of what a run is: its canonical JSON with one mesh for all, since placement is not identity."""
    value = to_json(run)
    if isinstance(run, Run):
        value["mesh"] = {name: default for name, default in to_json(Mesh()).items() if name in IN_FINGERPRINT}
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def save(run: Config, path: Path) -> None:
    """Write `config.json`: every field, and the run's fingerprint under "hash"."""
    write_json(path, {"hash": fingerprint(run), "run": to_json(run)})


def foreign(path: Path) -> bool:
    """Whether a `config.json` is that of a model of another library, as Hugging Face folders have it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "model_type" in content


def read(path: Path) -> Config:
    """Read `config.json`; raises `ConfigError` where it is not one, or was edited so that its hash is wrong."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if "model_type" in content:
            raise ConfigError(f"{path}: is a Hugging Face model; gptjax import {path.parent} --out RUN makes it a run")
        if "run" not in content:
            raise ConfigError(
                f"{path}: not a run's configuration (no field run), nor a Hugging Face model's (no field model_type)"
            )
        if "mesh" in content["run"]:  # a folder may be older than a way to be placed
            content["run"]["mesh"] = to_json(Mesh()) | content["run"]["mesh"]
        run = from_json(content["run"], str(path))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a run's configuration ({error})") from None
    if not isinstance(run, Config) or fingerprint(run) != content.get("hash"):
        raise ConfigError(f"{path}: its hash does not fit its content; restore the file, or start another run")
    return run


def load(path: Path) -> Run:
    """Read the `config.json` of a trained run; raises `ConfigError` as `read` does, and where it is of another kind."""
    run = read(path)
    if not isinstance(run, Run):
        raise ConfigError(f"{path}: is a {type(run).__name__}, which has no trained parameters; name a trained run")
    return run
