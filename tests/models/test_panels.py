"""A matrix in panels is the matrix."""

import jax.numpy as jnp
import numpy as np
import pytest

from gptjax.models import panels


@pytest.mark.parametrize("rows", [1, panels.FEW_ROWS, panels.FEW_ROWS + 1])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_product_with_panels_is_the_product(rows, dtype):
    random = np.random.default_rng(rows)
    x_MD, kernel_DF = (jnp.asarray(random.standard_normal(shape), dtype) for shape in ((rows, 10), (10, 192)))
    ((name, panels_JDP),) = panels.cut({"kernel": kernel_DF}).items()
    assert (name, panels_JDP.shape) == ("panels", (3, 10, 64))
    found_MF = panels.product(x_MD, panels_JDP, jnp.float32)
    assert found_MF.dtype == jnp.float32
    exact_MF = np.asarray(x_MD, np.float64) @ np.asarray(kernel_DF, np.float64)
    np.testing.assert_allclose(found_MF, exact_MF, rtol=1e-5, atol=1e-5)


def test_only_kernels_that_fill_panels_are_cut():
    taken = {"up": {"kernel": np.ones((3, 128)), "bias": np.ones(128)}, "down": {"kernel": np.ones((128, 3))}}
    cut = panels.cut(taken)
    assert cut["up"].keys() == {"panels", "bias"}
    assert cut["down"]["kernel"] is taken["down"]["kernel"]
