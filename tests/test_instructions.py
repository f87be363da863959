"""Claims about the experiment of instruction tuning."""

import json
from pathlib import Path

import pytest
from untrained import write

from gptjax import arguments
from gptjax.data.tokenizers import Bytes
from gptjax.judging import judge
from gptjax.models.gpt import GPT

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "instructions.py"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An untrained run and instructions in the two forms of the published files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write(tmp_path / "init", GPT(layers=1, width=8, heads=2, mlp_width=8, context=96), tokenizer=Bytes())
    taught = [{"instruction": f"Say {i}.", "category": "qa", "input": "", "output": f"It is {i}."} for i in range(40)]
    (tmp_path / "taught.json").write_text(json.dumps(taught))
    asked = [{"instruction": f"Say {i}!", "instances": [{"input": "", "output": f"Is {i}."}]} for i in range(6)]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    return tmp_path


def test_held_out_answers_are_judged_and_written_before_and_after(place, monkeypatch, capsys):
    experiment = arguments.load_file(EXPERIMENT)
    monkeypatch.setattr(experiment, "SHOWN", 2)
    monkeypatch.setattr(experiment, "ANSWER_TOKENS", 3)
    out = place / "out"
    experiment.main(place / "init", place / "taught.json", place / "asked.jsonl", out, experiment.TEMPLATE, 2)
    held_out, greedy = json.loads((out / "results.json").read_text())
    before, after = ({row[0]: row[column] for row in held_out["rows"]} for column in (1, 2))
    first = judge.held_out(out / "checkpoints/0", None, None, place / "cache/gptjax", print)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    [last] = [line for line in lines if "split" in line]
    assert {"loss_nats", "nats"} & before.keys()
    assert before == pytest.approx({name: first[name] for name in before}, rel=1e-6)
    assert after == pytest.approx({name: last[name] for name in after}, rel=1e-6)
    assert before != after
    prompts = [f"### User:\nSay {i}!\n\n### Assistant:\n" for i in range(2)]
    assert [row[0] for row in greedy["rows"]] == prompts
    samples = json.loads((out / "samples.json").read_text())
    assert [(one["prompt"], one["decoding"]) for one in samples] == [(prompt, "greedy") for prompt in prompts]
    assert [row[2] for row in greedy["rows"]] == [one["text"] for one in samples]
    page = (out / "report.html").read_text()
    assert "Held-out answers" in page
    assert "Greedy answers" in page
    assert "Held-out answers" in capsys.readouterr().out
