"""Command-line arguments from dataclasses, by tyro; and a user's mistake in them as one line."""

import contextlib
import importlib.util
import inspect
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import tyro

from gptjax import config
from gptjax.config import ConfigError, Corpus, Run, TaskConfig, nearest
from gptjax.counted import Counting
from gptjax.interop import origin

T = TypeVar("T")
Row = TypeVar("Row", bound=Run | Counting)


def parse(kind: type[T], argv: Sequence[str], prog: str, default: T | None = None) -> T:
    """`argv` as a `kind`; --help prints and exits 0, a mistake raises `ConfigError` with one line."""
    options: dict[str, Any] = {} if default is None else {"default": default}
    if again := repeated(argv):
        raise ConfigError(f"{prog}: {again} is given twice; give it once, several values of a list one after another")
    console = io.StringIO()
    try:
        with contextlib.redirect_stderr(console), _wide(on=not {"-h", "--help"} & set(argv)):
            return tyro.cli(kind, args=list(argv), prog=prog, config=(tyro.conf.HelptextFromCommentsOff,), **options)
    except SystemExit as end:
        if end.code in (0, None):
            raise
        raise ConfigError(f"{prog}: {one_line(console.getvalue())}") from None


def repeated(argv: Sequence[str]) -> str | None:
    """The first option that is given again, also where it is once --x and once --no-x; else None."""
    options = [word.partition("=")[0].replace("_", "-") for word in argv if word.startswith("--")]
    plain = [re.sub(r"(--|\.)no-(?=[^.]*$)", r"\1", option) for option in options]
    return next((options[i] for i, name in enumerate(plain) if name in plain[:i]), None)


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


def first_target(argv: Sequence[str]) -> str | None:
    """The word that names what to train: the first one, or else the first FILE.py:NAME behind options."""
    if argv and not argv[0].startswith("-"):
        return argv[0]
    return next((word for word in argv if re.fullmatch(r"[^-].*\.py:\w+", word)), None)


def configuration(text: str) -> Run | Counting:
    """What `FILE.py:NAME` describes; raises `ConfigError` for a missing file or name, or what is no configuration."""
    run = named(text)
    if not isinstance(run, Run | Counting):
        raise ConfigError(f"target {text}: gives a {type(run).__name__}, not a Run")
    return run


def task(text: str) -> TaskConfig:
    """The task that `FILE.py:NAME` describes; raises `ConfigError` as `configuration` does, and for what is none."""
    found = named(text)
    if not isinstance(found, TaskConfig):
        raise ConfigError(f"task {text}: gives a {type(found).__name__}, not a task; train takes a Run")
    return found


def named(text: str) -> Any:
    """What the function `FILE.py:NAME` returns; raises `ConfigError` for a missing file or name."""
    path, separator, name = text.rpartition(":")
    if not separator or not path.endswith(".py"):
        raise ConfigError(f"target {text!r}: is not FILE.py:NAME, as in experiments/pretrain.py:tiny")
    if not Path(path).is_file():
        raise ConfigError(f"target {text}: there is no file {path}")
    module = load_file(Path(path))
    made = getattr(module, name, None)
    if made is None:
        own = {n: f for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__}
        names = [n for n, f in own.items() if not n.startswith("_") and not _needed(f)]
        raise ConfigError(f"target {text}: {path} has no {name}{nearest(name, names)}; it has {', '.join(names)}")
    if callable(made) and (needed := _needed(made)):
        raise ConfigError(f"target {text}: {name} needs arguments ({', '.join(needed)}); its file says how it is run")
    return made() if callable(made) else made


def reading(row: Row, sources: Sequence[str]) -> Row:
    """The configuration with these sources as its corpora, all alike often; as it is where none is given."""
    if not sources:
        return row
    return replace(row, data=replace(row.data, corpora=tuple(map(Corpus, sources))))


def _needed(function: Any) -> list[str]:
    """Arguments that a function must be given."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def target(text: str) -> Run:
    """The run that `FILE.py:NAME` describes; raises `ConfigError` as `configuration` does, and for a counted one."""
    run = configuration(text)
    if not isinstance(run, Run):
        raise ConfigError(f"target {text}: gives a {type(run).__name__}, which is counted and has no updates")
    return run


def load_file(path: Path) -> ModuleType:
    """A Python file as a module, its own folder importable as it is for a script; libraries come before both.

    Raises `ConfigError` where it, or a file that it imports, is not Python.
    """
    sys.path.append(str(path.resolve().parent))
    name = f"gptjax_target.{path.stem}"  # a name of its own: a target datasets.py must not become that library
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise ConfigError(f"{error.filename}:{error.lineno}: {error.msg}") from None
    return module


def following_init(run: Run, argv: Sequence[str]) -> Run:
    """`run` with the architecture and tokenizer of what `--init` names; every kind of dropout stays this run's own.

    Where embeddings alone are taken, the architecture stays as well: they are put into any model as wide. Where what
    `--init` names is no longer there, a run that was started from it knows both.
    """
    init, out = _given(argv, "--init") or run.init, _given(argv, "--out")
    if init is None or init == "None":
        return run
    own = Path(out or "") / "config.json"
    if out is not None and own.is_file() and not Path(init).exists():
        source = config.load(own)
    else:
        source, _, _ = origin.recall(Path(init), "--init")
    if (_given(argv, "--transfer") or run.transfer) == "embeddings":
        return replace(run, tokenizer=source.tokenizer)
    names = [f.name for f in fields(source.model) if f.name.endswith("dropout") and hasattr(run.model, f.name)]
    kept = {name: getattr(run.model, name) for name in names}
    return replace(run, model=replace(source.model, **kept), tokenizer=source.tokenizer)


def _given(argv: Sequence[str], option: str) -> str | None:
    """The value of an option before everything is parsed; None where it is not given."""
    for word, following in zip(argv, [*argv[1:], None], strict=True):
        if word == option or word.startswith(option + "="):
            return following if word == option else word.removeprefix(option + "=")
    return None
