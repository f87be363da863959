import base64
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from gptjax import config
from gptjax.config import ConfigError, Run
from gptjax.data.tokenizers import Bytes
from gptjax.models.gpt import GPT
from gptjax.objectives.causal import Causal
from gptjax.report import page
from gptjax.train.log import MetricsFile
from gptjax.train.optim import AdamW
from gptjax.train.schedules import Constant

MODEL = GPT(layers=2, width=16, heads=2, mlp_width=32, context=8)
RUN = Run(MODEL, Bytes(), Causal(), AdamW(learning_rate=0.001), Constant(), steps=200)
HOSTILE = '</pre><script>alert("x")</script><img src=x onerror=alert(1)> & \ud800'


def begin(folder, run=RUN):
    folder.mkdir(parents=True)
    config.save(run, folder / "config.json")
    return folder


def fill(folder, steps=200, task=False):
    metrics = MetricsFile(folder / "metrics.jsonl")
    for step in range(1, steps + 1):
        loss = float("nan") if step == 30 else 4.0 / step**0.2
        row = {"loss_nats": loss, "tokens": 64.0, "grad_norm": 0.5, "learning_rate": 1e-3, "step_seconds": 0.01}
        metrics.append({"step": step, **row, "tokens_per_second": 6400.0, "mfu": None, "skipped": int(step >= 30)})
        if step % 100 == 0:
            judged = {"loss_nats": 0.5, "accuracy": 0.875} if task else {"nats_per_token": 1.5, "bits_per_byte": 2.164}
            metrics.append({"step": step, "split": "validation", **judged})
    metrics.close()
    return folder


def put(folder, name, value):
    (folder / name).write_text(json.dumps(value))


