"""The verbs that judge a checkpoint."""

import json
from collections.abc import Sequence

from rich.console import Console

from gptjax import arguments
from gptjax.config import ConfigError
from gptjax.infer.beam import Beam
from gptjax.infer.sample import Decoding
from gptjax.judging import comparing, exam, harnessed, inspecting, judge, scored
from gptjax.report import answers, comparison, inspection
from gptjax.report import surprisal as coloured
from gptjax.verbs.options import Compare, Eval, Inspect, Sample, Score
from gptjax.verbs.shown import results, say


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
    if asked.results is not None and not asked.results.absolute().parent.is_dir():
        raise ConfigError(f"--results {asked.results}: there is no folder {asked.results.parent}")
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


def sample(argv: Sequence[str]) -> None:
    """`gptjax sample`."""
    asked = arguments.parse(Sample, argv, "gptjax sample")
    if asked.beams is None:
        decoding = Decoding(asked.temperature, asked.top_k, asked.top_p)
        prompts = [asked.prompt] * asked.samples
        found = judge.continued(asked.run, prompts, asked.max_tokens, decoding, asked.seed, say, asked.special_tokens)
    else:
        if (asked.temperature, asked.top_k, asked.top_p, asked.samples) != (1.0, None, None, 1):
            raise ConfigError(f"--beams {asked.beams}: searches, and does not draw; leave the options of drawing out")
        how = Beam(asked.beams)
        found = judge.searched(asked.run, asked.prompt, asked.max_tokens, how, say, asked.special_tokens)
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
    if asked.json:
        print(json.dumps(found.to_json(), ensure_ascii=False))
        return
    Console().print(inspection.terminal(found))
