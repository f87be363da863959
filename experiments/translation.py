"""Does attention help a recurrent translator, and does it matter what the decoder reads in training? English to French.

Command      python experiments/translation.py --data fra-eng.zip --out runs/translation [--rows additive transformer]
             gptjax train experiments/translation.py:additive --data fra-eng.zip --out RUN        one model by itself,
             on all pairs alike
Needs        pip install 'gptjax[lineage]' (sacrebleu)
Cost         about 5 minutes a row on one free CPU core
Expected     beam 4, seed 0, BLEU (chrF) of 4,924 held-out sentences, and of the 305 of them with more than ten words:
                 no_attention          7.6 (22.9)      4.4 (18.9)
                 additive             16.7 (33.8)     12.0 (29.6)
                 scaled_product       16.5 (33.6)     12.3 (29.8)
                 transformer          27.0 (46.1)     20.1 (41.1)
                 scheduled_sampling   16.1 (33.7)     13.4 (30.2)
                 free_running          8.9 (29.3)      5.6 (23.3)
             greedy search is 0.6 to 1.9 BLEU lower on all sentences, and 0.3 higher without attention
             (sacrebleu, nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp; 45,000 pairs seen, a third of an epoch).
             The last two rows are `additive` under other regimes: sampling loses 0.6 on all sentences and gains 1.4 on
             the long ones, where gradients that differ in their last bits alone have moved a row by 1.2
Data         fra-eng.zip or fra.txt of manythings.org/anki (sentence pairs of Tatoeba, CC BY 2.0), or any file of
             source, TAB, target

All rows see the same pairs in the same order, in as many updates, and have as many parameters to within one percent. A
twentieth of the English sentences is held out with all their translations, every one of which is a right answer.
Sentences of more than ten words are six percent of the pairs and are given three tenths of the training rows.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from gptjax import launch, trained
from gptjax.cli import default_cache, guarded, say
from gptjax.config import Checkpoints, Corpus, Data, Evaluation, ModelConfig, Run
from gptjax.data.tokenizers import SentencePiece
from gptjax.evals import translation
from gptjax.evals.translation import Translated
from gptjax.infer.beam import Beam
from gptjax.infer.translate import as_source, looks, translate
from gptjax.models.encoder_decoder_rnn import RecurrentTranslator
from gptjax.models.encoder_decoder_transformer import TransformerTranslator
from gptjax.objectives import pairs
from gptjax.objectives.forcing import Forcing, Free, LinearDecay, Teacher
from gptjax.objectives.seq2seq import Seq2Seq
from gptjax.report.heat import heat
from gptjax.train.folder import write_json
from gptjax.train.optim import Muon
from gptjax.train.schedules import Linear

STEPS, CONTEXT, SHORT_WORDS = 700, 24, 10
SEARCHES = {"greedy": Beam(beams=1), "beam 4": Beam(beams=4)}
SHOWN = (
    "I would like to know what time the train leaves.",
    "She told me that she had never been to France before.",
    "The house that my brother bought last year is not very big.",
)
"""Sentences whose attention is drawn; none of the data."""


def _run(model: ModelConfig, forcing: Forcing) -> Run:
    return Run(
        model=model,
        tokenizer=SentencePiece(vocab_size=4096, bos=True),
        objective=Seq2Seq(forcing=forcing),
        optimizer=Muon(learning_rate=0.02, adam_learning_rate=5e-3),
        schedule=Linear(warmup_steps=20, decay_fraction=0.7),
        data=Data(corpora=(Corpus("fra-eng.zip"),), validation_fraction=0.05),
        steps=STEPS,
        batch_rows=64,
        log_every_steps=50,
        evaluation=Evaluation(every_steps=STEPS, rows=128),
        checkpoints=Checkpoints(every_steps=STEPS // 2),
    )


def no_attention() -> Run:
    """A GRU decoder that has one vector of the source; a little wider, for what attention would weigh."""
    return _run(RecurrentTranslator(width=198, attention="none", context=CONTEXT), Teacher())


def additive() -> Run:
    """The same with Bahdanau's attention."""
    return _run(RecurrentTranslator(width=192, attention="additive", context=CONTEXT), Teacher())


def scaled_product() -> Run:
    """The same with scaled products as scores."""
    return _run(RecurrentTranslator(width=192, attention="scaled_product", context=CONTEXT), Teacher())


def transformer() -> Run:
    """Two layers that read and two that write."""
    return _run(TransformerTranslator(layers=2, width=128, heads=4, mlp_width=568, context=CONTEXT), Teacher())


def scheduled_sampling() -> Run:
    """Additive attention; the decoder reads its own words more and more often, half of the time at the end."""
    return _run(additive().model, LinearDecay(steps=STEPS, floor=0.5))


def free_running() -> Run:
    """Additive attention; the decoder reads its own words from the start."""
    return _run(additive().model, Free())


