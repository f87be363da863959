"""Which word vectors does a small text give? Skip-gram and CBOW on WikiText-2, judged by people's scores.

Command      python experiments/word2vec.py --wikitext wikitext-2 --wordsim wordsim --analogies questions-words.txt
             --out runs/word2vec
Cost         a minute of two CPU cores for all four rows
Expected     Spearman's correlation on the 299 pairs of WordSim-353 and the 838 of SimLex-999 whose words are known, and
             accuracy on the 8,087 known analogies: skip-gram 0.493, 0.193, 0.049; with 32 noise words a row 0.431,
             0.158, 0.057; without thinning 0.399, 0.162, 0.051; CBOW 0.408, 0.126, 0.058. --seed 1: skip-gram
             0.451, 0.182, 0.046; CBOW 0.397, 0.131, 0.053
Data         wikitext-2 holds train.txt and valid.txt (Hugging Face: Salesforce/wikitext, wikitext-2-v1); wordsim holds
             EN-WS-353-ALL.txt and EN-SIMLEX-999.txt (github.com/mfaruqui/eval-word-vectors); questions-words.txt is
             word2vec's own (github.com/tmikolov/word2vec)

Text is read in lower case; words seen fewer than five times are left out. Every row's folder gets its tables, its
neighbours and a map of some words for `gptjax report`.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from gptjax import launch
from gptjax.cli import default_cache, guarded, say
from gptjax.config import Checkpoints, Corpus, Data, Evaluation, Run
from gptjax.data import tokenizers
from gptjax.data.tokenizers import Words
from gptjax.evals import similarity
from gptjax.models.vectors import Vectors
from gptjax.objectives.word2vec import Word2Vec
from gptjax.report import scatter
from gptjax.train.folder import write_json
from gptjax.train.optim import Adam
from gptjax.train.schedules import Linear

JUDGED = {"WordSim-353": "EN-WS-353-ALL.txt", "SimLex-999": "EN-SIMLEX-999.txt"}
SHOWN = {
    "numbers": "one two three four five six seven eight nine ten",
    "months": "january march april june july august october december",
    "family": "father mother brother sister son daughter wife husband",
    "sea": "ship ships navy fleet sea water river island",
    "music": "album song music band single video guitar vocals",
    "war": "war army battle attack troops division infantry enemy",
}
"""Words of the map, by group."""


def base(wikitext: Path) -> Run:
    """Skip-gram as word2vec's program sets it: 100 numbers, 5 words to either side, 5 noise words a pair, 1e-3.

    Updates of 1,024 rows of 32 words by Adam take the place of single pairs by gradient descent.
    """
    return Run(
        model=Vectors(width=100, context=32),
        tokenizer=Words(min_count=5, lowercase=True, eos=False),
        objective=Word2Vec(),
        optimizer=Adam(learning_rate=0.04),
        schedule=Linear(),
        data=Data(corpora=(Corpus(str(wikitext / "train.txt")),), validation=str(wikitext / "valid.txt")),
        batch_rows=1024,
        clip_norm=None,
        evaluation=Evaluation(every_steps=10_000, rows=512),
        checkpoints=Checkpoints(every_steps=10_000, keep_last=1),
    )


def rows(run: Run) -> dict[str, Run]:
    """The table's rows: of skip-gram one thing differs from the first; CBOW has updates of its own."""
    more_noise = replace(run, objective=Word2Vec(shared=32))
    return {
        "skip-gram": run,
        "skip-gram, 32 noise words a row": more_noise,
        "skip-gram, no thinning": replace(run, objective=Word2Vec(sample=1.0)),
        "CBOW": centre(run),
    }


def centre(run: Run) -> Run:
    """CBOW, set for speed: so little work a word that updates are four times as large, lest the optimizer take most.

    Rows are of 16 words, for most of a mean's product is with words out of reach, and a product's cost grows with rows.
    The price: with skip-gram's updates and 16 noise words a row WordSim-353 and SimLex-999 were 0.05 and 0.03 higher.
    """
    assert isinstance(run.model, Vectors)
    assert isinstance(run.objective, Word2Vec)
    return replace(
        run,
        model=replace(run.model, context=16),
        objective=replace(run.objective, predict="centre", shared=8),
        optimizer=Adam(learning_rate=0.08, beta1=0.5),
        batch_rows=8192,
    )


