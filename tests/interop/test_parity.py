"""Claims about computing what transformers computes: from files that it saved, and where it is installed, live."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from gptjax import arguments
from gptjax.interop import folder as folders
from gptjax.models.bidirectional import next_sentence

GOLDEN = Path(__file__).parent / "golden"
PARITY = Path(__file__).parents[2] / "experiments/bench/parity.py"


@pytest.mark.parametrize("name", ["openai-gpt", "gpt2", "bert", "llama"])
def test_logits_equal_those_that_transformers_computed(name):
    read = folders.read(GOLDEN / name)
    expected = json.loads((GOLDEN / name / "expected.json").read_text())
    model = read.model.build(read.vocab_size, read.vocab_size)
    ids_BT = np.array(expected["ids"], np.int32)
    types = {"types_BT": np.array(expected["types"], np.int32)} if "types" in expected else {}
    features_BTD = jax.jit(model.features)(read.params, ids_BT, **types)
    logits_BTV = model.head(read.params, features_BTD)
    np.testing.assert_allclose(logits_BTV, expected["logits"], rtol=0, atol=1e-5)
    if types:
        np.testing.assert_allclose(
            next_sentence(read.params, features_BTD), expected["next_sentence"], rtol=0, atol=1e-5
        )


def test_every_family_computes_the_same_in_transformers_itself():
    pytest.importorskip("transformers", reason="transformers and torch are not installed; golden files stand for them")
    rows = list(arguments.load_file(PARITY).measured())
    assert len(rows) == 24
    assert [row for row in rows if not row["good"]] == []
