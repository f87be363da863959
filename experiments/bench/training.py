"""One training step against PyTorch: GPT-2 shapes, the same weights, the same batch, AdamW.

Command      python experiments/bench/training.py CASE [--rows N] [--rounds 7] [--json OUT]     CASE: small_cpu
             medium_cpu long_cpu on a CPU, which is two devices with JAX_NUM_CPU_DEVICES=2; gpt2_124m gpt2_350m
             gpt2_1558m on a GPU
Cost         small_cpu three minutes, medium_cpu and long_cpu six, on two cores
Forms        gptjax as it is and, on a CPU, with `--model.remat mlp`, for memory
Peer         torch_gpt.py in this folder: eager, and torch.compile (needs a C++ compiler on a CPU, Triton on a GPU)
Data         random tokens, Zipf-distributed as text is

The losses of the first updates must agree before a form is timed. Each form has a process of its own, as users run it,
and rounds of several steps behind one that is not timed are interleaved, so that what else the machine does hits all
alike; on a GPU, whose memory has no room for all forms at once, each starts anew for its share of the rounds, in turns.
The table has medians and the ratio peer / gptjax. FLOPs are counted by both conventions (6 N + 12 L T D a token, and
its causal half). Memory on a GPU is the most that each library's allocator gave; on a CPU each form shows in another
process the most that it holds beyond what its libraries do, compilation left out.
"""

import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax
import torch
from apart import AS_STARTED, Apart
from command import options, tell
from interleaved import times
from memory import Work, peak_bytes
from torch_gpt import TorchGPT, load

from gptjax.cli import guarded
from gptjax.config import ConfigError, Mesh, Run
from gptjax.data.tokenizers import Bytes
from gptjax.models.gpt import GPT
from gptjax.models.stack import Remat
from gptjax.objectives.causal import Causal, next_token
from gptjax.train import allocator, machine, sharding
from gptjax.train.optim import AdamW
from gptjax.train.schedules import Constant
from gptjax.train.state import TrainState, init_state
from gptjax.train.step import jitted, make_step
from gptjax.types import Batch, Objective, Place


class Case(NamedTuple):
    """One row of the table."""

    model: GPT
    vocab_size: int
    padded: int
    rows: int
    precision: Literal["float32", "bfloat16"]
    steps: int
    """Updates timed in one round."""


def _gpt2(layers: int, width: int, heads: int, context: int) -> GPT:
    return GPT(layers=layers, width=width, heads=heads, mlp_width=4 * width, context=context)


CASES = {
    "small_cpu": Case(_gpt2(4, 128, 4, 64), 65, 65, 12, "float32", 20),
    "medium_cpu": Case(_gpt2(6, 384, 6, 256), 8192, 8192, 8, "float32", 2),
    "long_cpu": Case(_gpt2(4, 256, 4, 1024), 8192, 8192, 4, "float32", 2),
    "gpt2_124m": Case(_gpt2(12, 768, 12, 1024), 50257, 50304, 32, "bfloat16", 20),
    "gpt2_350m": Case(_gpt2(24, 1024, 16, 1024), 50257, 50304, 16, "bfloat16", 10),
    "gpt2_1558m": Case(_gpt2(48, 1600, 25, 1024), 50257, 50304, 16, "bfloat16", 5),
}
LEARNING_RATE, WEIGHT_DECAY, BETAS = 3e-4, 0.1, (0.9, 0.95)
LEAN = "gptjax, remat mlp"
"""On a CPU only, where memory is measured."""
OURS: dict[str, Remat] = {"gptjax": "none", LEAN: "mlp"}
FORMS = dict.fromkeys(OURS, AS_STARTED) | {"torch eager": {}, "torch.compile": {}}
"""Each with its process's environment; huge pages made PyTorch no faster (THP_MEM_ALLOC_ENABLE, or gptjax's way)."""
PARITY_STEPS = 3
PARITY = {"float32": 1e-4, "bfloat16": 2e-2}
"""Largest difference of the first losses, nats."""

TURNS_ON_GPU = 2
"""So often does each form start on a GPU."""

Trainer = Callable[[int], tuple[float, int]]
"""So many updates of the same batch; gives the last loss in nats, and the most bytes of a GPU that were ever taken."""


