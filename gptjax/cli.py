"""The verbs of the command line: each parses its arguments, calls one function, and prints."""

import errno
import itertools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import jax
import tyro
from rich.console import Console
from rich.table import Table

from gptjax import __version__, arguments, counted, judge, launch, trained
from gptjax.ablate import experiment as experiments
from gptjax.ablate import runner
from gptjax.ablate import table as rows_table
from gptjax.config import ConfigError, Corpus, Run
from gptjax.counted import Counting
from gptjax.data.errors import DataError
from gptjax.infer.beam import Beam
from gptjax.infer.sample import Decoding
from gptjax.interop import adopt as adopting
from gptjax.interop import folder as folders
from gptjax.plan import planned
from gptjax.plan import table as estimates
from gptjax.report import page
from gptjax.report import surprisal as coloured
from gptjax.train.checkpoint import CheckpointError
from gptjax.train.folder import FolderError
from gptjax.train.hosts import Elsewhere
from gptjax.train.loop import Diverged
from gptjax.train.stop import EXIT_INTERRUPTED, Stopped


def say(line: str) -> None:
    """One line for a person; stdout is for results."""
    print(f"gptjax: {line}", file=sys.stderr, flush=True)


def default_cache() -> Path:
    """Where token stores are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gptjax"


@dataclass(frozen=True)
class Train:
    """Train a run, or continue it: the same command again goes on where it stopped, bit for bit."""

    target: tyro.conf.Positional[str]
    """What to train: FILE.py:NAME, a function of an experiment file that returns a Run."""
    out: Path
    """The run folder; one run each."""
    run: Annotated[Run, tyro.conf.arg(name="")]
    source: Annotated[tuple[str, ...], tyro.conf.arg(name="data", metavar="PATH ...")] = ()
    """Train on this instead of the target's corpora: text, .jsonl, .parquet, folder, glob, hf://NAME; several mix."""
    cache: Path = field(default_factory=default_cache)
    """Folder in which token stores are kept between runs."""
    tensorboard: bool = False
    """Also log to RUN/tensorboard."""
    wandb_project: str | None = None
    """Also log to this Weights & Biases project (needs the wandb extra)."""
    distributed: bool = False
    """One of several processes: join the others, which TPU pods, SLURM and MPI announce by themselves."""
    coordinator: str | None = None
    """HOST:PORT of process 0, where nothing announces it; needs --processes and --process."""
    processes: int | None = None
    """How many processes there are."""
    process: int | None = None
    """Which of them this one is, from 0."""


@dataclass(frozen=True)
class Count:
    """Count an n-gram model into a folder; the same command again finds it there."""

    target: tyro.conf.Positional[str]
    """What to count: FILE.py:NAME, a function of an experiment file that returns a Counting."""
    out: Path
    """The run folder; one run each."""
    counting: Annotated[Counting, tyro.conf.arg(name="")]
    source: Annotated[tuple[str, ...], tyro.conf.arg(name="data", metavar="PATH ...")] = ()
    """Count this instead of the target's corpora: text, .jsonl, .parquet, folder, glob, hf://NAME; several join."""
    cache: Path = field(default_factory=default_cache)
    """Folder in which token stores are kept between runs."""


