import json
from dataclasses import replace

import pytest
from targets import small

from gptjax import config
from gptjax.ablate import outcome
from gptjax.report import ablation


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run that was logged at updates 1, 10 and 20 and judged at 5, 15 and 20."""
    monkeypatch.setattr(outcome, "_size", lambda folder, row: (100, 6.0))
    config.save(run(), tmp_path / "config.json")
    lines = [
        {"step": step, "update_seconds": seconds, "step_seconds": 0.5, "tokens_per_second": 200.0, "batch": str(step)}
        for step, seconds in ((1, 1.0), (10, 9.0), (20, 20.0))
    ] + [{"step": step, "split": "validation", "nats_per_token": 5.0 - step / 10} for step in (5, 15, 20)]
    lines.sort(key=lambda line: line["step"])
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def run():
    return replace(small(), steps=20)


def test_an_evaluation_between_logged_updates_has_its_share_of_the_time(folder):
    found = outcome.read(folder, run())
    assert found.seconds == 30.0
    assert [x for x, _ in found.curve] == pytest.approx([5.0, 20.0, 30.0])
    assert (found.tokens, found.flops) == (2000, 12000)
    assert found.metrics == {"nats_per_token": 3.0}


def test_a_run_that_gave_up_has_no_worth_and_a_finished_one_is_told_by_its_configuration(folder):
    assert outcome.finished(folder, run())
    assert not outcome.finished(folder, replace(run(), seed=7))
    outcome.give_up(folder, "wild")
    found = outcome.read(folder, run())
    assert (found.failure, found.metrics) == ("wild", {})


def test_a_picture_without_a_point_is_none_and_lines_are_means_over_runs():
    rows = {"metric": "nats", "rows": []}
    assert ablation.drawing(rows, {"a": [[(0.0, 3.0)]], "b": []}) is None
    drawn = ablation.drawing(rows, {"a": [[(0.0, 3.0)]], "b": [[(1.0, 3.0), (2.0, 2.0)], [(3.0, 5.0), (4.0, 4.0)]]})
    assert drawn.count("<circle") == 2
    assert ">a<" not in drawn
