"""Claims about the experiments that ship with the project."""

import inspect
from pathlib import Path

import jax
import numpy as np
import pytest

from gptjax import arguments, config
from gptjax.config import Data
from gptjax.train.state import path_of

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def targets(file: str) -> list[str]:
    module = arguments.load_file(EXPERIMENTS / file)
    found = [name for name, value in vars(module).items() if inspect.isfunction(value) and not name.startswith("_")]
    return [f"{EXPERIMENTS / file}:{name}" for name in found if getattr(module, name).__module__ == module.__name__]


FILES = ("pretrain.py", "finetune.py", "lineage_rows.py", "wikitext.py")


TARGETS = [name for file in FILES for name in targets(file)]


@pytest.mark.parametrize("name", TARGETS, ids=lambda name: name.rpartition("/")[2])
def test_every_target_is_a_run_that_survives_json(name):
    run = arguments.configuration(name)
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


def test_repetition_is_the_share_of_four_grams_seen_before():
    decoding = arguments.load_file(EXPERIMENTS / "decoding.py")
    assert decoding.repeated(np.array([1, 2, 3, 4, 5, 6, 7])) == 0
    assert decoding.repeated(np.array([1, 2, 3, 4, 1, 2, 3, 4])) == pytest.approx(1 / 5)
    assert decoding.repeated(np.zeros(10, int)) == pytest.approx(6 / 7)


def test_rows_of_the_lineage_are_of_like_size_and_start_from_the_same_weights_where_shapes_agree():
    rows = arguments.load_file(EXPERIMENTS / "lineage.py").ROWS
    runs = {name: row for name, row in rows.items() if isinstance(row, config.Run)}
    sizes = [run.model.parameter_count(65) for run in runs.values()]
    assert max(sizes) < 1.1 * min(sizes)
    seen: dict[tuple, np.ndarray] = {}
    for name, run in runs.items():
        params = run.model.build(65, 65).init(jax.random.key(3))
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            if not np.std(leaf) > 0:
                continue
            # Divided by their scale, which a row may choose: the draws are the same.
            draw, place = leaf / np.std(leaf), (path_of(path), leaf.shape)
            np.testing.assert_allclose(draw, seen.setdefault(place, draw), atol=1e-5, err_msg=f"{name} {place}")
    assert len(seen) > 30