def batch(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, [B, T] int32 each, Zipf-distributed ids."""
    rng = np.random.default_rng(0)
    share_V = 1 / np.arange(1, case.vocab_size + 1)
    shape = (case.rows, case.model.context + 1)
    tokens_BU = rng.choice(case.vocab_size, shape, p=share_V / share_V.sum()).astype(np.int32)
    return tokens_BU[:, :-1], tokens_BU[:, 1:]


def parts(case: Case, place: Place | None = None) -> tuple[Run, Objective, optax.GradientTransformation, TrainState]:
    """gptjax's run of a case, its objective and optimizer, and the state that every form starts from."""
    adamw = AdamW(learning_rate=LEARNING_RATE, beta1=BETAS[0], beta2=BETAS[1], weight_decay=WEIGHT_DECAY)
    run = Run(
        model=case.model, tokenizer=Bytes(), objective=Causal(), optimizer=adamw, schedule=Constant(),
        batch_rows=case.rows, precision=case.precision, clip_norm=None,
    )  # fmt: skip
    objective = next_token(case.model.build(case.vocab_size, case.padded, place))
    optimizer = run.optimizer.build(run.schedule.build(run.steps))
    return run, objective, optimizer, jax.jit(lambda key: init_state(run, objective, optimizer, key))(jax.random.key(0))


def ours(case: Case, remat: Remat) -> Trainer:
    """gptjax's own step as `gptjax train` compiles it."""
    case = case._replace(model=replace(case.model, remat=remat))
    devices = jax.devices()
    mesh = sharding.make_mesh(Mesh(), devices if devices[0].platform == "cpu" else devices[:1])  # the peer has one GPU
    run, objective, optimizer, state = parts(case, sharding.place(mesh))
    shardings, _ = sharding.state_shardings(state, mesh)
    state = jax.device_put(state, shardings)
    inputs_BT, targets_BT = batch(case)
    rows = sharding.placer(mesh)(Batch(inputs_BT, targets_BT, np.ones(inputs_BT.shape, np.float32), None, None))
    step = make_step(run, objective.loss, optimizer, sharding.layout(mesh))
    update = jitted(step, shardings).lower(state, rows).compile()
    held = [state]

    def train(steps: int) -> tuple[float, int]:
        for _ in range(steps):
            held[0], metrics = update(held[0], rows)
        loss_nats = float(metrics["loss_nats"])
        return loss_nats, (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)

    return train


def theirs(case: Case, params: Any, compiled: bool) -> Trainer:
    """The peer, eager or compiled; on a GPU with cuDNN attention and autocast."""
    gpu = torch.cuda.is_available()
    device = "cuda" if gpu else "cpu"
    if gpu:
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_math_sdp(False)
        torch.set_float32_matmul_precision("high")
    model = TorchGPT(case.model, case.padded, case.vocab_size)
    load(model, params)
    model.to(device)
    decayed = [p for p in model.parameters() if p.ndim == 2 and p is not model.tokens.weight]
    named = {id(p) for p in decayed}
    plain = [p for p in model.parameters() if id(p) not in named]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS, eps=1e-8, fused=True)
    forward = torch.compile(model) if compiled else model
    inputs_BT, targets_BT = (torch.from_numpy(x.astype(np.int64)).to(device) for x in batch(case))

    def train(steps: int) -> tuple[float, int]:
        for _ in range(steps):
            with torch.autocast(device, torch.bfloat16, enabled=case.precision == "bfloat16"):
                loss = forward(inputs_BT, targets_BT)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.item(), torch.cuda.max_memory_allocated() if gpu else 0

    return train


def begun() -> None:
    """What `gptjax train` begins with."""
    allocator.keep_freed_memory()
    jax.devices()


def timed(case: Case, who: str) -> Trainer:
    """A form in the process that it has to itself, from the same parameters as the others."""
    if who in OURS:
        begun()
        return ours(case, OURS[who])
    jax.config.update("jax_platforms", "cpu")  # only draws parameters here
    params = jax.device_get(parts(case)[3].params["model"])
    return theirs(case, params, compiled=who == "torch.compile")


