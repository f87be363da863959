"""Speed and quality of word vectors beside gensim's: the same text, words, window, noise words a pair and epochs.

Command      python experiments/bench/word_vectors.py --wikitext wikitext-2 --wordsim wordsim [--rounds 3] [--json OUT]
Needs        pip install gensim (a peer to measure by, no part of the project)
Cost         80 seconds of CPU time a round
Expected     --rounds 1 on two free cores: skip-gram 1.57 x gensim's words a second (CPU seconds 23.2 beside 34.7),
             WordSim-353 0.493 beside 0.369, SimLex-999 0.193 beside 0.197. CBOW: 1.30 x (11.6 beside 11.8), WordSim-353
             0.408 beside 0.263, SimLex-999 0.126 beside 0.158

Words a second count the text's known words times the epochs, whatever a program thins out of them. `train` is the time
of the updates alone (gensim: `train`; here all updates, the first as the mean of the others), `whole` adds vocabulary,
compilation and saving, and so do the CPU seconds of the process, which hold on a busy machine too; the text is there
before, as lists of words or as a token store. Programs take turns; the median of the rounds is shown, each
round with a seed of its own. gensim is given lines without their <unk>, as the objective reads them.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gptjax import launch
from gptjax.arguments import load_file
from gptjax.cli import guarded
from gptjax.config import Run
from gptjax.data import utf8
from gptjax.data.words import UNKNOWN
from gptjax.evals import similarity

EPOCHS, WIDTH, WINDOW, NEGATIVES, SAMPLE, MIN_COUNT = 5, 100, 5, 5, 1e-3, 5
OURS = load_file(Path(__file__).parents[1] / "word2vec.py")
"""The experiment whose runs are measured."""
Measure = Callable[[int], dict[str, float]]
"""`measure(seed)`: seconds, words a second and scores."""


def scores(words: list[str], vectors_VD: np.ndarray, wordsim: Path) -> dict[str, float]:
    """Spearman's correlation on each file of the experiment."""
    table = similarity.table(words, vectors_VD)
    files = {name: similarity.pairs(wordsim / file, lowercase=True) for name, file in OURS.JUDGED.items()}
    return {name: similarity.agreement(table, pairs)["spearman"] for name, pairs in files.items()}


def gensim(lines: list[list[str]], skip_gram: bool, workers: int, wordsim: Path) -> Measure:
    """gensim's Word2Vec with its own defaults otherwise."""
    from gensim.models import Word2Vec as Peer

    def measure(seed: int) -> dict[str, float]:
        started, used = time.perf_counter(), time.process_time()
        model = Peer(
            vector_size=WIDTH, window=WINDOW, negative=NEGATIVES, sample=SAMPLE, min_count=MIN_COUNT,
            workers=workers, sg=int(skip_gram), seed=seed + 1,
        )  # fmt: skip
        model.build_vocab(lines)
        begun = time.perf_counter()
        model.train(lines, total_examples=model.corpus_count, epochs=EPOCHS)
        ended, cpu = time.perf_counter(), time.process_time() - used
        known = sum(word in model.wv for line in lines for word in line)
        found = scores(model.wv.index_to_key, model.wv.vectors, wordsim)
        times = {"train_seconds": ended - begun, "whole_seconds": ended - started, "cpu_seconds": cpu}
        return times | {"words_per_second": known * EPOCHS / (ended - begun)} | found

    return measure


def ours(run: Run, cache: Path, wordsim: Path) -> Measure:
    """A run of the experiment by the one training loop."""
    run = OURS.epochs(run, EPOCHS, cache)
    tokenizer = run.tokenizer.build(lambda: run.objective.texts(run.data, run.tokenizer.LEARNS_FROM))
    encoded = [tokenizer.encode(text) for text in run.objective.texts(run.data, ("train",))]
    left_out = [tokenizer.unknown_id, *tokenizer.encode("\n")]
    words = [tokenizer.decode(np.array([id])) for id in range(tokenizer.vocab_size)]
    known = sum(int(np.sum(~np.isin(ids, left_out))) for ids in encoded)

    def measure(seed: int) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            started, used = time.perf_counter(), time.process_time()
            state = launch.launch(replace(run, seed=seed), Path(folder), cache, lambda line: None)
            whole, cpu = time.perf_counter() - started, time.process_time() - used
            rows = [json.loads(row) for row in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
        # The first update, a row by itself, waits for the pipeline to fill; all others count.
        seconds = [row["update_seconds"] for row in rows if "update_seconds" in row and row["step"] > 1]
        train = sum(seconds) * run.steps / (run.steps - 1)
        found = scores(words, np.asarray(state.params["model"]["embed"]["tokens"])[: len(words)], wordsim)
        times = {"train_seconds": train, "whole_seconds": whole, "cpu_seconds": cpu}
        return times | {"words_per_second": known * EPOCHS / train} | found

    return measure


def markdown(rows: dict[str, dict[str, float]]) -> str:
    """The medians, speed beside that of gensim's same method."""
    head = "program | words/s | x gensim | train s | whole s | CPU s | CPU, x gensim | WordSim-353 | SimLex-999"
    lines = [f"| {head} |", "|" + "---|" * 9]
    for name, row in rows.items():
        peer = rows["gensim, " + name.split(", ")[1]]
        speed = f"{row['words_per_second']:,.0f} | {row['words_per_second'] / peer['words_per_second']:.2f}"
        times = f"{row['train_seconds']:.1f} | {row['whole_seconds']:.1f} | {row['cpu_seconds']:.1f}"
        share, quality = row["cpu_seconds"] / peer["cpu_seconds"], f"{row['WordSim-353']:.3f} | {row['SimLex-999']:.3f}"
        lines.append(f"| {name} | {speed} | {times} | {share:.2f} | {quality} |")
    return "\n".join(lines)


def main(asked: Any) -> None:
    """Measure in turns, write, print."""
    text = asked.wikitext / "train.txt"
    lines = [[w for w in line.lower().split() if w != UNKNOWN] for _, line in utf8.lines(text)]
    lines = [line for line in lines if line]
    base = replace(OURS.base(asked.wikitext), log_every_steps=100)
    base = replace(base, data=replace(base.data, validation=None, validation_fraction=0.0))
    with tempfile.TemporaryDirectory() as cache:
        programs: dict[str, Measure] = {
            "gensim, skip-gram": gensim(lines, True, asked.workers, asked.wordsim),
            "gptjax, skip-gram": ours(base, Path(cache), asked.wordsim),
            "gensim, CBOW": gensim(lines, False, asked.workers, asked.wordsim),
            "gptjax, CBOW": ours(OURS.centre(base), Path(cache), asked.wordsim),
        }
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
        for seed in range(asked.rounds):
            for name, measure in programs.items():
                rounds[name].append(measure(seed))
                print(f"round {seed + 1}: {name}: {rounds[name][-1]}", file=sys.stderr)
    medians = {name: {k: statistics.median(r[k] for r in found) for k in found[0]} for name, found in rounds.items()}
    if asked.json is not None:
        asked.json.write_text(json.dumps({"median": medians, "rounds": rounds}, indent=2) + "\n")
    print(markdown(medians))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wikitext", type=Path, required=True, help="folder with train.txt")
    parser.add_argument("--wordsim", type=Path, required=True, help="folder with EN-WS-353-ALL.txt, EN-SIMLEX-999.txt")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each program; the median is shown")
    parser.add_argument("--workers", type=int, default=2, help="gensim's threads")
    parser.add_argument("--json", type=Path, help="also write all rounds to this file")
    sys.exit(guarded(lambda: main(parser.parse_args())))
