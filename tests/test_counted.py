"""Claims about models that are counted: judged, sampled, scored and kept as trained ones are."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from gptjax import arguments, config, counted, trained
from gptjax.cli import run_verb
from gptjax.config import ConfigError, Corpus, Data
from gptjax.counted import Counting
from gptjax.data.errors import DataError
from gptjax.data.tokenizers import Characters
from gptjax.infer.sample import Decoding
from gptjax.judging import judge, scored
from gptjax.models import ngram
from gptjax.report import page
from gptjax.train import log

TEXT = "the cat sat on the mat. the dog sat on the log. a cat and a dog sat. " * 20


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture
def run(corpus, tmp_path):
    folder = tmp_path / "run"
    counted.count(counting(corpus), folder, tmp_path / "cache")
    return folder


def counting(corpus, **fields):
    return Counting(Characters(eos=False), order=4, data=Data(corpora=(Corpus(str(corpus)),)), **fields)


def test_a_counted_run_is_judged_by_every_token_of_its_held_out_text(run, tmp_path):
    found = judge.held_out(run, None, None, tmp_path / "cache", print)
    cut = len(TEXT) - round(len(TEXT) * 0.1)
    alphabet = sorted(set(TEXT))
    ids = np.array([alphabet.index(c) for c in TEXT])
    model = ngram.fit(ids[:cut], 4, len(alphabet))
    expected = -ngram.log_probability(model, ids[cut:])
    assert found["tokens"] == found["bytes"] == len(TEXT) - cut
    assert found["nats_per_token"] == pytest.approx(expected.mean(), rel=1e-6)
    assert found["bits_per_byte"] == pytest.approx(expected.mean() / math.log(2), rel=1e-6)


def test_the_sum_of_the_surprisals_is_what_the_text_costs(run, corpus, tmp_path):
    found = scored.read(run, str(corpus), None, tmp_path / "cache", print)
    assert "".join(found.pieces()) == TEXT
    assert sum(found.bits()) * math.log(2) / len(TEXT) == pytest.approx(found.summary["nats_per_token"], rel=1e-6)


def test_the_same_seed_continues_a_prompt_with_the_same_text(run):
    texts = [judge.continued(run, ["the "] * 2, 30, Decoding(), seed, print)["samples"] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert texts[0][0]["text"] != texts[0][1]["text"]
    [greedy] = judge.continued(run, ["the c"], 6, Decoding(0.0), 0, print)["samples"]
    assert greedy["text"].startswith("at ")


def test_counting_again_finds_the_same_and_another_order_is_refused(run, corpus, tmp_path):
    files = [run / name for name in ("metrics.jsonl", counted.COUNTS, "counts.json", "config.json")]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]
    assert counted.count(counting(corpus), run, tmp_path / "cache") == json.loads(before[0][0])
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in files] == before
    # Killed before its last file, it is counted again to the same bytes.
    (run / "metrics.jsonl").write_text('{"step": 1, "spl')
    counted.count(counting(corpus), run, tmp_path / "cache")
    assert (run / counted.COUNTS).read_bytes() == before[1][0]
    assert [row["step"] for row in log.rows(run / "metrics.jsonl")] == [1]
    with pytest.raises(ValueError, match="order: 4 -> 3"):
        counted.count(replace(counting(corpus), order=3), run, tmp_path / "cache")


def test_windows_are_refused_where_there_are_none(run, tmp_path):
    with pytest.raises(ConfigError, match="--stride 3: a counted model reads the text as a whole"):
        judge.held_out(run, None, 3, tmp_path / "cache", print)


def test_damaged_counts_are_refused(run):
    path = run / counted.COUNTS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="is missing or damaged"):
        counted.load(run)


def test_a_counted_run_is_no_start_for_training_and_has_a_report(run, tmp_path):
    with pytest.raises(ConfigError, match="is a Counting, which has no trained parameters"):
        trained.recall(run)
    page.write([run], tmp_path / "report.html")
    shown = (tmp_path / "report.html").read_text()
    assert "kneser_ney" in shown
    assert "updates" not in shown


def test_a_target_may_be_counted(corpus, tmp_path, capsys):
    experiment = tmp_path / "rows.py"
    experiment.write_text(
        "from gptjax.counted import Counting\nfrom gptjax.data.tokenizers import Bytes\n"
        "def grams():\n    return Counting(Bytes(eos=False), order=2)\n"
    )
    assert isinstance(arguments.configuration(f"{experiment}:grams"), Counting)
    words = ["train", f"{experiment}:grams", "--data", str(corpus), "--order", "3", "--cache", str(tmp_path / "cache")]
    assert run_verb([*words, "--out", str(tmp_path / "counted")]) == 0
    assert config.read(tmp_path / "counted" / "config.json").order == 3
    assert run_verb(["plan", f"{experiment}:grams", "--topology", "cpu:1"]) == 2
    assert "is counted and has no updates" in capsys.readouterr().err
