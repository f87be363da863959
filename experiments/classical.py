"""How far do classical classifiers get on SST-2 and CoLA? From the majority class to kernels and small networks.

Command      python experiments/classical.py --sst2 SST-2 --cola CoLA --out runs/classical
Needs        pip install 'gptjax[lineage]' (scikit-learn)
Cost         five minutes on one busy CPU core (under three of CPU time)
Expected     accuracy on SST-2: majority class 0.509; perceptron 0.787; logistic regression on one-hot words 0.813
             (here 0.813; by softmax 0.820), counts 0.811, 1-2-grams 0.818, tf-idf 0.815 (here 0.810); linear SVM on
             tf-idf of 1-2-grams 0.820; RBF features 0.690; MLPs 0.808 to 0.812, with dropout 0.826.
             CoLA, Matthews' correlation: majority class 0.000; regressions on words below 0.10, on 1-2-grams 0.168;
             linear SVM on tf-idf of 1-2-grams 0.162; RBF SVM 0.046; MLPs 0.096 to 0.125, with dropout 0.142
Data         folders with train.tsv and dev.tsv (Hugging Face: nyu-mll/glue, sst2 and cola)

Rows named "sklearn" are scikit-learn's classifiers on its vectorizers; the others learn in this project's loop from
sparse rows, by Adam. CoLA's scores are near chance wherever word order is lost: that is the finding. No row was tuned
on the development sets.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import SVC, LinearSVC

from gptjax import launch
from gptjax.cli import default_cache, guarded, say
from gptjax.config import Checkpoints, Corpus, Data, Evaluation, Run
from gptjax.data.tokenizers import Words
from gptjax.evals import classify
from gptjax.models.vectors import Vectors
from gptjax.objectives import examples
from gptjax.objectives.bag import Bag
from gptjax.objectives.tasks import Classification
from gptjax.train.folder import write_json
from gptjax.train.optim import Adam
from gptjax.train.schedules import Linear

COLUMNS = {"SST-2": (), "CoLA": ("source", "label", "mark", "sentence")}
"""Names of the columns; CoLA's tables have no header."""
SVC_EXAMPLES = 10_000
"""A kernel machine's time grows with the square of the examples; it is asked of sets up to this size."""
WORDS = {"token_pattern": r"\S+"}


class Texts(NamedTuple):
    """One part of a task."""

    texts: list[str]
    labels: np.ndarray


def sklearn_rows(seed: int) -> dict[str, Pipeline]:
    """Name -> vectorizer and classifier."""

    def tfidf() -> TfidfVectorizer:
        return TfidfVectorizer(**WORDS, ngram_range=(1, 2))

    return {
        "majority class": make_pipeline(CountVectorizer(**WORDS), DummyClassifier()),
        "sklearn: one-hot, perceptron": make_pipeline(
            CountVectorizer(**WORDS, binary=True), Perceptron(random_state=seed)
        ),
        "sklearn: one-hot, logistic": make_pipeline(
            CountVectorizer(**WORDS, binary=True), LogisticRegression(solver="liblinear")
        ),
        "sklearn: counts, logistic": make_pipeline(CountVectorizer(**WORDS), LogisticRegression(solver="liblinear")),
        "sklearn: counts of 1-2-grams, logistic": make_pipeline(
            CountVectorizer(**WORDS, ngram_range=(1, 2)), LogisticRegression(solver="liblinear")
        ),
        "sklearn: tf-idf, logistic": make_pipeline(TfidfVectorizer(**WORDS), LogisticRegression(solver="liblinear")),
        "sklearn: tf-idf of 1-2-grams, logistic": make_pipeline(tfidf(), LogisticRegression(solver="liblinear")),
        "sklearn: tf-idf of 1-2-grams, linear SVM": make_pipeline(tfidf(), LinearSVC(random_state=seed)),
        "sklearn: tf-idf, RBF features (Nystroem 300), linear SVM": make_pipeline(
            TfidfVectorizer(**WORDS),
            Nystroem(gamma=1.0, n_components=300, random_state=seed),
            LinearSVC(random_state=seed),
        ),
        "sklearn: tf-idf, RBF SVM": make_pipeline(TfidfVectorizer(**WORDS), SVC()),
    }


def our_rows(run: Run) -> dict[str, Run]:
    """The rows of this project's loop: what differs from logistic regression on one-hot words is said by the name."""
    bag = run.objective
    assert isinstance(bag, Bag)

    def mlp(**fields: Any) -> Run:
        return replace(run, model=Vectors(width=64), objective=replace(bag, **fields))

    return {
        "one-hot, logistic": run,
        "tf-idf, logistic": replace(run, objective=replace(bag, value="tfidf")),
        "one-hot, softmax": replace(run, model=Vectors(width=2)),
        "one-hot, MLP 64 sigmoid": mlp(hidden="sigmoid"),
        "one-hot, MLP 64 tanh": mlp(hidden="tanh"),
        "one-hot, MLP 64 ReLU": mlp(hidden="relu"),
        "one-hot, MLP 64 ReLU, dropout 0.5": mlp(hidden="relu", dropout=0.5),
        "one-hot, MLP 64 ReLU, L2 1e-5": mlp(hidden="relu", l2=1e-5),
    }


