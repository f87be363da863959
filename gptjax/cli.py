"""The command line: which verb is asked for, and how what goes wrong ends."""

import errno
import sys
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from gptjax import __version__
from gptjax.config import ConfigError
from gptjax.data.errors import DataError
from gptjax.train.checkpoint import CheckpointError
from gptjax.train.folder import FolderError
from gptjax.train.hosts import Elsewhere
from gptjax.train.loop import Diverged
from gptjax.train.stop import EXIT_INTERRUPTED, Stopped
from gptjax.verbs import folders, judging, options, training
from gptjax.verbs.options import default_cache as default_cache
from gptjax.verbs.shown import say as say

VERBS: dict[str, tuple[Callable[[Sequence[str]], None], type]] = {
    "train": (training.train, options.Train),
    "eval": (judging.evaluate, options.Eval),
    "sample": (judging.sample, options.Sample),
    "score": (judging.score, options.Score),
    "compare": (judging.compare, options.Compare),
    "inspect": (judging.inspect, options.Inspect),
    "plan": (training.plan, options.Plan),
    "ablate": (training.ablate, options.Ablate),
    "export": (folders.export, options.Export),
    "import": (folders.adopt, options.Import),
    "report": (folders.report, options.Report),
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
