"""Low-rank adapters in the form of the PEFT library, written beside a frozen base and put into one.

There a matrix has lora_A [rank, in] and lora_B [out, rank] under "base_model.model." and its own name; the sum is
W + scale B A with scale = alpha / rank of that matrix, or alpha / sqrt(rank) (rslora). Where several matrices here are
one there (queries, keys and values of GPT-2), their adapters are one of the summed rank, side by side in A and in
blocks in B: the same sum, exactly.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from gptjax import config
from gptjax.config import ConfigError, write_json
from gptjax.data.errors import DataError
from gptjax.interop import folder as folders
from gptjax.interop import safe, shapes
from gptjax.interop.fields import Fields, read_json
from gptjax.interop.layout import Entry
from gptjax.objectives.lora import Lora, at
from gptjax.train.state import path_of
from gptjax.trained import Trained
from gptjax.types import Params

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
NAME = re.compile(re.escape(PREFIX) + r"(.+)\.lora_(A|B)\.weight")
TRAINING = {
    "auto_mapping", "base_model_name_or_path", "peft_version", "revision", "task_type", "inference_mode",
    "lora_dropout", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
    "fan_in_fan_out", "megatron_core", "qalora_group_size", "runtime_config", "loftq_config", "eva_config",
    "corda_config", "lora_ga_config", "ensure_weight_tying",
}  # fmt: skip
"""Fields that change nothing of what trained adapters compute."""
STARTS = (True, False, "gaussian", "eva", "orthogonal")
"""First values of adapters that leave the base as it is; others (pissa, olora, loftq) take them from it."""


def write(found: Trained, folder: Path, say: Callable[[str], None]) -> None:
    """Write the adapters of a run, as `trained.stored` gives it, as a folder that PEFT loads onto the base.

    Raises `ConfigError` where the run has none, where more of the model was trained, and what `folder.write` raises.
    """
    run, lora = found.run, found.run.objective
    if not isinstance(lora, Lora):
        raise ConfigError(f"--adapter: {type(lora).__name__} trained no adapters; without it the model is written")
    if lora.whole:
        raise ConfigError(f"--adapter: whole={lora.whole} was trained besides; without it all is written")
    shape = shapes.fitting(run.model)
    shape.write(run.model)
    folders.refuse_present(folder)
    if left := sorted(found.params.keys() - {"model", "adapter"}):
        say(f"left out, since adapters have no place for them: {', '.join(left)}")
    tensors: dict[str, np.ndarray] = {}
    parts = {}
    widths = _widths(found.params["model"])
    entries = [entry for entry in shape.entries(run.model) if any(_adapted(found.params["adapter"], entry))]
    for entry in entries:
        pairs = _adapted(found.params["adapter"], entry)
        for module, a, b in _modules(entry, pairs, [widths[path] for path in entry.ours]):
            tensors |= {f"{PREFIX}{module}.lora_A.weight": a.T, f"{PREFIX}{module}.lora_B.weight": b.T}
            parts[module] = sum(pair is not None for pair in pairs)
    fan_in = any(not entry.transposed for entry in entries)
    base = _base(found)
    if base is None:
        say(f"the base is {run.init}, which is no Hugging Face folder: export it too, and load the adapters onto that")
    with folders.fresh(folder) as making:
        safe.write_file(making / WEIGHTS, tensors)
        write_json(making / CONFIG, _config(lora, parts, fan_in, base, found.model.causal))


def _base(found: Trained) -> str | None:
    """The folder whose parameters the adapters were trained on; None where they were those of a run."""
    init = found.run.init
    return init if init is not None and config.foreign(Path(init) / folders.CONFIG) else None


def _config(lora: Lora, parts: dict[str, int], fan_in: bool, base: str | None, causal: bool) -> dict[str, Any]:
    ranks = {re.escape(module): lora.rank * count for module, count in parts.items() if count > 1}
    alphas = {re.escape(module): lora.alpha * count for module, count in parts.items() if count > 1}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if causal else None,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "target_modules": sorted(parts),
        "fan_in_fan_out": fan_in,
        "bias": "none",
        "modules_to_save": None,
    }


def _widths(model: Params) -> dict[str, int]:
    return {path_of(path): x.shape[-1] for path, x in jax.tree_util.tree_leaves_with_path(model)}


def _adapted(adapter: Params, entry: Entry) -> list[tuple[np.ndarray, np.ndarray] | None]:
    """(A, B) of each of an entry's parameters, None where there is none."""
    pairs = [at(adapter, path) for path in entry.ours]
    return [None if pair is None else (np.asarray(pair[0]), np.asarray(pair[1])) for pair in pairs]