@dataclass(frozen=True)
class Eval:
    """Judge a checkpoint on held-out text: nats per token, perplexity, bits per byte; every token counted."""

    run: tyro.conf.Positional[Path]
    """Run folder, or one checkpoint in it."""
    data: str | None = None
    """The text (or, for a fine-tuned task, the records) to judge, all of it; default: the run's validation split."""
    stride: int | None = None
    """Tokens between windows; default: the run's own (its context unless set)."""
    cache: Path = field(default_factory=default_cache)
    """Folder in which token stores are kept."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Sample:
    """Continue a prompt."""

    run: tyro.conf.Positional[Path]
    """Run folder, or one checkpoint in it."""
    prompt: str
    """Text to continue."""
    max_tokens: int = 256
    """Tokens to add."""
    temperature: float = 1.0
    """Divides the logits; 0 always takes the most probable token."""
    top_k: int | None = None
    """Sample among this many most probable tokens."""
    top_p: float | None = None
    """Sample among the most probable tokens whose probabilities first reach this sum."""
    beams: int | None = None
    """Search for the likeliest continuation with this many hypotheses, instead of drawing one; 1 is greedy."""
    samples: int = 1
    """Continuations, made as one batch."""
    seed: int = 0
    """The same seed gives the same text."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Score:
    """Surprisal of every token of a text, in bits."""

    run: tyro.conf.Positional[Path]
    """Run folder, or one checkpoint in it."""
    data: str
    """The text to score, all of it."""
    stride: int | None = None
    """Tokens between windows; default: the run's own (its context unless set)."""
    html: Path | None = None
    """Write the coloured text to this page."""
    cache: Path = field(default_factory=default_cache)
    """Folder in which token stores are kept."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Report:
    """One self-contained HTML page about one or several runs."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders."""
    out: Path
    """The page."""


@dataclass(frozen=True)
class Plan:
    """Memory, FLOPs, collectives and predicted time of a run on machines that need not be here: compiled, not run."""

    targets: tyro.conf.Positional[tuple[str, ...]]
    """What to plan: FILE.py:NAME, one or several, compared in one table."""
    topology: tuple[str, ...]
    """v4:2x2x1, v5e:4x4, v5p:8x8x8, v6e:16x16, tpu7x:4x4x4, a100:8, h100:16, h200:8, b200:8, cpu:1; one or several."""
    run: Annotated[Run, tyro.conf.arg(name="")]
    vocab_size: int | None = None
    """Ids of the tokenizer, where its size is only known from text."""
    memory_fraction: float | None = None
    """Share of a GPU's memory that the run may fill (XLA_PYTHON_CLIENT_MEM_FRACTION); default: JAX's own, 0.75."""
    full_effort: bool = False
    """Compile for a TPU as it would for running: three to ten times slower, a little less memory."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Export:
    """Write a checkpoint as a Hugging Face folder that transformers loads unmodified, with a model card."""

    run: tyro.conf.Positional[Path]
    """Run folder, or one checkpoint in it."""
    folder: tyro.conf.Positional[Path]
    """The folder to write; it must not be there yet."""


@dataclass(frozen=True)
class Import:
    """Make a run folder of a Hugging Face folder (openai-gpt, gpt2, bert or llama, safetensors)."""

    folder: tyro.conf.Positional[Path]
    """The Hugging Face folder."""
    out: Path
    """The run folder to make; eval, sample, score and --init take it."""


@dataclass(frozen=True)
class Ablate:
    """Every row of an experiment with several seeds, in one table; the same command again goes on where it stopped."""

    experiment: tyro.conf.Positional[Path]
    """FILE.py with ROWS, a dict of name -> Run; beside it BASE, BUDGET and METRIC."""
    out: Path
    """The experiment's folder: runs/, table.json, table.md, report.html."""
    seeds: int = 3
    """Seeds 0 ... N - 1 of every row; the same seed gives all rows the same data order."""
    row: tuple[str, ...] = ()
    """Run only these rows, by name or index from 0 (for the job array of a cluster)."""
    seed: tuple[int, ...] = ()
    """Run only these of the seeds."""
    source: Annotated[tuple[str, ...], tyro.conf.arg(name="data", metavar="PATH ...")] = ()
    """Use this instead of the rows' corpora: text, .jsonl, .parquet, folder, glob, hf://NAME; several mix."""
    cache: Path = field(default_factory=default_cache)
    """Folder in which token stores are kept between runs."""
    json: bool = False
    """Print table.json."""


