"""Claims about the experiments that ship with the project."""

import inspect
from pathlib import Path

import pytest

from gptjax import arguments, config
from gptjax.config import Data

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def targets(file: str) -> list[str]:
    module = arguments.load_file(EXPERIMENTS / file)
    found = [name for name, value in vars(module).items() if inspect.isfunction(value) and not name.startswith("_")]
    return [f"{EXPERIMENTS / file}:{name}" for name in found if getattr(module, name).__module__ == module.__name__]


@pytest.mark.parametrize("name", targets("pretrain.py") + targets("finetune.py"), ids=lambda name: name.split(":")[1])
def test_every_target_is_a_run_that_survives_json(name):
    run = arguments.target(name)
    assert config.from_json(config.to_json(run)) == run


@pytest.mark.parametrize(
    ("name", "vocab_size", "parameters"),
    [
        ("gpt1", 40_478, 116_534_784),
        ("gpt2_124m", 50_257, 124_439_808),
        ("llama_7b", 32_000, 6_738_415_616),
    ],
)
def test_published_sizes(name, vocab_size, parameters):
    assert arguments.target(f"{EXPERIMENTS / 'pretrain.py'}:{name}").model.parameter_count(vocab_size) == parameters


def test_shakespeare_keeps_to_nanogpts_budget():
    run = arguments.target(f"{EXPERIMENTS / 'pretrain.py'}:shakespeare_char")
    assert run.model.parameter_count(65) <= 810_000
    assert (run.steps, run.batch_rows, run.model.context) == (2000, 12, 64)


def test_documented_functions_are_found_and_none_is_known_from_training(tmp_path):
    module = 'def f{0}(x):\n    """Say what number {1} is."""\n    y = x + {0}\n    return y\n'
    for i in range(60):
        (tmp_path / f"m{i}.py").write_text(module.format(i, i % 40))
    docstrings = arguments.load_file(EXPERIMENTS / "docstrings.py")
    found = docstrings.examples(Data(corpora=(config.Corpus(str(tmp_path)),), split="document"))
    assert found["train"][0]["prompt"].endswith('return y\n"""')
    assert "Say what" not in found["train"][0]["prompt"]
    assert found["train"][0]["completion"].startswith("Say what number")
    known = {pair["completion"] for pair in found["train"]}
    assert found["validation"]
    assert not known & {pair["completion"] for pair in found["validation"]}
