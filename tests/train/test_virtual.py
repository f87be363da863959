"""Claims about a CPU as two devices: who gets them, who does not, and that nothing else changes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = Path(__file__).with_name("virtual_program.py")


def trained(folder, text, *words, **settings):
    """What the program prints, in a process that has been told nothing of devices but `settings`."""
    told = {"PYTHONPATH": str(PROGRAM.parents[2]), "JAX_PLATFORMS": "cpu"}
    plain = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    command = [sys.executable, str(PROGRAM), str(folder), str(text), *words]
    done = subprocess.run(command, env=plain | told | settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def alone(tmp_path_factory, text):
    """On one device, because the user says so."""
    return trained(tmp_path_factory.mktemp("alone"), text, JAX_NUM_CPU_DEVICES="1")


def test_word_vectors_have_two_devices_of_a_cpu_and_learn_what_they_learn_on_one(alone, tmp_path, text):
    found = trained(tmp_path, text)
    assert (found["vectors"]["devices"], found["vectors"]["rows_of_a_device"]) == (2, 0.5)
    assert (alone["vectors"]["devices"], alone["vectors"]["rows_of_a_device"]) == (1, 1.0)
    for what in ("losses", "grad_norms", "moved"):
        np.testing.assert_allclose(found["vectors"][what], alone["vectors"][what], rtol=1e-5)
    assert alone["vectors"]["moved"] > 0
    assert "the CPU is 2 devices" in found["vectors"]["told"][0]
    assert alone["vectors"]["told"] == []
    # What comes after them in the process is as it is without them.
    assert found["gpt"] == alone["gpt"]
    assert found["gpt"]["devices"] == 1


def test_devices_that_were_asked_for_too_early_are_told(alone, tmp_path, text):
    found = trained(tmp_path, text, "late")
    assert found["vectors"]["devices"] == 1
    assert "before the run began" in found["vectors"]["told"][0]
    assert found["vectors"]["losses"] == alone["vectors"]["losses"]
    assert found["gpt"]["told"] == []