def train(argv: Sequence[str]) -> None:
    """`gptjax train`."""
    named = arguments.first_target(argv)
    chosen = None if named is None else arguments.configuration(named)
    if isinstance(chosen, Counting):
        count(argv, chosen)
        return
    run = arguments.following_init(chosen or launch.default_run(), argv)
    default = Train(target=tyro.MISSING, out=tyro.MISSING, run=run)
    asked = arguments.parse(Train, argv, "gptjax train", default)
    if asked.target != named:
        raise ConfigError(f"target {asked.target!r}: name it first: gptjax train FILE.py:NAME --out RUN")
    run = asked.run
    if asked.source:
        run = replace(run, data=replace(run.data, corpora=tuple(map(Corpus, asked.source))))
    if asked.distributed or asked.coordinator is not None:
        jax.distributed.initialize(asked.coordinator, asked.processes, asked.process)
    trackers = launch.Trackers(asked.tensorboard, asked.wandb_project)
    launch.launch(run, asked.out, asked.cache, say, trackers)


def count(argv: Sequence[str], counting: Counting) -> None:
    """`gptjax train` of a model that is counted."""
    default = Count(target=tyro.MISSING, out=tyro.MISSING, counting=counting)
    asked = arguments.parse(Count, argv, "gptjax train", default)
    found = asked.counting
    if asked.source:
        found = replace(found, data=replace(found.data, corpora=tuple(map(Corpus, asked.source))))
    for name, value in counted.count(found, asked.out, asked.cache).items():
        say(f"{name} {value}")


def evaluate(argv: Sequence[str]) -> None:
    """`gptjax eval`."""
    asked = arguments.parse(Eval, argv, "gptjax eval")
    found = judge.held_out(asked.run, asked.data, asked.stride, asked.cache, say)
    if asked.json:
        print(json.dumps(found))
        return
    Console().print(results(found))


def results(values: Mapping[str, float]) -> Table:
    """Named numbers as a table."""
    table = Table(show_header=False)
    for name, value in values.items():
        table.add_row(name, f"{value:,.4f}" if isinstance(value, float) else f"{value:,}")
    return table


def sample(argv: Sequence[str]) -> None:
    """`gptjax sample`."""
    asked = arguments.parse(Sample, argv, "gptjax sample")
    if asked.beams is None:
        decoding = Decoding(asked.temperature, asked.top_k, asked.top_p)
        found = judge.continued(asked.run, [asked.prompt] * asked.samples, asked.max_tokens, decoding, asked.seed, say)
    else:
        if (asked.temperature, asked.top_k, asked.top_p, asked.samples) != (1.0, None, None, 1):
            raise ConfigError(f"--beams {asked.beams}: searches, and does not draw; leave the options of drawing out")
        found = judge.searched(asked.run, asked.prompt, asked.max_tokens, Beam(asked.beams), say)
    if asked.json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for one in found["samples"]:
        print(one["prompt"] + one["text"])


def score(argv: Sequence[str]) -> None:
    """`gptjax score`."""
    asked = arguments.parse(Score, argv, "gptjax score")
    found = judge.surprisal(asked.run, asked.data, asked.stride, asked.cache, say)
    if asked.html is not None:
        asked.html.write_text(coloured.to_page(found.pieces, found.bits, str(asked.data)), encoding="utf-8")
    if asked.json:
        print(json.dumps(found.to_json(), ensure_ascii=False))
        return
    console = Console()
    console.print(coloured.to_terminal(found.pieces, found.bits), soft_wrap=True)
    console.print(results(found.summary))


def report(argv: Sequence[str]) -> None:
    """`gptjax report`."""
    asked = arguments.parse(Report, argv, "gptjax report")
    page.write(list(asked.runs), asked.out)
    say(f"wrote {asked.out}")


