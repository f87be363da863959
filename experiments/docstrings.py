"""Functions and the first lines of their docstrings, from Python source: what the demo fine-tunes on and is asked."""

import ast
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from gptjax.config import Data
from gptjax.data import corpora
from gptjax.data.tokenizers import Tokenizer
from gptjax.evals.choice import Question

LONGEST = 700
"""Characters of a function, so that most fit into a row with their docstring."""


def examples(data: Data) -> dict[str, list[dict[str, str]]]:
    """{"prompt", "completion"} for every documented function of each split's modules, each pair of texts once.

    A docstring that the training modules have too is not among the held-out ones: it could be known by heart.
    """
    found: dict[str, dict[tuple[str, str], None]] = {}
    for split, pieces in corpora.splits(data).items():
        found[split] = dict.fromkeys(pair for module in _documents(pieces()) for pair in _functions(module))
    known = {line for _, line in found["train"]}
    held_out = [(source, line) for source, line in found["validation"] if line not in known]
    pairs = {"train": list(found["train"]), "validation": held_out}
    return {split: [{"prompt": source, "completion": line} for source, line in pairs[split]] for split in pairs}


def _documents(pieces: Iterable[tuple[int, corpora.Piece]]) -> Iterator[str]:
    text = ""
    for _, piece in pieces:
        text = piece.text if piece.starts else text + piece.text
        if piece.ends:
            yield text


def _functions(module: str) -> Iterator[tuple[str, str]]:
    """(source without its docstring and an open quote behind it, first line of the docstring)."""
    try:
        tree = ast.parse(module)
    except (SyntaxError, ValueError):
        return
    lines = module.split("\n")
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or len(node.body) < 2:
            continue
        docstring = ast.get_docstring(node)
        line = docstring.strip().split("\n")[0].strip() if docstring else ""
        first = node.body[0]
        source = "\n".join(lines[node.lineno - 1 : first.lineno - 1] + lines[first.end_lineno or 0 : node.end_lineno])
        if len(line) >= 12 and len(source) <= LONGEST:
            yield f'{source}\n"""', line


def write(path: Path, rows: list[dict[str, str]]) -> None:
    """The examples as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def questions(rows: list[dict[str, str]], tokenizer: Tokenizer, longest: int, seed: int = 0) -> list[Question]:
    """Which of four docstrings belongs to the function? The three wrong ones belong to other functions of `rows`.

    Only functions that fit into `longest` tokens with every docstring are asked.
    """
    generator = np.random.default_rng(seed)
    prompts = tokenizer.encode_batch([row["prompt"] for row in rows])
    answers = tokenizer.encode_batch([row["completion"] for row in rows])
    asked = []
    for i, prompt in enumerate(prompts):
        others = [int(j) for j in generator.permutation(len(rows))[:12]]
        wrong = [j for j in others if rows[j]["completion"] != rows[i]["completion"]][:3]
        order = [int(j) for j in generator.permutation([i, *wrong])]
        if len(order) == 4 and len(prompt) + max(len(answers[j]) for j in order) <= longest:
            sizes = tuple(len(rows[j]["completion"].encode()) for j in order)
            asked.append(Question(prompt, tuple(answers[j] for j in order), sizes, order.index(i)))
    return asked
