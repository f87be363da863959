"""What the command line says of the lm-evaluation-harness's tasks."""

import re
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


TASK = "task: mine\ndataset_path: json\noutput_type: multiple_choice\ndoc_to_text: '{{text}}'\n"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"broken.yaml": TASK + "metric_list: [{metric: acc]\n"}, r"broken\.yaml:5: is no YAML \(.*expected"),
        ({"tabs.yaml": "task: tabs\nfewshot:\n\tx: 1\n"}, r"tabs\.yaml:3: is no YAML \(.*token"),
        ({"deep/mine.yaml": "include: base\ntask: x\n", "deep/base": "a: 1\nb: [\n"}, r"deep/base:3: is no YAML"),
        ({"mine.yaml": "include: nothere\ntask: x\n"}, r"mine\.yaml: includes .*nothere, which cannot be read"),
        ({"list.yaml": "- a\n- b\n"}, r"list\.yaml: is no task of the harness \(Expected YAML dict"),
        ({"bytes.yaml": "task: \x00\n"}, r"bytes\.yaml: is no task of the harness"),
        ({"empty.yaml": "include:\ntask: x\n"}, r"empty\.yaml: is no task of the harness"),
        ({"good.yaml": TASK, "broken.yaml": "a: 'b\n"}, r"broken\.yaml:2: is no YAML"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_file_of_tasks_that_is_no_yaml_is_named_with_its_line(tmp_path, files, message, capsys):
    pytest.importorskip("lm_eval")
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert cli.run_verb(["eval", "RUN", "--tasks", "mine", "--include-path", str(tmp_path)]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line)


def test_files_of_tasks_that_are_whole_pass_with_their_functions_and_their_templates(tmp_path):
    pytest.importorskip("lm_eval")
    (tmp_path / "mine.yaml").write_text("include: base.yaml\n" + TASK + "process_docs: !function nowhere.function\n")
    (tmp_path / "base.yaml").write_text("test_split: test\n")  # no task by itself
    assert "mine" in harnessed._manager(["mine"], tmp_path).all_tasks


def test_a_name_that_no_task_has_comes_with_the_nearest(tmp_path):
    pytest.importorskip("lm_eval")
    (tmp_path / "mine.yaml").write_text(TASK.replace("mine", "sorting_of_things"))
    with pytest.raises(ConfigError, match=r"sorting_of_thing: is not among .*, did you mean 'sorting_of_things'"):
        harnessed._manager(["sorting_of_thing"], tmp_path)
