"""The model card of an exported folder: what the model is, what it learnt from, and what its numbers mean."""

import json
from pathlib import Path
from typing import Any

from gptjax import config
from gptjax.config import Run, fingerprint, to_json
from gptjax.objectives.lora import Lora
from gptjax.trained import Trained, scalars

BAR = r"\|"
"""What a bar within a cell of a table is written as."""
MEANINGS = {
    "nats_per_token": "mean of -ln p over every token of the held-out text, each predicted once; of one tokenizer only",
    "perplexity": "exp(nats_per_token)",
    "bits_per_byte": "total nats / ln 2 / UTF-8 bytes of the held-out text; comparable between tokenizers",
    "masked_nats": "mean of -ln p over hidden tokens, given the others",
    "masked_accuracy": "share of hidden tokens that are the likeliest by themselves",
    "next_sentence_accuracy": "share of rows whose second text is rightly told to follow the first or not",
    "accuracy": "share of examples whose likeliest answer is right",
}
"""What a metric of `metrics.jsonl` means."""


def card(found: Trained, architecture: str, tokenizer_note: str, padded: int) -> str:
    """The card as Markdown, with the header that the hub reads."""
    run, size = _stored(found), found.model.vocab_size
    count = run.model.parameter_count(size)
    automatic = "AutoModelForCausalLM" if found.model.causal else "AutoModelForPreTraining"
    if architecture.endswith("ForSequenceClassification"):
        automatic = "AutoModelForSequenceClassification"
    vocabulary = f"{size:,} ids; not padded"
    if padded > size:
        vocabulary = f"{size:,} ids; trained with {padded:,} rows, of which the padding is cut off here"
    data = _remembered(found.folder / "data.json").get("identity", "unknown: the run folder does not say")
    made = f"trained by gptjax for {found.step:,} updates" if found.step else "which gptjax has not trained"
    lines = [
        "---",
        "library_name: transformers",
        "tags: [gptjax]",
        "---",
        f"# {found.folder.name}",
        "",
        f"A {architecture} of {count:,} parameters, {made}.",
        "",
        f'    from transformers import {automatic}\n    model = {automatic}.from_pretrained("FOLDER")',
        "",
        "| | |",
        "|---|---|",
        f"| run (SHA-256 of its configuration) | `{fingerprint(run)}` |",
        f"| data (SHA-256 of all that was read) | `{data}` |",
        f"| tokenizer (SHA-256) | `{found.tokenizer.hash}` |",
        f"| tokenizer files | {tokenizer_note} |",
        f"| vocabulary | {vocabulary} |",
        f"| dtype | float32; computed in {run.precision} |",
        *_adapters(run, found),
        "",
        "## Held-out text",
        "",
        *_metrics(found),
        "",
        "## Configuration",
        "",
        "```json",
        json.dumps(to_json(run), indent=2),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _adapters(run: Run, found: Trained) -> list[str]:
    """What was trained of the model, where adapters were."""
    if not isinstance(run.objective, Lora):
        return []
    lora, (trained, frozen) = run.objective, scalars(run, found.tokenizer)
    return [
        f"| low-rank adapters | rank {lora.rank}, alpha {lora.alpha:g}, of {lora.adapted().replace('|', BAR)} |",
        f"| parameters in training | {trained:,} trained, {frozen:,} frozen |",
    ]


def _stored(found: Trained) -> Run:
    """The run as its folder has it, which for adapters is not the one that their merged model stands for."""
    path = found.folder / "config.json"
    return config.load(path) if path.is_file() and not config.foreign(path) else found.run


def _metrics(found: Trained) -> list[str]:
    """A table of the evaluation at the checkpoint's step, with the meaning of each number."""
    rows = [row for row in _rows(found.folder / "metrics.jsonl") if "split" in row and row.get("step") == found.step]
    if not rows:
        return [f"Not judged at update {found.step:,}."]
    values = {name: value for name, value in rows[-1].items() if isinstance(value, float)}
    table = [f"| {name} | {value:.4f} | {MEANINGS.get(name, '')} |" for name, value in sorted(values.items())]
    return [
        f"Split: {rows[-1]['split']}, update {found.step:,}.",
        "",
        "| metric | value | meaning |",
        "|---|---|---|",
        *table,
    ]


def _rows(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a metrics file; the last may be half written."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]


def _remembered(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
