"""Fine-tuning on examples of unequal lengths: packed whole into rows, or padded, against PyTorch.

Command      python experiments/bench/finetuning.py CASE [--rounds 5] [--json OUT]     CASE: small_cpu on a CPU;
             gpt2_124m on a GPU
Cost         two minutes on two CPU cores; four on an H200
Peers        torch_gpt.py in this folder: examples padded to the longest of their micro-batch, eager and torch.compile;
             on a GPU also the packed rows with FlexAttention's document mask (it has no backward pass on a CPU)
Data         random tokens; lengths log-uniform (64 to 2,048 on a GPU), the first third of an example is its prompt

One update reads the same examples in every form, so useful tokens (those of examples, no padding) a second compare.
Before anything is timed every example must have the same loss packed and padded, and all forms the same loss of the
first updates.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from command import options, tell
from interleaved import medians
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch_gpt import TorchGPT, causal, load

from gptjax.cli import guarded
from gptjax.config import ConfigError, Run
from gptjax.data import packing
from gptjax.data.tokenizers import Bytes
from gptjax.models.gpt import GPT
from gptjax.objectives.causal import Causal, next_token
from gptjax.objectives.loss import token_nats
from gptjax.train.optim import AdamW
from gptjax.train.schedules import Constant
from gptjax.train.state import init_state
from gptjax.train.step import jitted, make_step
from gptjax.types import Batch, Rows


class Case(NamedTuple):
    """One row of the table."""

    model: GPT
    vocab_size: int
    lengths: tuple[int, int]
    """Shortest and longest example, in tokens."""
    examples: int
    """Of one update."""
    micro_rows: int
    """Rows of a micro-batch."""
    precision: Literal["float32", "bfloat16"]


CASES = {
    "small_cpu": Case(
        GPT(layers=4, width=256, heads=4, mlp_width=1024, context=512), 4096, (16, 512), 48, 4, "float32"
    ),
    "gpt2_124m": Case(
        GPT(layers=12, width=768, heads=12, mlp_width=3072, context=2048), 50304, (64, 2048), 128, 16, "bfloat16"
    ),
}
LEARNING_RATE = 1e-4
PARITY = {"float32": 1e-3, "bfloat16": 3e-2}
"""Largest difference in nats: of an example's mean loss, and of the first updates' losses."""
Trainer = Callable[[], float]
"""One update; gives its loss, mean nats of the tokens that count."""


def drawn(case: Case) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(tokens, weights) of each example."""
    rng = np.random.default_rng(0)
    low, high = np.log(case.lengths)
    lengths = np.exp(rng.uniform(low, high, case.examples)).astype(int)
    tokens = [rng.integers(0, case.vocab_size, n).astype(np.int32) for n in lengths]
    return tokens, [(np.arange(n) >= n // 3).astype(np.float32) for n in lengths]


def packed(case: Case, tokens: list[np.ndarray], weights: list[np.ndarray]) -> Batch:
    """All examples in as few rows as best fit finds, filled up to whole micro-batches."""
    source, _ = packing.examples(tokens, weights, case.model.context, "refuse")
    return _filled(case, source.take(np.arange(source.rows), 0))


def padded(case: Case, tokens: list[np.ndarray], weights: list[np.ndarray]) -> Batch:
    """One example a row, all as wide as the longest."""
    shape = len(tokens), max(map(len, tokens))
    rows = Rows(np.zeros(shape, np.int32), np.zeros(shape, np.float32), np.zeros(shape, np.int32))
    for row, (ids, counts) in enumerate(zip(tokens, weights, strict=True)):
        rows.tokens[row, : len(ids)], rows.weights[row, : len(ids)] = ids, counts
        rows.segments[row, : len(ids)] = 1  # type: ignore[index]
    return _filled(case, rows)


def _filled(case: Case, rows: Rows) -> Batch:
    spare = -len(rows.tokens) % case.micro_rows
    return packing.to_batch(Rows(*jax.tree.map(lambda x: np.pad(x, ((0, spare), (0, 0))), rows[:3])))


def ours(case: Case, batch: Batch) -> tuple[Trainer, Any]:
    """gptjax's own step over all rows in micro-batches, and the parameters that it starts from."""
    rows = len(batch.inputs)
    run = Run(
        model=case.model, tokenizer=Bytes(), objective=Causal(), optimizer=AdamW(learning_rate=LEARNING_RATE),
        schedule=Constant(), batch_rows=rows, accumulation=rows // case.micro_rows, precision=case.precision,
        clip_norm=None,
    )  # fmt: skip
    objective = next_token(case.model.build(case.vocab_size, case.vocab_size))
    optimizer = run.optimizer.build(run.schedule.build(run.steps))
    state = jax.jit(lambda key: init_state(run, objective, optimizer, key))(jax.random.key(0))
    params = jax.device_get(state.params["model"])
    placed = jax.device_put(batch)
    step = make_step(run, objective.loss, optimizer)
    update = jitted(step, jax.tree.map(lambda x: x.sharding, state)).lower(state, placed).compile()
    held = [state]

    def train() -> float:
        held[0], metrics = update(held[0], placed)
        return float(metrics["loss_nats"])

    return train, params


class _Peer:
    """A PyTorch model with its optimizer, and an update over micro-batches."""

    def __init__(self, case: Case, params: Any, compiled: bool | None) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = TorchGPT(case.model, case.vocab_size, case.vocab_size)
        load(self.model, params)
        self.model.to(self.device)
        matrices = [p for p in self.model.parameters() if p.ndim == 2 and p is not self.model.tokens.weight]
        named, decay = {id(p) for p in matrices}, AdamW().weight_decay
        others = [p for p in self.model.parameters() if id(p) not in named]
        groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        betas = (AdamW().beta1, AdamW().beta2)
        self.optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=betas, eps=1e-8, fused=True)
        self.forward = torch.compile(self.model, dynamic=True) if compiled else self.model
        self.half = case.precision == "bfloat16"

    def update(self, micro_batches: list[tuple[torch.Tensor, ...]], mixes: list[Any], count: float) -> float:
        total = 0.0
        for arrays, mix in zip(micro_batches, mixes, strict=True):
            with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
                loss = self.forward(*arrays, mix) / count
            loss.backward()
            total += loss.detach()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(total)


def theirs_padded(case: Case, params: Any, batch: Batch, lengths: list[int], compiled: bool) -> Trainer:
    """Every micro-batch as wide as its own longest example."""
    peer, micro_batches = _Peer(case, params, compiled), []
    for first in range(0, len(lengths), case.micro_rows):
        part = slice(first, first + case.micro_rows)
        width = max(lengths[part]) - 1
        arrays = (np.asarray(x)[part, :width] for x in batch[:3])
        inputs, targets, weights = (torch.from_numpy(x.copy()).to(peer.device) for x in arrays)
        micro_batches.append((inputs.long(), targets.long(), weights, None))
    count = float(np.sum(batch.weights))
    return lambda: peer.update(micro_batches, [causal] * len(micro_batches), count)


def theirs_packed(case: Case, params: Any, batch: Batch) -> Trainer:
    """The same rows as ours with compiled FlexAttention; one block mask a micro-batch, made once."""
    peer, micro_batches, mixes = _Peer(case, params, None), [], []
    for first in range(0, len(batch.inputs), case.micro_rows):
        part = slice(first, first + case.micro_rows)
        inputs, targets, weights, segments, positions = (
            torch.from_numpy(np.asarray(x)[part].copy()).to(peer.device) for x in batch
        )
        micro_batches.append((inputs.long(), targets.long(), weights, positions.long()))
        mixes.append(partial(flex_attention, block_mask=_document_mask(segments)))
    peer.forward = torch.compile(peer.model)
    count = float(np.sum(batch.weights))
    return lambda: peer.update(micro_batches, mixes, count)


def _document_mask(segments: torch.Tensor) -> Any:
    def sees(b: Any, h: Any, i: Any, j: Any) -> Any:
        return (i >= j) & (segments[b, i] == segments[b, j])

    return create_block_mask(sees, len(segments), None, segments.shape[1], segments.shape[1], device=segments.device)


def losses(case: Case, params: Any, batch: Batch) -> dict[bytes, float]:
    """Mean nats of every example, by its inputs."""
    model = case.model.build(case.vocab_size, case.vocab_size)
    cast = jax.tree.map(lambda x: jnp.asarray(x, case.precision), params)

    @jax.jit
    def nats(batch: Batch) -> jax.Array:
        return token_nats(model.apply(cast, batch.inputs, batch.segments, batch.positions), batch.targets)

    found = {}
    for row in range(0, len(batch.inputs), case.micro_rows):
        some = jax.tree.map(lambda x, row=row: np.asarray(x)[row : row + case.micro_rows], batch)
        nats_BT = np.asarray(nats(some))
        for b, segments_T in enumerate(some.segments):
            for number in range(1, segments_T.max() + 1):
                own_T = segments_T == number
                counts = some.weights[b][own_T]
                key = np.asarray(some.inputs)[b][own_T][: max(1, int(np.flatnonzero(counts)[-1]))].tobytes()
                found[key] = float(np.sum(nats_BT[b][own_T] * counts) / np.sum(counts))
    return found


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Check parity, then time; one object of results."""
    case = CASES[name]
    tokens, weights = drawn(case)
    rows, wide = packed(case, tokens, weights), padded(case, tokens, weights)
    train, params = ours(case, rows)
    one, other = losses(case, params, rows), losses(case, params, wide)
    if one.keys() != other.keys() or len(one) != case.examples:
        raise ConfigError(f"{name}: {len(one)} and {len(other)} examples where {case.examples} were drawn")
    apart = max(abs(one[key] - other[key]) for key in one)
    lengths = [len(ids) for ids in tokens]
    trainers = {"gptjax packed": train, "gptjax padded": ours(case, wide)[0]}
    trainers["torch padded"] = theirs_padded(case, params, wide, lengths, False)
    trainers["torch.compile padded"] = theirs_padded(case, params, wide, lengths, True)
    if torch.cuda.is_available():
        trainers["torch packed, Flex"] = theirs_packed(case, params, rows)
    first = {who: [trainer() for _ in range(2)] for who, trainer in trainers.items()}
    gap = max(float(np.max(np.abs(np.subtract(found, first["gptjax packed"])))) for found in first.values())
    if max(apart, gap) > PARITY[case.precision]:
        raise ConfigError(f"{name}: examples differ by {apart:.2g} nats, updates by {gap:.2g}: {first}")
    seconds = medians(trainers, rounds)
    useful = sum(lengths)
    return {
        "case": name,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "torch": torch.__version__,
        "useful_tokens": useful,
        "filled": {"packed": useful / rows.inputs.size, "padded": useful / wide.inputs.size},
        "largest_difference_of_an_example_nats": apart,
        "largest_difference_of_an_update_nats": gap,
        "useful_tokens_per_second": {who: useful / value for who, value in seconds.items()},
        "ratio": {who: value / seconds["gptjax packed"] for who, value in seconds.items()},
    }


def table(found: dict[str, Any]) -> str:
    """One case in Markdown."""
    lines = ["| case | form | useful tokens/s | gptjax packed is faster by |", "|---|---|---|---|"]
    for who, rate in found["useful_tokens_per_second"].items():
        lines.append(f"| {found['case']} | {who} | {rate:,.0f} | {found['ratio'][who]:.2f} |")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Measure, write, print."""
    parser = options(str(__doc__), rounds=5)
    parser.add_argument("case", choices=CASES)
    asked = parser.parse_args(argv)
    tell(measure(asked.case, asked.rounds), table, asked.json)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