ROWS = {
    row.__name__: row()
    for row in (no_attention, additive, scaled_product, transformer, scheduled_sampling, free_running)
}


def divided(data: Path, out: Path) -> Data:
    """The pairs as two files, of short sources and of long ones, so that the long ones can weigh more."""
    files = {"short": out / "short.tsv", "long": out / "long.tsv"}
    parts: dict[str, list[str]] = {name: [] for name in files}
    for pair in pairs.pairs(str(data), "source", "target"):
        short = len(pair.source.split()) <= SHORT_WORDS
        parts["short" if short else "long"].append("\t".join(" ".join(text.split()) for text in pair) + "\n")
    for name, path in files.items():
        path.write_text("".join(parts[name]), encoding="utf-8")
    corpora = Corpus(str(files["short"]), weight=0.7), Corpus(str(files["long"]), weight=0.3)
    return replace(additive().data, corpora=corpora)


def references(run: Run, tokenizer: Any) -> dict[str, tuple[str, ...]]:
    """Every held-out source that fits into a row, with all its translations."""
    found: dict[str, tuple[str, ...]] = {}
    for pair in pairs.read(run.data, "source", "target").validation:
        found[pair.source] = (*found.get(pair.source, ()), pair.target)
    kept = {source: all_of for source, all_of in found.items() if len(as_source(tokenizer, source)) <= CONTEXT}
    say(f"held out: {len(kept):,} sources; {len(found) - len(kept):,} longer than {CONTEXT} tokens are left out")
    return kept


def judged(folder: Path) -> dict[str, Any]:
    """Scores of a trained row by both searches, with some translations and where it looked; kept in scores.json."""
    kept = folder / "scores.json"
    if kept.exists():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    found = trained.load(folder, say)
    right, params = references(found.run, found.tokenizer), found.params["model"]
    scores: dict[str, Any] = {"parameters": sum(x.size for x in jax.tree.leaves(params))}
    for name, how in SEARCHES.items():
        made = translate(found.model, params, found.tokenizer, list(right), how)
        texts = zip(right, made, strict=True)
        scores[name] = translation.summary([Translated(source, text, right[source]) for source, text in texts])
    ours = translate(found.model, params, found.tokenizer, list(SHOWN), SEARCHES["beam 4"])
    write_json(folder / "samples.json", [
        {"prompt": source, "text": text, "decoding": "beam 4"} for source, text in zip(SHOWN, ours, strict=True)
    ])  # fmt: skip
    translator: Any = found.model
    if translator.attention is not None:
        draw(found, dict(zip(SHOWN, ours, strict=True)), folder / "pictures")
    write_json(kept, scores)
    return scores


def draw(found: trained.Trained, texts: dict[str, str], folder: Path) -> None:
    """Where the translator looked as it wrote each of these translations, a picture each."""
    folder.mkdir(exist_ok=True)
    tokenizer = found.tokenizer
    for number, (source, target) in enumerate(texts.items(), 1):
        weights_TS = looks(found.model, found.params["model"], tokenizer, source, target)
        columns = tokenizer.pieces(as_source(tokenizer, source))
        rows = [*tokenizer.pieces(tokenizer.encode(target)), "<eos>"][: len(weights_TS)]  # a row may be full before
        picture = heat(weights_TS, rows, columns, "Where each French token looked in the English sentence")
        (folder / f"attention-{number}.svg").write_text(picture, encoding="utf-8")


def main(data: Path, out: Path, rows: list[str]) -> None:
    """Train and judge the rows, print a table for each score; what is done is not done again."""
    out.mkdir(parents=True, exist_ok=True)
    corpora, found = divided(data, out), {}
    for name in rows:
        launch.launch(replace(ROWS[name], data=corpora), out / name, default_cache(), say)
        found[name] = judged(out / name)
    write_json(out / "results.json", found)
    for score in ("bleu", "chrf"):
        show(found, score)
    Console().print(next(iter(found.values()))["greedy"]["signatures"])


def show(found: dict[str, dict[str, Any]], score: str) -> None:
    """One score of all rows, greedy / beam 4, over all sentences and by the length of the source."""
    lengths = ["all", *(name for name, _, _ in translation.BUCKETS)]
    first = next(iter(found.values()))["greedy"]
    lengths = [name for name in lengths if name in first]
    heads = (f"{name} ({first[name]['sentences']:,})" for name in lengths)
    table = Table("row", "parameters", *heads, title=f"{score}, greedy / beam 4, by words of the source")
    for row, scores in found.items():
        cells = (" / ".join(f"{scores[how][name][score]:.1f}" for how in SEARCHES) for name in lengths)
        table.add_row(row, f"{scores['parameters']:,}", *cells)
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="fra-eng.zip, or a file of source, TAB, target")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and results.json")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="rows of the table")
    asked = parser.parse_args()
    sys.exit(guarded(lambda: main(asked.data, asked.out, asked.rows)))
