"""The verbs of the command line: each parses its arguments, calls one function, and prints."""

import errno
import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence

import jax
import tyro
from rich.console import Console
from rich.table import Table

from gptjax import (
    __version__,
    arguments,
    comparing,
    counted,
    exam,
    harnessed,
    inspecting,
    judge,
    launch,
    scored,
    trained,
)
from gptjax.ablate import experiment as experiments
from gptjax.ablate import runner
from gptjax.ablate import table as rows_table
from gptjax.config import ConfigError
from gptjax.counted import Counting
from gptjax.data.errors import DataError
from gptjax.infer.beam import Beam
from gptjax.infer.sample import Decoding
from gptjax.interop import adopt as adopting
from gptjax.interop import classifier, origin, peft
from gptjax.interop import folder as folders
from gptjax.plan import planned
from gptjax.plan import table as estimates
from gptjax.report import answers, comparison, inspection, page
from gptjax.report import surprisal as coloured
from gptjax.train.checkpoint import CheckpointError
from gptjax.train.folder import FolderError
from gptjax.train.hosts import Elsewhere
from gptjax.train.loop import Diverged
from gptjax.train.stop import EXIT_INTERRUPTED, Stopped
from gptjax.verbs import Ablate, Compare, Count, Eval, Export, Import, Inspect, Plan, Report, Sample, Score, Train
from gptjax.verbs import default_cache as default_cache


def say(line: str) -> None:
    """One line for a person; stdout is for results."""
    print(f"gptjax: {line}", file=sys.stderr, flush=True)


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
    run = arguments.reading(asked.run, asked.source)
    if asked.distributed or asked.coordinator is not None:
        jax.distributed.initialize(asked.coordinator, asked.processes, asked.process)
    trackers = launch.Trackers(asked.tensorboard, asked.wandb_project)
    launch.launch(run, asked.out, asked.cache, say, trackers)


def count(argv: Sequence[str], counting: Counting) -> None:
    """`gptjax train` of a model that is counted."""
    default = Count(target=tyro.MISSING, out=tyro.MISSING, counting=counting)
    asked = arguments.parse(Count, argv, "gptjax train", default)
    found = arguments.reading(asked.counting, asked.source)
    for name, value in counted.count(found, asked.out, asked.cache).items():
        say(f"{name} {value}")


def evaluate(argv: Sequence[str]) -> None:
    """`gptjax eval`."""
    asked = arguments.parse(Eval, argv, "gptjax eval")
    if asked.tasks:
        ask(asked)
        return
    if asked.results is not None:
        raise ConfigError(f"--results {asked.results}: is for the examples of --tasks; name some")
    refuse_harness_options(asked)
    found = judge.held_out(asked.run, asked.data, asked.stride, asked.cache, say)
    if asked.json:
        print(json.dumps(found))
        return
    Console().print(results(found))


def ask(asked: Eval) -> None:
    """`gptjax eval --tasks`: those of experiment files, or else those of the lm-evaluation-harness."""
    if asked.stride is not None:
        raise ConfigError(f"--stride {asked.stride}: is for running text; a task has its own way to read")
    own = [name for name in asked.tasks if ".py:" in name]
    if len(own) < len(asked.tasks):
        ask_harness(asked, own)
        return
    refuse_harness_options(asked, ("include_path", "num_fewshot"))
    found = exam.asked(asked.run, [arguments.task(name) for name in own], asked.data, asked.limit, say)
    if asked.results is not None:
        found.write(asked.results)
    if asked.json:
        print(json.dumps(found.to_json(), ensure_ascii=False))
        return
    for one in found.results:
        Console().print(answers.to_terminal(one.task, one.examples, one.measures, one.definitions))


def ask_harness(asked: Eval, own: Sequence[str]) -> None:
    """`gptjax eval --tasks` of names that the lm-evaluation-harness knows."""
    if own:
        raise ConfigError(f"--tasks {' '.join(own)}: ask them by a command of their own; the others are the harness's")
    for option, value in (("data", asked.data), ("results", asked.results)):
        if value is not None:
            raise ConfigError(
                f"--{option} {value}: a task of the lm-evaluation-harness knows its own data; leave it out"
            )
    found = harnessed.asked(asked.run, asked.tasks, asked.include_path, asked.limit, asked.num_fewshot, say)
    if asked.json:
        print(json.dumps(found, ensure_ascii=False))
        return
    Console().print(answers.of_harness(found))


def refuse_harness_options(asked: Eval, options: Sequence[str] = ("include_path", "limit", "num_fewshot")) -> None:
    """Raise `ConfigError` where what only the lm-evaluation-harness understands is given without a task of its."""
    for option in options:
        if (value := getattr(asked, option)) is not None:
            flag = option.replace("_", "-")
            raise ConfigError(f"--{flag} {value}: is for tasks of the lm-evaluation-harness; name some with --tasks")


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
    found = scored.read(asked.run, asked.data, asked.stride, asked.cache, say)
    pieces, bits = found.pieces(), found.bits()
    if asked.html is not None:
        asked.html.write_text(coloured.to_page(pieces, bits, str(asked.data)), encoding="utf-8")
    if asked.json:
        print(json.dumps(found.to_json(), ensure_ascii=False))
        return
    console = Console()
    console.print(coloured.to_terminal(pieces, bits), soft_wrap=True)
    console.print(results(found.summary))


def compare(argv: Sequence[str]) -> None:
    """`gptjax compare`."""
    asked = arguments.parse(Compare, argv, "gptjax compare")
    folders = asked.run_a, asked.run_b
    found = comparing.compare(folders, asked.data, asked.stride, asked.seed, asked.cache, say)
    if asked.out is not None:
        comparison.write(found.readers, found.comparison, found.notes, asked.data, asked.out)
        say(f"wrote {asked.out}")
    if asked.json:
        print(json.dumps(found.to_json(), ensure_ascii=False))
        return
    for table in comparison.terminal(found.readers, found.comparison, found.notes):
        Console().print(table)


def inspect(argv: Sequence[str]) -> None:
    """`gptjax inspect`."""
    asked = arguments.parse(Inspect, argv, "gptjax inspect")
    found = inspecting.inspect(asked.run, asked.text, say)
    for note in found.notes:
        say(note)
    if asked.out is not None:
        inspection.write(found, asked.out)
        say(f"wrote {asked.out}")
    Console().print(inspection.terminal(found))


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
    if asked.adapter:
        peft.write(trained.stored(asked.run, say), asked.folder, say)
    else:
        write = classifier.write if asked.classifier else folders.write
        write(origin.load(asked.run, say), asked.folder, say)
    say(f"wrote {asked.folder}")


def adopt(argv: Sequence[str]) -> None:
    """`gptjax import`."""
    asked = arguments.parse(Import, argv, "gptjax import")
    adopting.adopt(asked.folder, asked.out, say, asked.adapter)
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
    "inspect": (inspect, Inspect),
    "compare": (compare, Compare),
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
