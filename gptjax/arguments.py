"""Command-line arguments from dataclasses, by tyro; and a user's mistake in them as one line."""

import contextlib
import importlib.util
import inspect
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import tyro

from gptjax import trained
from gptjax.config import ConfigError, Run, nearest

T = TypeVar("T")


def parse(kind: type[T], argv: Sequence[str], prog: str, default: T | None = None) -> T:
    """`argv` as a `kind`; --help prints and exits 0, a mistake raises `ConfigError` with one line."""
    options: dict[str, Any] = {} if default is None else {"default": default}
    console = io.StringIO()
    try:
        with contextlib.redirect_stderr(console), _wide(on=not {"-h", "--help"} & set(argv)):
            return tyro.cli(kind, args=list(argv), prog=prog, config=(tyro.conf.HelptextFromCommentsOff,), **options)
    except SystemExit as end:
        if end.code in (0, None):
            raise
        raise ConfigError(f"{prog}: {one_line(console.getvalue())}") from None


@contextlib.contextmanager
def _wide(on: bool) -> Iterator[None]:
    """A console so wide that tyro's messages do not wrap."""
    before = os.environ.get("COLUMNS")
    if on:
        os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        if on:
            os.environ.pop("COLUMNS")
            os.environ |= {} if before is None else {"COLUMNS": before}


def one_line(box: str) -> str:
    """The gist of tyro's boxed message: its first paragraph, and the nearest right option where it names some."""
    lines = [re.sub(r"^│ ?| *│$", "", line).rstrip() for line in box.splitlines() if line.startswith("│")]
    rules = [i for i, line in enumerate(lines) if line.strip("─ ") == ""] or [len(lines)]
    gist = " ".join(line.strip() for line in lines[: rules[0]])
    unknown = re.match(r"Unrecognized options: ([^,]+)", gist)
    if unknown:
        offered = re.findall(r"--[\w.-]+", " ".join(lines[rules[0] :]))
        near = nearest(unknown[1], offered) or (f", did you mean {offered[0]!r}?" if offered else "; see --help")
        return f"unknown option {unknown[1]}{near}"
    gist = re.sub(r"^Error parsing (run\.?)?(\S*): ", lambda m: f"{m[2]}: " if m[2] else "", gist)
    return re.sub(r"invalid literal for int\(\) with base 10: ('.*')", r"\1 is not a whole number", gist)


def target(text: str) -> Run:
    """The run that `FILE.py:NAME` describes; raises `ConfigError` for a missing file or name, or one that is no run."""
    path, separator, name = text.rpartition(":")
    if not separator or not path.endswith(".py"):
        raise ConfigError(f"target {text!r}: is not FILE.py:NAME, as in experiments/pretrain.py:tiny")
    if not Path(path).is_file():
        raise ConfigError(f"target {text}: there is no file {path}")
    module = load_file(Path(path))
    made = getattr(module, name, None)
    if made is None:
        names = [n for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__]
        raise ConfigError(f"target {text}: {path} has no {name}{nearest(name, names)}; it has {', '.join(names)}")
    run = made() if callable(made) else made
    if not isinstance(run, Run):
        raise ConfigError(f"target {text}: gives a {type(run).__name__}, not a Run")
    return run


def load_file(path: Path) -> ModuleType:
    """A Python file as a module, its own folder importable as it is for a script."""
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def following_init(run: Run, argv: Sequence[str]) -> Run:
    """`run` with the architecture and tokenizer of the run that `--init` names; dropout stays this run's own choice."""
    init = run.init
    for i, word in enumerate(argv):
        if word == "--init" and i + 1 < len(argv):
            init = argv[i + 1]
        elif word.startswith("--init="):
            init = word.removeprefix("--init=")
    if init is None or init == "None":
        return run
    source, _, _ = trained.recall(Path(init), "--init")
    model = source.model
    if hasattr(model, "dropout") and hasattr(run.model, "dropout"):
        model = replace(model, dropout=run.model.dropout)  # type: ignore[call-arg]  # the two lines above asked
    return replace(run, model=model, tokenizer=source.tokenizer)
