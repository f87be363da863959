"""Who writes text reads it token by token with prepared parameters, and whole prompts with those that it was given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.infer.beam import Beam, continuations
from gptjax.infer.sample import Decoding, generate
from gptjax.models.gpt import GPT

MODEL = GPT(layers=1, width=8, heads=2, mlp_width=8, context=8).build(5, 5)
PROMPTS = [np.array([1, 2, 3]), np.array([4, 0])]


def written(model, beams, new_tokens):
    params, key = MODEL.init(jax.random.key(0)), jax.random.key(1)
    if beams is None:
        return generate(model, params, PROMPTS, new_tokens, Decoding(), key)
    return continuations(model, params, PROMPTS, new_tokens, Beam(beams))


@pytest.mark.parametrize(("beams", "new_tokens"), [(None, 4), (None, 12), (3, 4)])  # 12 are past the context
def test_what_is_read_token_by_token_is_read_with_parameters_prepared_for_its_rows(beams, new_tokens):
    asked, read = [], []

    def prepare(params, rows):
        asked.append(rows)
        return params | {"prepared": jnp.zeros(())}

    def extend(params, inputs_BT, *rest):
        read.append((inputs_BT.shape[1] == 1, "prepared" in params))
        return MODEL.extend(params, inputs_BT, *rest)

    found = written(MODEL._replace(prepare=prepare, extend=extend), beams, new_tokens)
    assert asked == [2 * (beams or 1)]
    assert set(read) == {(True, True), (False, False)}
    expected = written(MODEL, beams, new_tokens)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