def epochs(run: Run, count: int, cache: Path) -> Run:
    """The run with as many updates as `count` passes over the text take."""
    tokenizer = run.tokenizer.build(lambda: run.objective.texts(run.data, run.tokenizer.LEARNS_FROM))
    sources = run.objective.sources(run.data, tokenizer, run.model.build(1, 1).context, run.seed, cache)
    return replace(run, steps=-(-count * sum(source.rows for source in sources.train) // run.batch_rows))


def trained(run: Run, folder: Path, cache: Path, say: Callable[[str], None]) -> similarity.Table:
    """The vectors of a run, trained in `folder` unless they are there."""
    state = launch.launch(run, folder, cache, say)
    tokenizer = tokenizers.load(folder / "tokenizer")
    words = [tokenizer.decode(np.array([id])) for id in range(tokenizer.vocab_size)]
    return similarity.table(words, np.asarray(state.params["model"]["embed"]["tokens"])[: len(words)])


def judged(vectors: similarity.Table, wordsim: Path, analogies: Path) -> dict[str, dict[str, float]]:
    """Test -> scores; analogies by section, and all of them as "analogies"."""
    pairs = {name: similarity.pairs(wordsim / file, lowercase=True) for name, file in JUDGED.items()}
    found = {name: similarity.agreement(vectors, of_file) for name, of_file in pairs.items()}
    sections = similarity.answered(vectors, similarity.analogies(analogies, lowercase=True))
    return found | {"analogies": sections.pop("total")} | sections


def show(folder: Path, name: str, vectors: similarity.Table, scores: dict[str, dict[str, float]]) -> None:
    """Write `results.json` and `pictures/map.svg` for the report."""
    known = [(w, group) for group, words in SHOWN.items() for w in words.split() if w in vectors.ids]
    table = {
        "title": f"Word vectors: {name}",
        "columns": ["test", "score", "asked", "of"],
        "rows": [
            [test, f"{s['spearman']:.3f}", s["covered"], s["pairs"]]
            if "spearman" in s
            else [test, f"{s['accuracy']:.3f}", s["asked"], s["questions"]]
            for test, s in scores.items()
        ],
        "note": "Spearman's correlation with people's scores, accuracy of analogies; only known words are asked.",
    }
    alike = {
        "title": "Nearest words by cosine",
        "columns": ["word", "nearest"],
        "rows": [
            [w, ", ".join(f"{other} {cosine:.2f}" for other, cosine in similarity.nearest(vectors, w, 6))]
            for w, _ in known[:: max(1, len(known) // 12)]
        ],
        "note": "",
    }
    write_json(folder / "results.json", [table, alike])
    if len(known) > 1:
        names, groups = [w for w, _ in known], [group for _, group in known]
        (folder / "pictures").mkdir(exist_ok=True)
        svg = scatter.to_svg(similarity.plane(vectors, names), names, groups)
        (folder / "pictures" / "map.svg").write_text(svg, encoding="utf-8")


def main(asked: Any) -> None:
    """Train and judge every row, print one table; what is done is not done again."""
    cache = default_cache()
    tests = [*JUDGED, "analogies"]
    table = Table("row", *tests, title=f"Word vectors of {asked.wikitext} after {asked.epochs} epochs")
    for name, run in rows(base(asked.wikitext)).items():
        folder = asked.out / name.replace(", ", "-").replace(" ", "_")
        vectors = trained(epochs(replace(run, seed=asked.seed), asked.epochs, cache), folder, cache, say)
        scores = judged(vectors, asked.wordsim, asked.analogies)
        show(folder, name, vectors, scores)
        ratios = [f"{scores[t]['spearman']:.3f} ({scores[t]['covered']} of {scores[t]['pairs']})" for t in JUDGED]
        s = scores["analogies"]
        table.add_row(name, *ratios, f"{s['accuracy']:.3f} ({s['asked']} of {s['questions']})")
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wikitext", type=Path, required=True, help="folder with train.txt and valid.txt")
    parser.add_argument("--wordsim", type=Path, required=True, help="folder with EN-WS-353-ALL.txt, EN-SIMLEX-999.txt")
    parser.add_argument("--analogies", type=Path, required=True, help="questions-words.txt")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--epochs", type=int, default=5, help="passes over the text")
    parser.add_argument("--seed", type=int, default=0)
    sys.exit(guarded(lambda: main(parser.parse_args())))
