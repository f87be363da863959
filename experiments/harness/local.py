"""Test sets for the lm-evaluation-harness from files on this machine: no hub, no copy in a cache.

Command      export GPTJAX_TASK_DATA=DATA
             gptjax eval RUN --include-path experiments/harness --tasks arc_easy_local lambada_local
Cost         seconds for small models (experiments/bench/harness.py measures it)
Data         DATA holds arc/ARC-Easy-Test.jsonl (Hugging Face: allenai/ai2_arc, ARC-Easy; this is allenai.org's file)
             and lambada/lambada_test.jsonl (Hugging Face: EleutherAI/lambada_openai)

The YAML files beside this one are the harness's arc_easy and lambada_openai in all but where the examples come from.
"""

import json
import os
from pathlib import Path
from typing import Any

from datasets import Dataset


def _read(name: str) -> list[dict[str, Any]]:
    folder = os.environ.get("GPTJAX_TASK_DATA")
    if folder is None:
        raise FileNotFoundError(f"GPTJAX_TASK_DATA is not set; let it name the folder that holds {name}")
    with (Path(folder) / name).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def arc_easy(**_: Any) -> dict[str, Dataset]:
    """Questions with the fields of allenai/ai2_arc."""
    rows = []
    for row in _read("arc/ARC-Easy-Test.jsonl"):
        choices = row["question"]["choices"]
        texts, labels = [one["text"] for one in choices], [one["label"] for one in choices]
        question = row["question"]["stem"]
        rows.append({"question": question, "choices": {"text": texts, "label": labels}, "answerKey": row["answerKey"]})
    return {"test": Dataset.from_list(rows)}


def lambada(**_: Any) -> dict[str, Dataset]:
    """Passages, of which the last word is asked."""
    return {"test": Dataset.from_list([{"text": row["text"]} for row in _read("lambada/lambada_test.jsonl")])}
