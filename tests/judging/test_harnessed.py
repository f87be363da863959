"""What the command line says of the lm-evaluation-harness's tasks."""

import sys

import pytest

from gptjax import cli
from gptjax.config import ConfigError
from gptjax.judging import harnessed


def test_without_the_harness_its_tasks_name_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "lm_eval", None)  # as where it is not installed
    with pytest.raises(
        ConfigError, match=r"arc_easy: needs the lm-evaluation-harness.*pip install 'gptjax\[harness\]'"
    ):
        harnessed.asked(tmp_path, ["arc_easy"], None, None, None, print)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--limit", "3"], "--limit 3: is for tasks of the lm-evaluation-harness"),
        (["--tasks", "a.py:b", "--num-fewshot", "2"], "--num-fewshot 2: is for tasks of the lm-evaluation-harness"),
        (["--tasks", "arc_easy", "--data", "x.txt"], "--data x.txt: a task of the lm-evaluation-harness knows its own"),
        (["--tasks", "arc_easy", "a.py:b"], "--tasks a.py:b: ask them by a command of their own"),
        (["--tasks", "arc_easy", "--stride", "4"], "--stride 4: is for running text"),
        (["--tasks", "arc_easy", "--limit", "0"], "--limit 0: must be 1 or more"),
        (["--tasks", "arc_easy", "--num-fewshot", "-1"], "--num-fewshot -1: must be 0 or more"),
        (["--tasks", "arc_easy", "--include-path", "nowhere"], "--include-path nowhere: is no folder"),
    ],
)
def test_options_that_do_not_go_together_are_refused_in_one_line(words, message, capsys):
    assert cli.run_verb(["eval", "RUN", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_metric_that_is_no_number_is_refused():
    with pytest.raises(FloatingPointError, match="task arc: acc is nan"):
        harnessed._task("arc", {"alias": "arc", "acc,none": float("nan"), "acc_stderr,none": 0.1}, {})


def test_metrics_have_their_standard_error_and_their_filter():
    values = {"alias": "x", "acc,none": 0.5, "acc_stderr,none": 0.1, "em,strict": 1, "em_stderr,strict": "N/A"}
    found = harnessed._task("x", values, {"x": {"original": 9, "effective": 4}})
    assert found == {
        "task": "x",
        "examples": 4,
        "acc": {"value": 0.5, "stderr": 0.1},
        "em/strict": {"value": 1.0, "stderr": None},
    }
