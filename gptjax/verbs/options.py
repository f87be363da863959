"""What each verb of the command line may be given: its options, with their meaning, as tyro shows and parses them."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from gptjax.config import ConfigError, Run
from gptjax.counted import Counting


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
    """Run folder, one checkpoint in it, or a Hugging Face folder."""
    data: str | None = None
    """The text (or, for a fine-tuned task, the records) to judge, all of it; default: the run's validation split.
    With --tasks FILE.py:NAME the records of those tasks."""
    tasks: tuple[str, ...] = ()
    """What to ask instead: FILE.py:NAME, a function of an experiment file that returns a task; one or several. Each
    measure comes with its 95% bootstrap interval over the examples, and is said in words. Or names that the
    lm-evaluation-harness knows (lambada_openai); each metric then comes with the harness's standard error."""
    include_path: Path | None = None
    """A folder of the harness's YAML files with tasks of one's own."""
    limit: int | None = None
    """Examples of each task, from its start; default: all, or what the task says."""
    num_fewshot: int | None = None
    """Solved examples before each question of the harness's tasks; default: what the task says."""
    results: Path | None = None
    """Write what each example of the tasks gave to this file, one JSON object a line."""
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
    """Run folder, one checkpoint in it, or a Hugging Face folder."""
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
    special_tokens: bool = False
    """What the prompt writes for a special token (<|im_start|>) becomes that token, as in a chat by a template."""
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
    """Run folder, one checkpoint in it, or a Hugging Face folder."""
    data: str
    """The text to score, all of it."""
    stride: int | None = None
    """Tokens between windows; default: the text is read as the run was judged."""
    html: Path | None = None
    """Write the coloured text to this page."""
    cache: Path = field(default_factory=default_cache)
    """Folder in which token stores are kept."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Compare:
    """Two checkpoints on one text: where they differ, how much, and how sure that is."""

    run_a: tyro.conf.Positional[Path]
    """Run folder A, one checkpoint in it, or a Hugging Face folder."""
    run_b: tyro.conf.Positional[Path]
    """Run folder B, likewise; differences are B's nats minus A's."""
    data: str
    """The text to compare on, all of it."""
    stride: int | None = None
    """Tokens between windows; default: each reads the text as it was judged."""
    seed: int = 0
    """Seed of the resamples that the intervals come from."""
    out: Path | None = None
    """Write the whole comparison to this page."""
    cache: Path = field(default_factory=default_cache)
    """Folder in which token stores are kept; those of the runs tell how often a token was seen in training."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Inspect:
    """Look inside a checkpoint: where attention looks, what each layer would predict, which tokens are alike."""

    run: tyro.conf.Positional[Path]
    """Run folder, one checkpoint in it, or a Hugging Face folder."""
    text: str
    """A short text to read; what lies beyond the model's context is left out, and said."""
    out: Path | None = None
    """Write all of it to this page; the terminal shows surprisals and predictions."""
    json: bool = False
    """Print one JSON object: title, notes, tokens [{text, id, bits}], lens [{place, layers: [{layer, top: [{text, id,
    probability}], true: {probability, rank}}]}], attention [layer][head][token that looks][token looked at],
    neighbours [{text, near: [{text, cosine}]}]; null for what the run has not."""


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
    """Compile for a TPU as it would for running: four to seven times slower, temporaries up to 4% larger."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Export:
    """Write a checkpoint as a Hugging Face folder that transformers loads unmodified, with a model card."""

    run: tyro.conf.Positional[Path]
    """Run folder, one checkpoint in it, or a Hugging Face folder."""
    folder: tyro.conf.Positional[Path]
    """The folder to write; it must not be there yet."""
    adapter: bool = False
    """Write the adapters of a run of objectives.lora alone, as the PEFT library does; without it they are merged."""
    classifier: bool = False
    """Write the classifier of a fine-tuned task (AutoModelForSequenceClassification), not the language model."""

    def __post_init__(self) -> None:
        if self.adapter and self.classifier:
            raise ConfigError("--adapter and --classifier are two kinds of folder; write them one after the other")


@dataclass(frozen=True)
class Import:
    """Make a run folder of a Hugging Face folder (openai-gpt, gpt2, bert or llama, safetensors)."""

    folder: tyro.conf.Positional[Path]
    """The Hugging Face folder."""
    out: Path
    """The run folder to make; eval, sample, score and --init take it."""
    adapter: Path | None = None
    """A folder of the PEFT library's low-rank adapters, to be put into the model."""


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