class Page(HTMLParser):
    """The page's tags with their attributes, and its text."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.words = [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words.append(data)

    def count(self, wanted):
        return sum(tag == wanted for tag, _ in self.tags)


def written(tmp_path, *runs):
    page.write(list(runs), tmp_path / "out" / "report.html")
    return Page(tmp_path / "out" / "report.html")


def test_a_page_tells_the_numbers_curves_tables_samples_and_surprisal_of_a_run(tmp_path):
    run = fill(begin(tmp_path / "tiny"))
    put(
        run, "results.json", [{"title": "Held out", "columns": ["model", "bits"], "rows": [["GPT", 1.5]], "note": "N."}]
    )
    put(run, "samples.json", [{"prompt": "def ", "text": "main():", "decoding": {"temperature": 0.8, "top_k": None}}])
    put(run, "surprisal.json", {"tokens": [{"text": "abra", "bits": 7.25}, {"text": "cadabra", "bits": 0.5}]})
    put(run, "environment.json", {"starts": [{"jax": "0.9.9"}, {"jax": "0.10.2", "command": ["gptjax", "train"]}]})
    found = written(tmp_path, run)
    for text in ("nats per token 1.5000", "bits per byte 2.1640", "200 of 200 updates", "skipped 1", "12,800"):
        assert text in found.text
    for text in ("Held out model bits GPT 1.5000", "N.", "def main():", "temperature 0.8", "abra cadabra"):
        assert text in found.text
    for text in (
        "Loss, nats",
        "Bits per byte",
        "Gradient norm",
        "Learning rate",
        "Tokens per second",
        "model.width 16",
    ):
        assert text in found.text
    assert "starts 2 jax 0.10.2 command gptjax train" in found.text
    assert "top_k" not in found.text
    assert found.count("svg") == 5


def test_what_a_model_or_a_user_wrote_is_text_and_never_markup(tmp_path):
    run = fill(begin(tmp_path / "x<i>'\"y"))
    plain = written(tmp_path, run)
    put(run, "samples.json", [{"prompt": HOSTILE, "text": HOSTILE, "decoding": HOSTILE}])
    put(run, "surprisal.json", {"tokens": [{"text": HOSTILE, "bits": 3.0}]})
    put(run, "results.json", [{"title": HOSTILE, "columns": [HOSTILE], "rows": [[HOSTILE]], "note": HOSTILE}])
    put(run, "environment.json", {"starts": [{HOSTILE: HOSTILE}]})
    lines = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(lines + json.dumps({"step": 200, "split": HOSTILE, HOSTILE: 1.0}) + "\n")
    found = written(tmp_path, run)
    assert found.count("script") == plain.count("script") == 1
    assert found.count("img") == found.count("i") == 0
    assert "alert" not in "".join(str(attributes.keys()) for _, attributes in found.tags)
    assert 'alert("x")' in found.text


def test_pictures_are_images_in_which_no_script_runs(tmp_path):
    run = fill(begin(tmp_path / "tiny"))
    plain = written(tmp_path, run)
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><text>né</text></svg>'
    (run / "pictures").mkdir()
    (run / "pictures" / "word_map.svg").write_text(svg, encoding="utf-8")
    found = written(tmp_path, run)
    assert found.count("script") == plain.count("script")
    [source] = [attributes["src"] for tag, attributes in found.tags if tag == "img"]
    kind, _, content = source.partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(content).decode() == svg
    assert "word map" in found.text


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    found = written(tmp_path, fill(begin(tmp_path / "tiny")))
    assert not re.search(r"https?://|@import|url\(", found.source)
    assert not any({"src", "href", "srcset"} & set(attributes) for _, attributes in found.tags)


def test_runs_of_different_kinds_stand_on_one_page_with_their_differences(tmp_path):
    wide = replace(RUN, model=replace(MODEL, width=32))
    runs = fill(begin(tmp_path / "plain")), fill(begin(tmp_path / "task", wide), task=True)
    found = written(tmp_path, *runs)
    assert "2 runs" in found.text
    assert "plain 1.5000 2.1640 – – task – – 0.8750 0.5000" in found.text
    assert "Differences field plain task model.width 16 32 How it was made" in found.text


def test_fields_are_named_by_their_path_and_choices_by_their_class(tmp_path):
    found = written(tmp_path, begin(tmp_path / "tiny"))
    assert "field tiny model GPT model.layers 2" in found.text
    assert "data.corpora[0].source stdlib" in found.text
    assert "data Data" not in found.text


def test_equal_runs_and_a_run_named_twice_have_no_differences(tmp_path):
    run = fill(begin(tmp_path / "a" / "run"))
    found = written(tmp_path, run, run, fill(begin(tmp_path / "b" / "run")))
    assert "The runs have the same configuration." in found.text
    assert str(tmp_path / "b" / "run") in found.text


def test_a_run_that_has_not_logged_anything_has_a_page(tmp_path):
    found = written(tmp_path, begin(tmp_path / "young"))
    assert "progress 0 of 200 updates" in found.text
    assert found.count("svg") == 0
    for absent in ("Curves", "Results", "Samples", "Surprise", "Environment", "Differences"):
        assert absent not in found.text


def test_a_run_in_progress_has_a_page_although_its_last_row_is_torn(tmp_path):
    run = fill(begin(tmp_path / "young"), steps=3)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss')
    found = written(tmp_path, run)
    assert "progress 3 of 200 updates" in found.text
    assert found.count("svg") > 0


def test_numbers_that_were_never_finite_break_nothing(tmp_path):
    run = begin(tmp_path / "broken")
    metrics = MetricsFile(run / "metrics.jsonl")
    values = {"loss_nats": math.nan, "grad_norm": math.inf, "tokens": 0.0, "step_seconds": 0.01, "learning_rate": 0.0}
    metrics.append({"step": 1, **values, "skipped": 1, "tokens_per_second": 0.0})
    metrics.append({"step": 1, "split": "validation", "nats_per_token": 1e3, "perplexity": math.inf})
    metrics.close()
    found = written(tmp_path, run)
    assert "train loss –" in found.text
    assert "skipped 1" in found.text


def test_the_best_judgement_is_named_where_it_is_not_the_last(tmp_path):
    run = begin(tmp_path / "overfitted")
    metrics = MetricsFile(run / "metrics.jsonl")
    for step, nats in ((100, 2.0), (1200, 1.5), (1300, 1.75)):
        metrics.append({"step": step, "split": "validation", "nats_per_token": nats})
    metrics.close()
    assert "nats per token 1.7500 best 1.5000 at step 1,200" in written(tmp_path, run).text


def test_the_model_is_counted_where_its_tokenizer_is_there(tmp_path):
    run = begin(tmp_path / "tiny")
    RUN.tokenizer.build(lambda: iter(["abc"])).save(run / "tokenizer")
    expected = MODEL.parameter_count(257)
    assert f"parameters {expected:,}" in written(tmp_path, run).text


@pytest.mark.parametrize("name", ["results.json", "environment.json"])
def test_a_file_that_is_not_json_is_one_clear_line(tmp_path, name):
    run = begin(tmp_path / "tiny")
    (run / name).write_text("{")
    with pytest.raises(ConfigError, match=rf"^[^\n]*{name}: is not JSON \([^\n]+\); mend or remove it$"):
        written(tmp_path, run)


def test_a_folder_that_is_no_run_or_a_page_that_is_a_folder_is_one_clear_line(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no config\.json; name a run folder"):
        page.write([tmp_path], tmp_path / "report.html")
    with pytest.raises(ConfigError, match="is a folder; name a file"):
        page.write([begin(tmp_path / "tiny")], tmp_path)
    with pytest.raises(ConfigError, match="names no run"):
        page.write([], tmp_path / "report.html")


def test_numbers_of_a_column_have_the_same_decimals():
    table = {"columns": ["model", "bits", "count", "share"], "rows": [["a", 8.0, 1234, None], ["b", 2.04, 5, 12.5]]}
    assert page._cells(table) == [
        [("model", False), ("bits", True), ("count", True), ("share", True)],
        [("a", False), ("8.0000", True), ("1,234", True), ("–", True)],
        [("b", False), ("2.0400", True), ("5", True), ("12.50", True)],
    ]