def base(folder: Path, columns: tuple[str, ...], count: int, seed: int) -> Run:
    """Logistic regression on one-hot words: five epochs in batches of 256 for `count` examples."""
    steps = 5 * -(-count // 256)
    return Run(
        model=Vectors(width=1),
        tokenizer=Words(lowercase=True, line_ends=False, eos=False),
        objective=Bag(columns=columns),
        optimizer=Adam(learning_rate=1e-2),
        schedule=Linear(),
        data=Data(corpora=(Corpus(str(folder)),)),
        steps=steps,
        batch_rows=256,
        clip_norm=None,
        seed=seed,
        log_every_steps=50,
        evaluation=Evaluation(every_steps=steps, rows=256),
        checkpoints=Checkpoints(every_steps=steps, keep_last=1),
    )


def read(folder: Path, columns: tuple[str, ...]) -> tuple[Texts, Texts]:
    """(training, development) examples, as the objective reads them."""
    task = Classification(columns=columns)
    found = examples.read(Data(corpora=(Corpus(str(folder)),)), lambda r, o: [task.example(r, o)], columns)
    parts = (found.train[0], found.validation)
    train, dev = (Texts([e.texts[0][0] for e in p], np.array([e.target for e in p])) for p in parts)
    return train, dev


def fitted(pipeline: Pipeline, train: Texts, dev: Texts) -> dict[str, float]:
    """Scores on `dev` of a pipeline of scikit-learn, its seconds and its parameters."""
    started = time.perf_counter()
    pipeline.fit(train.texts, train.labels)
    predicted_E = pipeline.predict(dev.texts)
    seconds = time.perf_counter() - started
    return classify.summary(np.eye(2)[predicted_E], dev.labels) | {
        "seconds": seconds,
        "parameters": parameters(pipeline[-1]),
    }


def parameters(classifier: Any) -> int:
    """Learnt scalars of a classifier: weights of features, or of examples for a kernel machine; none of a constant."""
    names = ("dual_coef_", "intercept_") if isinstance(classifier, SVC) else ("coef_", "intercept_")
    return sum(np.asarray(getattr(classifier, name).data).size for name in names if hasattr(classifier, name))


def learnt(run: Run, folder: Path, cache: Path, say: Callable[[str], None]) -> dict[str, float]:
    """The same of a run; the seconds are those of its updates."""
    state = launch.launch(run, folder, cache, say)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    mean = np.median([row["step_seconds"] for row in rows if "step_seconds" in row])
    return rows[-1] | {"seconds": float(mean * run.steps), "parameters": size}


def table(task: str, found: dict[str, dict[str, float]]) -> Table:
    """Every row's scores."""
    shown = Table("row", "accuracy", "F1", "MCC", "seconds", "parameters", title=f"{task}, development set")
    for name, s in found.items():
        cells = (f"{s['accuracy']:.3f}", f"{s['f1']:.3f}", f"{s['matthews']:.3f}")
        shown.add_row(name, *cells, f"{s['seconds']:.1f}", f"{s['parameters']:,}")
    return shown


def main(asked: Any) -> None:
    """Fit and judge every row on both tasks, write `table.json`, print two tables."""
    cache, everything, tables = default_cache(), {}, []
    for task, folder in (("SST-2", asked.sst2), ("CoLA", asked.cola)):
        train, dev = read(folder, COLUMNS[task])
        found = {}
        for name, pipeline in sklearn_rows(asked.seed).items():
            if isinstance(pipeline[-1], SVC) and len(train.texts) > SVC_EXAMPLES:
                say(f"{task}: {name} is left out: {len(train.texts):,} examples, more than {SVC_EXAMPLES:,}")
                continue
            found[name] = fitted(pipeline, train, dev)
            say(f"{task}: {name}: accuracy {found[name]['accuracy']:.3f}")
        for name, run in our_rows(base(folder, COLUMNS[task], len(train.texts), asked.seed)).items():
            path = asked.out / task / name.replace(", ", "-").replace(" ", "_")
            found[name] = learnt(run, path, cache, say)
        everything[task] = found
        tables.append(table(task, found))
    asked.out.mkdir(parents=True, exist_ok=True)
    write_json(asked.out / "table.json", everything)
    for shown in tables:
        Console().print(shown)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sst2", type=Path, required=True, help="folder with SST-2's train.tsv and dev.tsv")
    parser.add_argument("--cola", type=Path, required=True, help="folder with CoLA's train.tsv and dev.tsv")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and table.json")
    parser.add_argument("--seed", type=int, default=0)
    sys.exit(guarded(lambda: main(parser.parse_args())))
