"""Claims about kernels on a mesh: the layout changes nothing but the place where rows and heads are computed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("optimised")

PROGRAM = Path(__file__).with_name("spread_program.py")


@pytest.fixture(scope="module")
def found():
    """What the program printed."""
    environment = os.environ | {
        "PYTHONPATH": str(PROGRAM.parents[2]),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    run = subprocess.run([sys.executable, str(PROGRAM)], env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("case", "part"),
    [
        ("pallas, rows and heads", [2, 24, 2, 64]),
        ("splash, rows and heads", [2, 24, 2, 64]),
        ("splash, one key head", [4, 24, 1, 64]),
        ("pallas, odd rows", [3, 24, 2, 64]),
        ("blockwise, rows and heads", [2, 24, 2, 64]),
        ("blockwise, odd rows", [3, 24, 2, 64]),
        ("blockwise, heads that do not split", [8, 24, 4, 64]),
    ],
)
def test_a_kernel_on_a_mesh_equals_the_dense_form_on_one_device_and_is_split(found, case, part):
    difference, shape = found[case]
    assert difference < 2e-6
    assert shape == part


def test_a_model_on_a_mesh_equals_the_model_on_one_device(found):
    assert found["model"] < 2e-5
    assert found["model, rows in turn"] < 2e-5


def test_a_mesh_that_the_place_does_not_know_is_refused_where_the_compiler_cannot_split(found):
    assert found["unknown mesh, plain"] < 2e-6
    assert "place=sharding.place(mesh)" in found["unknown mesh"]
