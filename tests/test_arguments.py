"""Claims about how a command line is read."""

import importlib

import pytest
from runs import TARGETS

from gptjax import arguments, config
from gptjax.config import ConfigError
from gptjax.verbs.training import train

SMALL = f"{TARGETS}:small"


def test_a_target_that_is_not_python_is_one_line(tmp_path):
    (tmp_path / "wrong.py").write_text("x = 1\ndef y(:\n")
    with pytest.raises(ConfigError, match=r"wrong\.py:2: invalid syntax"):
        arguments.target(f"{tmp_path}/wrong.py:y")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((f"{TARGETS}:smal",), "has no smal, did you mean 'small'?"),
        (("--init", "no.py:x", SMALL), "there is no file no.py"),
        (("small",), "target 'small': name it first"),
    ],
)
def test_a_target_behind_options_is_the_one_that_is_trained_or_refused(tmp_path, words, message):
    with pytest.raises(ConfigError) as refused:
        train(["--out", str(tmp_path / "run"), *words])
    assert message in str(refused.value)


def test_a_target_named_like_a_library_does_not_replace_it(tmp_path):
    (tmp_path / "datasets.py").write_text(
        "from dataclasses import dataclass\nfrom gptjax.models.gpt import GPT\n"
        "@dataclass(frozen=True)\nclass Own(GPT):\n    more: int = 1\n"
    )
    own = arguments.load_file(tmp_path / "datasets.py").Own()
    assert config.from_json(config.to_json(own)) == own
    assert importlib.import_module("datasets").__file__ != str(tmp_path / "datasets.py")


@pytest.mark.parametrize(
    ("words", "again"),
    [
        (("--data", "a", "--data", "b"), "--data"),
        (("--steps", "3", "--steps=4"), "--steps"),
        (("--model.mlp-width", "3", "--model.mlp_width", "4"), "--model.mlp-width"),
        (("--tokenizer.eos", "--tokenizer.no-eos"), "--tokenizer.no-eos"),
    ],
)
def test_an_option_given_twice_is_refused(tmp_path, words, again):
    with pytest.raises(ConfigError, match=f"{again} is given twice"):
        train([SMALL, "--out", str(tmp_path / "run"), *words])
    assert arguments.repeated([SMALL, "--data", "a", "b", "--steps", "3"]) is None


def test_a_target_that_must_be_given_something_is_refused(tmp_path):
    path = tmp_path / "needs.py"
    path.write_text("def run(folder, *, rate):\n    pass\n\n\ndef other(x=1):\n    pass\n")
    with pytest.raises(ConfigError, match=r"run needs arguments \(folder, rate\)"):
        arguments.configuration(f"{path}:run")
    with pytest.raises(ConfigError, match=r"it has other$"):
        arguments.configuration(f"{path}:rum")
