"""Instruction tuning before and after: chats by a template, answers alone learnt, whole examples packed into rows.

Command      python experiments/instructions.py --init RUN_OR_FOLDER --data dolly_3k.json --judged instructions.jsonl
             --out runs/instructions [--template chat_template.jinja] [--steps 200]
Cost         minutes on two CPU cores for a model of a few million parameters
Expected     a GPT of 1.4M parameters and 256 tokens of context, after 4.1M tokens of WikiText-2, from its Hugging Face
             folder: 9.18 nats a token of the held-out answers before, 5.23 after 200 updates; greedy answers repeat
Data         records with "instruction" and "output", or "messages" (Hugging Face: databricks/databricks-dolly-15k; the
             252 user-oriented instructions of yizhongw/self-instruct, which are never trained on)

The template is Jinja, as a Hugging Face tokenizer carries one, and runs in a sandbox. The report has the likelihood of
the held-out answers and greedy answers to held-out instructions, by both models.
"""

import argparse
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import jax
from finetune import sft
from rich.console import Console
from rich.table import Table

from gptjax import arguments, launch, trained
from gptjax.cli import default_cache, guarded, say
from gptjax.config import Corpus, Data, Run
from gptjax.data import records
from gptjax.data.tokenizer import Tokenizer
from gptjax.evals.sweep import nothing
from gptjax.infer.sample import Decoding
from gptjax.interop import origin as folders
from gptjax.judging import judge
from gptjax.objectives.sft import SFT
from gptjax.report import page
from gptjax.train import allocator, sharding
from gptjax.train.folder import write_json

TEMPLATE = """\
{% for message in messages %}
### {{ message.role|capitalize }}:
{{ message.content }}{% if message.role == 'assistant' %}{{ eos_token }}{% else %}{{ '\n\n' }}{% endif %}
{% endfor %}
{% if add_generation_prompt %}
### Assistant:
{% endif %}"""
SHOWN, ANSWER_TOKENS = 5, 48


def tuned(init: Path, data: Path, judged: Path, template: str, steps: int) -> Run:
    """Fine-tuning of what `init` holds on the chats of `data`."""
    base = arguments.following_init(sft(), ["--init", str(init)])
    return replace(
        base,
        init=str(init),
        objective=SFT(template=template),
        data=Data(corpora=(Corpus(str(data)),), validation=str(judged)),
        steps=steps,
        evaluation=replace(base.evaluation, every_steps=steps),
    )


def before(run: Run, found: trained.Trained) -> dict[str, float]:
    """What training will be judged by, of the model that it begins with."""
    place = sharding.place(sharding.make_mesh(run.mesh, jax.devices()))
    model, objective = trained.build(run, found.tokenizer, place)
    sources = run.objective.sources(run.data, found.tokenizer, model.context, run.seed, default_cache())
    evaluator = judge.evaluator(run, model, objective, sources, found.tokenizer.bos_id)
    assert evaluator is not None
    return evaluator.judge(trained.grafting(found, "all")(objective.init(jax.random.key(0))), nothing)


def prompts(run: Run, judged: Path, tokenizer: Tokenizer) -> list[str]:
    """The first held-out instructions as the template writes them, special tokens spelt."""
    objective = run.objective
    assert isinstance(objective, SFT)
    first = islice(records.records(judged), SHOWN)
    return [objective.pieces(record, origin, tokenizer)[0][0].spelt(tokenizer.eos_text) for origin, record in first]


def answers(folder: Path, asked: list[str]) -> list[dict[str, Any]]:
    """Greedy answers."""
    found = judge.continued(folder, asked, ANSWER_TOKENS, Decoding(0.0), 0, say, special_tokens=True)
    return [{**sample, "decoding": "greedy"} for sample in found["samples"]]


def main(init: Path, data: Path, judged: Path, out: Path, template: str, steps: int) -> None:
    """Judge, tune, judge again, and write one report."""
    allocator.keep_freed_memory()  # before judging asks for devices
    cache, run = default_cache(), tuned(init, data, judged, template, steps)
    found = folders.load(init, say, flag="--init")
    asked, was = prompts(run, judged, found.tokenizer), before(run, found)
    launch.launch(run, out, cache, say)
    now = judge.held_out(out, None, None, cache, say)
    names = [name for name in was if name in now]
    old, new = answers(init, asked), answers(out, asked)
    write_json(out / "samples.json", new)
    table = {
        "title": "Held-out answers",
        "columns": ["", "before", "after"],
        "rows": [[name, was[name], now[name]] for name in names],
        "note": f"{judged.name}; tokens of answers and the end of each, given their prompts",
    }
    write_json(out / "results.json", [table, _beside(old, new)])
    page.write([out], out / "report.html")
    shown = Table("", "before", "after", title="Held-out answers")
    for name in names:
        shown.add_row(name, *(f"{x:,}" if isinstance(x, int) else f"{x:.4f}" for x in (was[name], now[name])))
    Console().print(shown)
    say(f"wrote {out / 'report.html'}")


def _beside(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> dict[str, Any]:
    rows = [[a["prompt"], a["text"], b["text"]] for a, b in zip(old, new, strict=True)]
    return {"title": "Greedy answers", "columns": ["prompt", "before", "after"], "rows": rows, "note": ""}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--judged", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--template", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    asked_ = parser.parse_args()
    template_ = TEMPLATE if asked_.template is None else asked_.template.read_text(encoding="utf-8")
    sys.exit(guarded(lambda: main(asked_.init, asked_.data, asked_.judged, asked_.out, template_, asked_.steps)))
