"""Claims about the command line: a mistake is one clear line and exit code 2; results are reproducible."""

import json
from pathlib import Path

import pytest
from runs import TARGETS

from gptjax import config
from gptjax.cli import VERBS, run_verb

SMALL = f"{TARGETS}:small"


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory) -> Path:
    """A run of a few updates."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    arguments = ["train", SMALL, "--data", str(text), "--out", str(folder), "--steps", "20"]
    assert run_verb([*arguments, "--cache", str(text.parent / "cache")]) == 0
    return folder


def mistake(capfd, *argv) -> str:
    """The one line that a mistaken command prints."""
    capfd.readouterr()
    assert run_verb([str(word) for word in argv]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    return err.strip()


def mistake_after_notes(capfd, *argv) -> str:
    """The last line that a mistaken command prints; before it come notes on the data."""
    capfd.readouterr()
    assert run_verb([str(word) for word in argv]) == 2
    return capfd.readouterr().err.strip().splitlines()[-1]


def train(capfd, tmp_path, data, *options) -> str:
    where = ("--data", data, "--out", tmp_path / "run", "--cache", tmp_path / "cache")
    return mistake(capfd, "train", SMALL, *where, *options)


def test_beam_search_gives_hypotheses_with_the_likeliest_first(trained, capfd):
    def searched(beams):
        capfd.readouterr()
        words = ["sample", str(trained), "--prompt", "line 7", "--max-tokens", "5", "--json", "--beams", str(beams)]
        assert run_verb(words) == 0
        return json.loads(capfd.readouterr().out)["samples"]

    found = searched(3)
    nats = [sample["nats"] for sample in found]
    assert nats == sorted(nats)
    assert len({sample["text"] for sample in found}) == 3
    [greedy] = searched(1)
    assert greedy["nats"] >= nats[0]
    line = mistake(capfd, "sample", trained, "--prompt", "x", "--beams", 3, "--temperature", 0.5)
    assert "--beams 3: searches, and does not draw" in line


def test_a_missing_file(capfd, tmp_path):
    assert "nowhere.txt" in train(capfd, tmp_path, tmp_path / "nowhere.txt")


def test_an_empty_corpus(capfd, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    line = train(capfd, tmp_path, tmp_path / "empty.txt")
    assert "empty.txt" in line
    assert "empty" in line.replace("empty.txt", "")


def test_invalid_utf8_names_file_and_byte(capfd, tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"plain text, then caf\xe9\n" * 3)
    line = train(capfd, tmp_path, path)
    assert "latin.txt" in line
    assert "20" in line


def test_a_jsonl_line_without_text(capfd, tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"text": "one"}\n{"id": 1, "body": "two"}\n')
    line = train(capfd, tmp_path, path)
    assert 'corpus.jsonl:2: field "text" is missing; fields are id, body' in line


def test_a_batch_that_does_not_split_over_the_mesh(capfd, tmp_path, text):
    line = train(capfd, tmp_path, text, "--mesh.data", "7")
    assert "mesh data=7" in line


def test_width_not_divisible_by_heads(capfd, tmp_path, text):
    assert "width=33 is not divisible by heads=2" in train(capfd, tmp_path, text, "--model.width", "33")


def test_an_unknown_field_and_the_nearest_right_one(capfd, tmp_path, text):
    line = train(capfd, tmp_path, text, "--model.widht", "32")
    assert "unknown option --model.widht, did you mean '--model.width'?" in line


@pytest.mark.parametrize(("field", "value"), [("--model.width", "wide"), ("--steps", "1.5"), ("--model.norm", "batch")])
def test_an_ill_typed_field(capfd, tmp_path, text, field, value):
    line = train(capfd, tmp_path, text, field, value)
    assert field in line
    assert value in line


def test_an_output_folder_of_something_else(capfd, tmp_path, text):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("x")
    assert "holds thesis.tex but no config.json" in train(capfd, tmp_path, text)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("experiments/none.py:x", "there is no file experiments/none.py"),
        (str(TARGETS), "is not FILE.py:NAME"),
        (f"{TARGETS}:smal", "has no smal, did you mean 'small'?"),
    ],
)
def test_a_wrong_target(capfd, tmp_path, target, message):
    assert message in mistake(capfd, "train", target, "--out", tmp_path / "run")


def test_a_path_through_a_file(capfd, tmp_path, text):
    assert "text.txt" in mistake(capfd, "train", SMALL, "--data", text, "--out", text / "x")
    line = mistake(capfd, "train", SMALL, "--data", text, "--out", tmp_path / "run", "--cache", text / "y")
    assert "text.txt" in line
    assert "Not a directory" in line


def test_a_seed_that_no_key_can_be_made_of(capfd, tmp_path, text, trained):
    assert "is not in [0, 2**32)" in train(capfd, tmp_path, text, "--seed", "99999999999999999999")
    assert "is not in [0, 2**32)" in mistake(capfd, "sample", trained, "--prompt", "x", "--seed", 2**70)


def test_a_mended_command_may_use_the_folder_of_the_wrong_one(capfd, tmp_path, text):
    assert "nowhere.txt" in train(capfd, tmp_path, tmp_path / "nowhere.txt")
    assert "warmup_steps=5 is not below steps=5" in train(capfd, tmp_path, text, "--steps", "5")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    assert "nothing.txt" in train(capfd, tmp_path, tmp_path / "nothing.txt", "--seed", "2")


def test_numbers_and_checkpoints_that_are_not_there(capfd, text, trained):
    score = ("score", trained, "--data", text, "--cache", text.parent / "cache")
    assert "stride=0 is not in 1..context=16" in mistake(capfd, *score, "--stride", "0")
    assert "one sample at least" in mistake(capfd, "sample", trained, "--prompt", "x", "--samples", "0")
    assert "no such checkpoint; there are 15, 20" in mistake(capfd, "eval", trained / "checkpoints" / "999")


def test_a_damaged_file_of_the_run_folder(capfd, text, trained):
    again = ("train", SMALL, "--data", text, "--out", trained, "--steps", "20", "--cache", text.parent / "cache")
    for name in ("data.json", "environment.json"):
        before = (trained / name).read_text()
        (trained / name).write_text("{")
        assert f"{name}: is damaged" in mistake_after_notes(capfd, *again)
        (trained / name).write_text(before)


def test_eval_refuses_data_that_changed(capfd, text, trained):
    before = text.read_text()
    text.write_text(before.replace("no more", "no less"))
    try:
        assert "began with data" in mistake_after_notes(capfd, "eval", trained, "--cache", text.parent / "cache")
    finally:
        text.write_text(before)


def test_an_unknown_verb(capfd):
    assert "there is no verb 'trian'" in mistake(capfd, "trian")


def test_folders_that_hold_no_run(capfd, tmp_path, text):
    for verb in (("eval",), ("sample", "--prompt", "x"), ("score", "--data", text)):
        assert "holds no config.json" in mistake(capfd, verb[0], tmp_path, *verb[1:])


def test_a_run_of_another_tokenizer_is_refused_as_init(capfd, tmp_path, text, trained):
    line = train(capfd, tmp_path, text, "--init", trained, "--tokenizer.eos")
    assert "tokenizer" in line


def test_every_verb_explains_itself(capsys):
    for verb in VERBS:
        with pytest.raises(SystemExit) as end:
            run_verb([verb, "--help"])
        assert end.value.code == 0
        assert str(VERBS[verb][1].__doc__).split(":")[0] in capsys.readouterr().out.replace("\n", " ")


def test_help_of_a_target_shows_every_field_with_its_meaning(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        run_verb(["train", SMALL, "--help"])
    text = capsys.readouterr().out
    for field in ("--steps", "--model.width", "--optimizer.learning-rate", "--data.packing", "--mesh.fsdp", "--init"):
        assert field in text
    assert "Width of the residual stream." in text
    assert "(default: 16)" in text


def test_a_run_folder_holds_what_the_house_says(trained):
    run = config.load(trained / "config.json")
    assert run.steps == 20
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    needed = {"step", "loss_nats", "tokens", "grad_norm", "learning_rate", "step_seconds"}
    assert needed <= rows[0].keys()
    judged = [row for row in rows if "split" in row]
    assert {"step", "split", "nats_per_token", "bits_per_byte", "perplexity"} <= judged[-1].keys()
    assert json.loads((trained / "environment.json").read_text())["starts"][0]["jax"]
    assert "<html" in (trained / "report.html").read_text()
    assert (trained / "checkpoints" / "20" / "SHA256SUMS").exists()


def result(capfd, *argv) -> dict:
    capfd.readouterr()
    assert run_verb([str(word) for word in argv]) == 0
    return json.loads(capfd.readouterr().out)


def test_eval_judges_all_of_a_file(capfd, text, trained):
    found = result(capfd, "eval", trained, "--data", text, "--json", "--cache", text.parent / "cache")
    assert found["tokens"] == found["bytes"] == len(text.read_bytes())
    assert {"nats_per_token", "perplexity", "bits_per_byte", "stride"} <= found.keys()


def test_eval_without_data_gives_what_training_logged(capfd, text, trained):
    found = result(capfd, "eval", trained, "--json", "--cache", text.parent / "cache")
    logged = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()][-1]
    assert {name: logged[name] for name in found} == found
    assert (found["tokens"], found["stride"]) == (500, 16)


def test_the_same_seed_gives_the_same_sample(capfd, trained):
    arguments = ("sample", trained, "--prompt", "line 3", "--max-tokens", "40", "--seed", "5", "--json")
    first, second = result(capfd, *arguments), result(capfd, *arguments)
    assert first == second
    assert first["samples"][0]["tokens"] == 40
    assert result(capfd, *arguments[:-2], "6", "--json") != first


def test_score_gives_every_token_its_bits(capfd, text, trained):
    found = result(capfd, "score", trained, "--data", text, "--json", "--cache", text.parent / "cache")
    assert "".join(token["text"] for token in found["tokens"]) == text.read_text()
    bits = sum(token["bits"] for token in found["tokens"])
    judged = result(capfd, "eval", trained, "--data", text, "--json", "--cache", text.parent / "cache")
    assert bits / judged["bytes"] == pytest.approx(judged["bits_per_byte"], rel=1e-5)
