"""Claims about experiments that are run: once, at equal budgets, with one table of what they came to."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gptjax import config
from gptjax.ablate import experiment, outcome, runner
from gptjax.ablate.budget import Flops, Seconds
from gptjax.cli import run_verb
from gptjax.train import log
from gptjax.train.schedules import Constant, Cosine

FILE = Path(__file__).parent / "experiment_rows.py"
TEXT = "".join(f"line {i} says {i * i % 97} and then {i % 7} words more\n" for i in range(200))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def done(corpus, tmp_path_factory):
    """The whole experiment with two seeds, run once: its folder."""
    out = tmp_path_factory.mktemp("ablation") / "out"
    assert run_verb([*command(corpus, out), "--seeds", "2"]) == 0
    return out


def command(corpus, out):
    return ["ablate", str(FILE), "--data", str(corpus), "--out", str(out), "--cache", str(corpus.parent / "cache")]


def table(out):
    return json.loads((out / "table.json").read_text())


def test_the_table_is_what_the_runs_logged(done):
    found = {row["name"]: row for row in table(done)["rows"]}
    assert list(found) == ["base", "wide", "trigram"]
    for name in ("base", "wide"):
        values = []
        for seed in range(2):
            last = log.rows(done / "runs" / name / f"seed-{seed}" / "metrics.jsonl")[-1]
            values.append(last["nats_per_token"])
        assert found[name]["values"] == {"0": values[0], "1": values[1]}
        assert found[name]["mean"] == pytest.approx(sum(values) / 2)
        assert found[name]["standard_error"] == pytest.approx(abs(values[0] - values[1]) / 2)
        assert found[name]["seconds"] > 0
    assert found["base"]["difference"]["mean"] == 0
    pairs = [found["wide"]["values"][s] - found["base"]["values"][s] for s in ("0", "1")]
    assert found["wide"]["difference"]["mean"] == pytest.approx(sum(pairs) / 2)
    assert found["trigram"]["counted"]
    assert found["trigram"]["values"]["0"] == found["trigram"]["values"]["1"]
    assert found["wide"]["parameters"] > found["base"]["parameters"]


def test_every_row_spends_the_same_tokens_however_many_rows_an_update_has(done):
    runs = {name: config.load(done / "runs" / name / "seed-0" / "config.json") for name in ("base", "wide")}
    assert {name: run.steps for name, run in runs.items()} == {"base": 16, "wide": 8}
    assert {row["name"]: row["tokens"] for row in table(done)["rows"][:2]} == {"base": 1024, "wide": 1024}


def test_rows_with_batches_of_their_own_are_named(done):
    found = {row["name"]: row["same_batches"] for row in table(done)["rows"]}
    assert found == {"base": True, "wide": False, "trigram": None}
    assert "rows that read other batches than base: wide" in (done / "table.md").read_text()


def test_what_has_finished_is_not_run_again(done, corpus, capfd):
    files = {path: path.stat().st_mtime_ns for path in (done / "runs").rglob("*") if path.is_file()}
    assert run_verb([*command(corpus, done), "--seeds", "2", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == table(done)
    assert files == {path: path.stat().st_mtime_ns for path in (done / "runs").rglob("*") if path.is_file()}


def test_a_row_and_a_seed_can_be_picked_by_index(corpus, tmp_path, capfd):
    picked = [*command(corpus, tmp_path / "out"), "--seeds", "3", "--seed", "2"]
    assert run_verb([*picked, "--row", "1"]) == 0
    runs = sorted(str(p.relative_to(tmp_path / "out" / "runs")) for p in tmp_path.glob("out/runs/*/*"))
    assert runs == ["wide/seed-2"]
    assert table(tmp_path / "out")["rows"][1]["runs"] == 1
    capfd.readouterr()
    assert run_verb([*picked, "--row", "wise"]) == 2
    assert "--row wise: there is no such row, did you mean 'wide'?" in capfd.readouterr().err
    assert run_verb([*command(corpus, tmp_path / "out"), "--seed", "9"]) == 2
    assert "--seed 9: is not one of the seeds 0 to 2" in capfd.readouterr().err


def test_a_row_that_diverges_is_noted_and_the_others_go_on(corpus, tmp_path):
    found = experiment.read(FILE, [str(corpus)])
    base = found.rows["base"]
    soon = replace(base, optimizer=replace(base.optimizer, learning_rate=1e30), abort_after_skips=2)
    # One finite update beyond all measure, and an evaluation before enough have been skipped.
    judged_first = replace(base, optimizer=replace(base.optimizer, learning_rate=1e15))
    rows = {"soon": soon, "judged_first": judged_first, "base": base}
    for _ in range(2):
        result = runner.run(found._replace(rows=rows), 1, tmp_path, tmp_path / "cache", list(rows), (), print)
        first, second, third = result["rows"]
        assert "not finite in 2 updates in a row" in first["failures"][0]
        assert "not finite" in second["failures"][0]
        assert first["mean"] is second["mean"] is None
        assert third["mean"] is not None
    assert outcome.finished(tmp_path / "runs" / "soon" / "seed-0", replace(soon, steps=16))


def test_another_configuration_under_a_finished_name_is_refused(done, corpus):
    found = experiment.read(FILE, [str(corpus)])
    rows = {"base": replace(found.rows["base"], clip_norm=0.5)}
    with pytest.raises(ValueError, match=r"clip_norm: 1\.0 -> 0\.5"):
        runner.run(found._replace(rows=rows), 1, done, corpus.parent / "cache", ["base"], (), print)


def test_a_budget_of_flops_gives_the_larger_model_fewer_updates(corpus, tmp_path):
    found = experiment.read(FILE, [str(corpus)])
    base, wide = found.rows["base"], replace(found.rows["wide"], batch_rows=4)
    steps = [Flops(1e9).steps(row, tmp_path, tmp_path, print) for row in (base, wide)]
    each = [row.model.flops_per_token(256, 16)[0] * 4 * 16 for row in (base, wide)]
    assert steps == [round(1e9 / flops) for flops in each]
    assert steps[0] > steps[1]


def test_a_budget_of_seconds_is_timed_once_and_remembered(corpus, tmp_path):
    found = experiment.read(FILE, [str(corpus)])._replace(budget=Seconds(0.05))
    base = found.rows["base"]
    rows = {"base": replace(base, steps=1000, schedule=Constant()), "later": replace(base, schedule=Cosine())}
    said = []
    result = runner.run(found._replace(rows=rows), 1, tmp_path, tmp_path / "cache", ["base"], (), said.append)
    assert 0.005 < result["rows"][0]["seconds"] < 5
    assert result["rows"][1]["runs"] == 0
    assert not list((tmp_path / "budget").glob("later*"))
    assert any("timing" in line for line in said)
    said.clear()
    runner.run(found._replace(rows=rows), 1, tmp_path, tmp_path / "cache", ["base"], (), said.append)
    assert not said


def test_an_experiment_that_is_none_is_one_clear_line(tmp_path, capfd):
    path = tmp_path / "wrong.py"
    for content, line in (
        ("x = 1", "has no ROWS"),
        ("ROWS = {'a': 3}", "row 'a' is a int, not a Run"),
        ("ROWS = {'a b': 3}", "row 'a b': names are letters"),
        ("from targets import small\nROWS = {'a': small}\nBASE = 'b'", "BASE='b' is no row"),
        ("from targets import small\nROWS = {'a': small}\nBUDGET = 7", "BUDGET=7 is no budget"),
    ):
        path.write_text(content)
        assert run_verb(["ablate", str(path), "--out", str(tmp_path / "out")]) == 2
        err = capfd.readouterr().err.strip()
        assert line in err
        assert len(err.splitlines()) == 1
    assert run_verb(["ablate", str(tmp_path / "none.py"), "--out", str(tmp_path / "out")]) == 2


def test_a_metric_that_no_evaluation_has_is_named(corpus, tmp_path):
    found = experiment.read(FILE, [str(corpus)])._replace(metric="accuracy")
    with pytest.raises(ValueError, match="row trigram has no finite metric 'accuracy'; it has tokens, nats_per_token"):
        runner.run(found, 1, tmp_path, tmp_path / "cache", ["trigram"], (), print)


def test_the_report_has_the_table_and_a_picture(done):
    text = (done / "report.html").read_text()
    for piece in ("gptjax ablation", "trigram", "data:image/svg+xml;base64", "model.width"):
        assert piece in text
