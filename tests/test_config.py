"""Claims about configurations."""

import dataclasses
import json

import pytest

from gptjax import config
from gptjax.config import Config, ConfigError, Corpus, Data, Evaluation, Mesh, Run
from gptjax.data.tokenizers import Bytes
from gptjax.models.gpt import GPT
from gptjax.objectives.causal import Causal
from gptjax.train.optim import AdamW, Muon
from gptjax.train.schedules import Cosine


def run(**fields):
    base = {"model": GPT(layers=1), "tokenizer": Bytes(), "objective": Causal(), "optimizer": AdamW()}
    return Run(**{**base, "schedule": Cosine(), **fields})


def test_a_config_survives_json_unchanged(tmp_path):
    original = run(data=Data(corpora=(Corpus("a.txt", 2), Corpus("b.txt"))), ema_decay=0.99, optimizer=Muon())
    path = tmp_path / "config.json"
    config.save(original, path)
    assert config.load(path) == original
    assert config.from_json(json.loads(json.dumps(config.to_json(original)))) == original


def test_every_field_but_the_mesh_changes_the_fingerprint():
    base = run()
    assert config.fingerprint(dataclasses.replace(base, mesh=Mesh(data=4, fsdp=2))) == config.fingerprint(base)
    for change in ({"seed": 1}, {"model": GPT(layers=2)}, {"optimizer": Muon()}, {"init": "runs/x"}):
        assert config.fingerprint(dataclasses.replace(base, **change)) != config.fingerprint(base)


def test_an_edited_config_is_refused(tmp_path):
    path = tmp_path / "config.json"
    config.save(run(), path)
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(ConfigError, match="hash does not fit"):
        config.load(path)


def test_a_folder_from_before_a_way_to_be_placed_is_still_read(tmp_path):
    path, original = tmp_path / "config.json", run()
    config.save(original, path)
    older = json.loads(path.read_text())
    del older["run"]["mesh"]["gather"]
    path.write_text(json.dumps(older))
    assert config.load(path) == original


def test_unknown_and_missing_fields_are_refused_by_name():
    value = config.to_json(GPT())
    with pytest.raises(ConfigError, match="unknown field 'widht', did you mean 'width'"):
        config.from_json({**value, "widht": 3})
    del value["width"]
    with pytest.raises(ConfigError, match="field 'width' of GPT is missing"):
        config.from_json(value)


def test_a_file_cannot_name_a_class_that_is_no_configuration():
    for name in ("os.system", "gptjax.config.fingerprint", "subprocess.Popen", "gptjax.nothing.At"):
        with pytest.raises(ConfigError, match="is not a configuration class"):
            config.from_json({"type": name})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GPT(width=33, heads=4), "width=33 is not divisible by heads=4"),
        (lambda: GPT(width="64"), "width='64' is not int"),
        (lambda: GPT(norm="batch"), "norm='batch' is not one of 'layer', 'rms'"),
        (lambda: GPT(layers=True), "layers=True is not int"),
        (lambda: Data(corpora=()), "corpora is empty"),
        (lambda: Data(validation_fraction=1.0), r"validation_fraction=1.0 is not in \[0, 1\)"),
        (lambda: run(steps=0), "steps=0 must be positive"),
        (lambda: run(batch_rows=10, accumulation=4), "batch_rows=10 is not divisible by accumulation=4"),
        (lambda: Corpus(weight=-1.0), "weight=-1.0 must be positive"),
        (lambda: Corpus(weight=float("inf")), "weight=inf is not a finite number"),
        (lambda: AdamW(learning_rate=float("nan")), "learning_rate=nan is not a finite number"),
        (lambda: Evaluation(max_tokens=-5), "max_tokens=-5 must be positive"),
        (lambda: run(seed=2**32), r"seed=4294967296 is not in \[0, 2\*\*32\)"),
        (lambda: run(steps=10, schedule=Cosine(warmup_steps=10)), "warmup_steps=10 is not below steps=10"),
    ],
)
def test_a_config_fails_at_birth(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_whole_number_is_welcome_where_a_float_is_meant():
    assert Corpus(weight=2).weight == 2.0
    assert config.canonical(Corpus(weight=2)) == config.canonical(Corpus(weight=2.0))


def test_configs_are_hashable():
    assert len({run(), run(), run(seed=1)}) == 2
    assert issubclass(Run, Config)