def plan(argv: Sequence[str]) -> None:
    """`gptjax plan`; options of a run change every target alike."""
    named = list(itertools.takewhile(lambda word: not word.startswith("-"), argv))
    runs = [arguments.following_init(arguments.target(name), argv) for name in named] or [launch.default_run()]
    defaults = [Plan(targets=tyro.MISSING, topology=tyro.MISSING, run=run) for run in runs]
    asked = [arguments.parse(Plan, argv, "gptjax plan", default) for default in defaults]
    first = asked[0]
    if list(first.targets) != named:
        raise ConfigError("targets: name them first: gptjax plan FILE.py:NAME ... --topology v5e:4x4")
    options = planned.Options(first.vocab_size, first.memory_fraction, not first.full_effort)
    found = planned.plan([(n, one.run) for n, one in zip(named, asked, strict=True)], first.topology, options, say)
    if first.json:
        print(json.dumps({"plans": [one.to_json() for one in found]}, ensure_ascii=False))
        return
    console = Console()
    console.print(estimates.table(found))
    for line in estimates.footnotes(found):
        console.print(line, style="dim", soft_wrap=True, highlight=False)


def export(argv: Sequence[str]) -> None:
    """`gptjax export`."""
    asked = arguments.parse(Export, argv, "gptjax export")
    folders.write(trained.load(asked.run, say), asked.folder, say)
    say(f"wrote {asked.folder}")


def adopt(argv: Sequence[str]) -> None:
    """`gptjax import`."""
    asked = arguments.parse(Import, argv, "gptjax import")
    adopting.adopt(asked.folder, asked.out, say)
    say(f"wrote {asked.out}")


def ablate(argv: Sequence[str]) -> None:
    """`gptjax ablate`."""
    asked = arguments.parse(Ablate, argv, "gptjax ablate")
    experiment = experiments.read(asked.experiment, asked.source)
    rows = experiments.chosen(experiment, asked.row)
    found = runner.run(experiment, asked.seeds, asked.out, asked.cache, rows, asked.seed, say)
    if asked.json:
        print(json.dumps(found))
        return
    Console().print(rows_table.terminal(found))
    say(f"wrote {asked.out / 'report.html'}")


VERBS: dict[str, tuple[Callable[[Sequence[str]], None], type]] = {
    "train": (train, Train),
    "eval": (evaluate, Eval),
    "sample": (sample, Sample),
    "score": (score, Score),
    "plan": (plan, Plan),
    "ablate": (ablate, Ablate),
    "export": (export, Export),
    "import": (adopt, Import),
    "report": (report, Report),
}


def main() -> None:
    """Entry point; exit code 0 done, 2 a user's mistake, 130 interrupted, 1 anything else."""
    sys.exit(run_verb(sys.argv[1:]))


def run_verb(argv: Sequence[str]) -> int:
    """Run one command line and give its exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        overview()
        return 0
    if argv[0] == "--version":
        print(__version__)
        return 0

    def verb() -> None:
        if argv[0] not in VERBS:
            raise ConfigError(f"there is no verb {argv[0]!r}; verbs are {', '.join(VERBS)}")
        VERBS[argv[0]][0](argv[1:])

    return guarded(verb)


def guarded(work: Callable[[], None]) -> int:
    """Do the work and give its exit code; what went wrong is said in one line."""
    try:
        work()
        return 0
    except (ConfigError, DataError, FolderError) as error:
        say(str(error))
        return 2
    except BrokenPipeError:
        sys.stdout = None  # type: ignore[assignment]  # the reader has gone (head, less), and nothing is wrong
        return 0
    except OSError as error:
        say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return 1 if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else 2
    except (CheckpointError, Diverged, Elsewhere, FloatingPointError) as error:
        say(str(error))
        return 1
    except (Stopped, KeyboardInterrupt):
        say("stopped; the same command continues")
        return EXIT_INTERRUPTED


def overview() -> None:
    """What `gptjax --help` prints."""
    console = Console()
    console.print("[bold]gptjax[/]: a language-model laboratory in JAX\n\nusage: gptjax VERB ... [--help]\n")
    table = Table.grid(padding=(0, 3))
    for verb, (_, kind) in VERBS.items():
        table.add_row(f"  [bold]{verb}[/]", str(kind.__doc__))
    console.print(table)
    console.print("\nFirst steps: [bold]gptjax train experiments/pretrain.py:tiny --out runs/tiny[/]")