def alone(case: Case, who: str) -> Work:
    """Two updates of one form, for a process that holds no other."""
    if who in OURS:
        return partial(ours(case, OURS[who]), 2)
    shapes = jax.eval_shape(case.model.build(case.vocab_size, case.padded).init, jax.random.key(0))
    params = jax.tree.map(lambda x: np.full(x.shape, 0.02, np.float32), shapes)
    return partial(theirs(case, params, compiled=who == "torch.compile"), 2)


def measure(name: str, case: Case, rounds: int) -> dict[str, Any]:
    """Check parity, then time; one object of results."""
    on_cpu = not torch.cuda.is_available()
    forms = {who: environment for who, environment in FORMS.items() if on_cpu or who != LEAN}
    turns = [list(forms)] if on_cpu else [[who] for who in forms] * TURNS_ON_GPU
    losses: dict[str, list[float]] = {}
    found: dict[str, list[float]] = {who: [] for who in forms}
    peaks: dict[str, int] = {}
    for turn in turns:
        trainers = {who: Apart(partial(timed, case, who), forms[who]) for who in turn}
        losses |= {who: [trainer(1)[0] for _ in range(PARITY_STEPS)] for who, trainer in trainers.items()}
        worst = largest_difference(name, losses, PARITY[case.precision])
        rounds_of = {who: partial(trainer, case.steps) for who, trainer in trainers.items()}
        # After a pause a virtual machine may have to ask its host for memory again that an update gives back and takes.
        first_steps = {who: partial(trainer, 1) for who, trainer in trainers.items()}
        seconds = times(rounds_of, rounds if on_cpu else -(-rounds // TURNS_ON_GPU), before=first_steps)
        for who, trainer in trainers.items():
            found[who] += seconds[who]
            peaks[who] = trainer(1)[1]
            trainer.end()
    if on_cpu:
        first = {who: begun if who in OURS else jax.devices for who in forms}
        peaks = {who: peak_bytes(partial(alone, case, who), first[who], forms[who]) for who in forms}
    milliseconds = {who: 1e3 * statistics.median(seconds) / case.steps for who, seconds in found.items()}
    whole, causal = case.model.flops_per_token(case.padded, case.model.context)
    peak = machine.peak_flops(jax.devices()[0].device_kind)
    rate = 1e3 * case.rows * case.model.context / milliseconds["gptjax"]
    return {
        "case": name,
        "rows": case.rows,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "largest_loss_difference_nats": worst,
        "milliseconds": milliseconds,
        "ratio": {who: value / milliseconds["gptjax"] for who, value in milliseconds.items()},
        "tokens_per_second": rate,
        "peak_bytes": peaks,
        "mfu": machine.mfu(whole, rate, peak),
        "mfu_causal": machine.mfu(causal, rate, peak),
    }


def largest_difference(name: str, losses: dict[str, list[float]], allowed: float) -> float:
    """Of any form's first losses from gptjax's, nats; raises `ConfigError` where it is larger than `allowed`."""
    worst = max(float(np.max(np.abs(np.subtract(found, losses["gptjax"])))) for found in losses.values())
    if worst > allowed:
        raise ConfigError(
            f"{name}: the first losses differ by {worst:.2g} nats, so there is nothing to compare: {losses}"
        )
    return worst


def table(found: dict[str, Any]) -> str:
    """One case in Markdown."""
    lines = ["| case | form | ms a step | peer / gptjax | peak MB |", "|---|---|---|---|---|"]
    for who, value in found["milliseconds"].items():
        held = f"{found['peak_bytes'][who] / 1e6:,.0f}"
        lines.append(f"| {found['case']} | {who} | {value:.1f} | {found['ratio'][who]:.2f} | {held} |")
    if found["mfu"] is not None:
        rate, mfu, causal = (found[key] for key in ("tokens_per_second", "mfu", "mfu_causal"))
        lines.append(f"\n{rate:,.0f} tokens/s, MFU {mfu:.1%} (causal {causal:.1%}) of {found['device']}")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Measure, write, print."""
    parser = options(str(__doc__), rounds=7)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--rows", type=int, help="of a batch; default: the case's own")
    asked = parser.parse_args(argv)
    case = CASES[asked.case]
    if asked.rows is not None and asked.rows < 1:
        raise ConfigError(f"--rows {asked.rows}: an update needs at least one row")
    tell(measure(asked.case, case._replace(rows=asked.rows or case.rows), asked.rounds), table, asked.json)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