def _modules(
    entry: Entry, pairs: list[tuple[np.ndarray, np.ndarray] | None], widths: list[int]
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(name, A [in, rank], B [rank, out]) of an entry's matrix there, layer by layer."""
    name, stacked = entry.theirs.removesuffix(".weight"), "{}" in entry.theirs
    starts = np.cumsum([0, *widths])
    layers = len(next(pair for pair in pairs if pair is not None)[0]) if stacked else 1
    for number in range(layers):
        columns, blocks = [], []
        for pair, start, width in zip(pairs, starts[:-1], widths, strict=True):
            if pair is None:
                continue
            a, b = (x[number] if stacked else x for x in pair)
            columns.append(a)
            blocks.append(np.pad(b, ((0, 0), (start, starts[-1] - start - width))))
        yield name.format(number), np.concatenate(columns, axis=1), np.concatenate(blocks)


class Scales(NamedTuple):
    """What multiplies B A of a matrix, by its name and its rank."""

    rank: int
    alpha: float
    ranks: dict[str, Any]
    alphas: dict[str, Any]
    rooted: bool

    def of(self, module: str) -> tuple[int, float]:
        """(rank, scale)."""
        rank, alpha = _matched(self.ranks, module, self.rank), _matched(self.alphas, module, self.alpha)
        return rank, alpha / (rank**0.5 if self.rooted else rank)


def _matched(patterns: dict[str, Any], module: str, otherwise: Any) -> Any:
    return next((v for pattern, v in patterns.items() if re.match(rf"(.*\.)?({pattern})$", module)), otherwise)


def _scales(path: Path) -> Scales:
    """What a configuration says, once everything that has no like here is refused by its field."""
    values = read_json(path)
    fields = Fields(path, {name: value for name, value in values.items() if name not in TRAINING})
    fields.only("peft_type", "LORA")
    fields.only("bias", "none")
    if (start := fields.value("init_lora_weights")) not in (None, *STARTS):
        raise fields.wrong("init_lora_weights", start, "changed the base as well; save the adapters converted to it")
    found = Scales(
        fields.size("r"),
        fields.number("lora_alpha", 8.0),
        _patterns(fields, "rank_pattern"),
        _patterns(fields, "alpha_pattern"),
        fields.flag("use_rslora", False),
    )
    for name in fields.unread():
        if (value := fields.value(name)) not in (None, False, {}, []):
            raise fields.wrong(name, value, "has no like here")
    return found


def _patterns(fields: Fields, name: str) -> dict[str, Any]:
    value = fields.value(name) or {}
    kinds = (int,) if name == "rank_pattern" else (int, float)
    if not isinstance(value, dict) or not all(type(v) in kinds and v > 0 for v in value.values()):
        raise fields.wrong(name, value, "does not give positive numbers by name")
    try:
        [re.compile(pattern) for pattern in value]
    except re.error:
        raise fields.wrong(name, value, "holds no regular expressions") from None
    # Somebody else's expressions: one that repeats a repetition may take for ever.
    if any(mark in pattern for pattern in value for mark in "*+{"):
        raise fields.wrong(name, value, "has names that repeat something; write each name out")
    return value


def put(adapter: Path, described: folders.Described, params: Params) -> Params:
    """A base's host arrays with the adapters of a folder added to their matrices.

    Raises `DataError` naming the first tensor that has no place in this base, no partner or another shape, and
    `ConfigError` naming a field that has no like here.
    """
    scales = _scales(adapter / CONFIG)
    leaves = {path_of(path): np.array(x) for path, x in jax.tree_util.tree_leaves_with_path(params)}
    places = _places(described, leaves)
    with safe.opened(adapter, WEIGHTS) as weights:
        modules = {_module(adapter, name): None for name in sorted(weights.names)}
        if not modules:
            raise DataError(f"{adapter}: {WEIGHTS} holds no adapters")
        for module in modules:
            if module not in places:
                raise DataError(f"{adapter}: there is no matrix {module} in a {described.shape.architecture}")
            entry, number = places[module]
            here = [leaves[path] if number is None else leaves[path][number] for path in entry.ours]
            rank, scale = scales.of(module)
            pair = {"A": (rank, len(here[0])), "B": (sum(x.shape[1] for x in here), rank)}
            for part, size in pair.items():
                name = f"{PREFIX}{module}.lora_{part}.weight"
                if name not in weights.names:
                    raise DataError(f"{adapter}: tensor {name} is missing")
                weights.check(name, size)
            a, b = (np.asarray(weights.read(f"{PREFIX}{module}.lora_{x}.weight"), np.float32) for x in "AB")
            changes = np.split(scale * (b @ a).T, np.cumsum([x.shape[1] for x in here])[:-1], axis=1)
            for kernel, change in zip(here, changes, strict=True):
                kernel += change
    return jax.tree_util.tree_map_with_path(lambda path, _: leaves[path_of(path)], params)


def _module(adapter: Path, name: str) -> str:
    if (found := NAME.fullmatch(name)) is None:
        raise DataError(f"{adapter}: tensor {name} is no low-rank adapter of a matrix; only lora_A and lora_B are read")
    return found[1]


def _places(described: folders.Described, leaves: dict[str, np.ndarray]) -> dict[str, tuple[Entry, int | None]]:
    """Every matrix of the base by its name there, with the body's prefix and without."""
    found: dict[str, tuple[Entry, int | None]] = {}
    for entry in described.shape.entries(described.model):
        if not entry.ours[0].endswith("/kernel"):
            continue
        layers = range(len(leaves[entry.ours[0]])) if "{}" in entry.theirs else (None,)
        for number in layers:
            name = entry.theirs.removesuffix(".weight").format(number)
            found |= dict.fromkeys((name, name.removeprefix(described.shape.prefix)), (entry, number))
    return found
