"""Claims about the compiled program of packed documents, for this machine and for machines that are not here."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("optimised")

PROGRAM = Path(__file__).with_name("compile_program.py")
NEEDS = {"cpu": (), "v5e": ("libtpu",), "h200": ("jax_plugins.xla_cuda13", "nvidia.cu13")}


def present(package):
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize(("machine", "kernels"), [("cpu", [0, 0]), ("v5e", [2, 3]), ("h200", [3, 3])])
def test_packed_documents_build_no_square_of_scores_on_any_machine(machine, kernels):
    if missing := [package for package in NEEDS[machine] if not present(package)]:
        pytest.skip(f"compiling for {machine} needs {', '.join(missing)}")
    run = subprocess.run([sys.executable, str(PROGRAM), machine], capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    cases = json.loads(run.stdout.splitlines()[-1])
    assert [case["kernels"] for case in cases] == kernels
    for case in cases:
        assert case["elements"] < case["tokens"] ** 2 / 3, case
